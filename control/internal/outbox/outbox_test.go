// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"fmt"
	"slices"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

func TestAMessageIsForOneGatewayAndAThousandAgents(t *testing.T) {
	offer := fleet.Dispatch{Tenant: "t", Gateway: "near", Kind: fleet.DispatchConfig, Version: fleet.VersionRef{Offer: fleet.OfferHash{1}}}
	others := slices.Repeat([]fleet.Dispatch{offer}, 5)
	others[0].Gateway = "far"
	others[1].Tenant = "u"
	others[2].Kind = fleet.DispatchFullState
	others[3].Version.Offer = fleet.OfferHash{2}
	others[4].Kind, others[4].Reason = fleet.DispatchClose, fleet.RefusedQuarantined
	var due []fleet.Dispatch
	for n := range 2*targetLimit + 1 {
		due = append(due, offer)
		due[len(due)-1].Agent = fleet.AgentID(fmt.Sprint(n))
		if n < len(others) {
			due = append(due, others[n])
		}
	}
	var sizes []int
	seen := map[fleet.AgentID]bool{}
	for _, batch := range grouped(due) {
		sizes = append(sizes, len(batch))
		for _, d := range batch {
			if d.Gateway != batch[0].Gateway || d.Tenant != batch[0].Tenant || d.Kind != batch[0].Kind || d.Version != batch[0].Version || d.Reason != batch[0].Reason {
				t.Fatalf("%+v and %+v share a message", d, batch[0])
			}
			seen[d.Agent] = true
		}
	}
	if want := []int{targetLimit, 1, 1, 1, 1, 1, targetLimit, 1}; !slices.Equal(sizes, want) || len(seen) != 2*targetLimit+2 {
		t.Errorf("batches of %v, want %v; %d agents", sizes, want, len(seen))
	}
}

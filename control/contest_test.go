// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
)

// TestASessionIsTakenOverFromAnotherGateway: the holder is asked for a sign of life first and told when it lost; who comes
// with the epoch of a session that is over takes nothing.
func TestASessionIsTakenOverFromAnotherGateway(t *testing.T) {
	onBackends(t, func(t *testing.T, db store.Store) {
		b := newBus(t)
		c := newCrowd(t, start(t, db, b, newMasterKey()), b, 1)
		a := c.only()
		for _, other := range []string{"h", "i"} {
			if _, err := c.control.Register(t.Context(), &internalv1.RegisterRequest{GatewayId: other, BootId: 1}); err != nil {
				t.Fatal(err)
			}
		}
		claim := proto.CloneOf(a.claimed)
		claim.Takeover = internalv1.Takeover_TAKEOVER_UNSPECIFIED
		held := c.claimAt("h", claim)
		if held.GetOutcome() != internalv1.ClaimOutcome_CLAIM_OUTCOME_HELD || held.GetHolderGatewayId() != "g" || held.GetHolderEpoch() != a.epoch {
			t.Fatalf("the claim of another gateway: %v", held)
		}
		c.told("asked for a sign of life", func() bool { return a.pinged == 1 && a.closed == 0 })
		claim.Takeover, claim.HolderEpoch = internalv1.Takeover_TAKEOVER_RESTART, held.GetHolderEpoch()
		if took := c.claimAt("h", claim); took.GetOutcome() != internalv1.ClaimOutcome_CLAIM_OUTCOME_CLAIMED || took.GetEpoch() != a.epoch+1 {
			t.Fatalf("the takeover: %v", took)
		}
		c.told("told of the end", func() bool { return a.closed == 1 })
		if late := c.claimAt("i", claim); late.GetOutcome() != internalv1.ClaimOutcome_CLAIM_OUTCOME_HELD || late.GetHolderGatewayId() != "h" {
			t.Errorf("a takeover of the session that is over: %v", late)
		}
	})
}

// claimAt claims at another gateway, in its first boot.
func (c *crowd) claimAt(gateway string, claim *internalv1.Claim) *internalv1.ClaimResult {
	c.t.Helper()
	got, err := c.control.ClaimSessions(c.t.Context(), &internalv1.ClaimSessionsRequest{GatewayId: gateway, BootId: 1, Claims: []*internalv1.Claim{claim}})
	if err != nil {
		c.t.Fatal(err)
	}
	return got.GetResults()[0]
}

// told waits until the gateway of an agent was told something.
func (c *crowd) told(what string, holds func() bool) {
	c.t.Helper()
	eventually(c.t, "the gateway is "+what, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !holds() {
			return errors.New("it is not")
		}
		return nil
	})
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import (
	"strconv"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Drifted is told when an agent drifts or does no more. Nothing is told of one of which nothing was known, unless it
// drifts.
func Drifted(on fleet.DriftLook, now fleet.Drift, at time.Time) (e fleet.Event, told bool) {
	drifts, drifted := now.State == fleet.DriftDrifted, on.Was == fleet.DriftDrifted
	if drifts == drifted {
		return fleet.Event{}, false
	}
	e = fleet.Event{
		Tenant: on.Tenant, Agent: on.Agent, At: at, Kind: fleet.EventDriftChanged, Message: "runs what was assigned",
		Attributes: map[string]string{"state": string(now.State), "was": string(on.Was)},
	}
	switch {
	case drifts:
		e.Message = "runs something else than was assigned"
		e.Attributes["changes"] = strconv.Itoa(now.Changes)
	case now.State != fleet.DriftInSync:
		e.Message = "it is not known any more whether it runs what was assigned"
	}
	return e, true
}

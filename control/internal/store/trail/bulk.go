// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import (
	"maps"
	"slices"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Acted is the one entry of what was done to many agents. It names every one of them, and those that were left alone by
// why.
func Acted(a fleet.Act, outcome fleet.ActOutcome) Entry {
	after := Fields{"agents": outcome.Done}
	if len(outcome.Skipped) > 0 {
		after["skipped"] = outcome.Skipped
	}
	maps.Copy(after, details(a, outcome.Done))
	entry := Entry{Action: string(a.Kind), EntityKind: "agent", After: after}
	if len(outcome.Done) == 1 {
		entry.EntityID = string(outcome.Done[0])
	}
	return entry
}

// details are what an act's kind adds.
func details(a fleet.Act, done []fleet.AgentID) Fields {
	switch a.Kind {
	case fleet.ActTag:
		return Fields{"set": a.Tags.Set, "removed": a.Tags.Remove}
	case fleet.ActMove:
		return Fields{"group": a.To}
	case fleet.ActPush:
		return Fields{"reason": a.Why}
	case fleet.ActRestart:
		return Fields{"reason": a.Why}
	case fleet.ActDrain:
		return Fields{"reason": a.Why, "over": (a.Over + time.Duration(len(done))*a.Each).String()}
	default:
		return nil
	}
}

// Tagged is the event of one agent whose tags are others.
func Tagged(by fleet.By, agent fleet.AgentID, c fleet.TagChange) fleet.Event {
	var set []string
	for _, key := range slices.Sorted(maps.Keys(c.Set)) {
		set = append(set, key+"="+c.Set[key])
	}
	return fleet.Event{
		Tenant: by.Tenant, At: by.At, Kind: fleet.EventTagsChanged, Agent: agent, Message: "an operator changed its tags",
		Attributes: map[string]string{"set": strings.Join(set, " "), "removed": strings.Join(c.Remove, " ")},
	}
}

// Restarted is the event of a restart command that was written to its agent, or was not.
func Restarted(d *fleet.DeliveryReport) fleet.Event {
	e := fleet.Event{
		Tenant: d.Tenant, At: d.At, Kind: fleet.EventRestartSent, Agent: d.Agent, Message: "was asked to restart",
		Attributes: map[string]string{"gateway": string(d.Gateway)},
	}
	if d.Outcome != fleet.Delivered {
		e.Kind, e.Message = fleet.EventRestartRefused, "was not asked to restart: it does not accept the command, or its gateway may not send it"
	}
	return e
}

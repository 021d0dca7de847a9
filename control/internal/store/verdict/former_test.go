// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// What was on its way when the session moved still counts, as far as the move went on from it; and what does not count
// any more is asked for again.
func TestReportsOfTheFormerSession(t *testing.T) {
	for name, c := range map[string]struct {
		from     fleet.Stamp
		gateway  fleet.GatewayID
		boot     uint64
		applied  bool
		asked    bool
		recorded fleet.Stamp // of the part, before
	}{
		"on its way":                {from: fleet.Stamp{Epoch: 4, Sequence: 8}, gateway: "old", boot: 1, applied: true},
		"the last of them":          {from: fleet.Stamp{Epoch: 4, Sequence: 9}, gateway: "old", boot: 1, applied: true},
		"after the move":            {from: fleet.Stamp{Epoch: 4, Sequence: 10}, gateway: "old", boot: 1, asked: true},
		"of another gateway":        {from: fleet.Stamp{Epoch: 4, Sequence: 8}, gateway: "other", boot: 1, asked: true},
		"of another boot":           {from: fleet.Stamp{Epoch: 4, Sequence: 8}, gateway: "old", boot: 2, asked: true},
		"of a session before it":    {from: fleet.Stamp{Epoch: 3, Sequence: 8}, gateway: "old", boot: 1, asked: true},
		"of a session to come":      {from: fleet.Stamp{Epoch: 6, Sequence: 1}, gateway: "new", boot: 1},
		"older than what is known":  {from: fleet.Stamp{Epoch: 3, Sequence: 8}, gateway: "old", boot: 1, recorded: fleet.Stamp{Epoch: 5, Sequence: 1}},
		"of the session itself":     {from: fleet.Stamp{Epoch: 5, Sequence: 1}, gateway: "new", boot: 1, applied: true},
		"of a gateway that shares":  {from: fleet.Stamp{Epoch: 5, Sequence: 1}, gateway: "second", boot: 3, applied: true},
		"of one that shared before": {from: fleet.Stamp{Epoch: 5, Sequence: 1}, gateway: "second", boot: 2},
	} {
		agent := &verdict.Agent{
			ID: self, Epoch: 5, Gateway: "new", BootID: 1, LastSequence: 0, StateKnown: true,
			Former: fleet.Heard{Gateway: "old", BootID: 1, Epoch: 4, Sequence: 9},
			Seats:  []verdict.Server{{Gateway: "second", BootID: 3}},
			Parts:  map[fleet.PartKind]verdict.Mark{fleet.PartHealth: {Stamp: c.recorded, Digest: "before"}},
		}
		report := &fleet.Report{
			Tenant: "acme", Agent: self, Gateway: c.gateway, BootID: c.boot, Stamp: c.from, At: now, InDoubt: true,
			Parts: []fleet.Part{{Kind: fleet.PartHealth, Value: []byte("{}"), Digest: "after"}},
		}
		parted, _ := verdict.ByTenant([]fleet.Uplink{{Report: report}}, nil)
		_, counts := parted[0].Judge(map[fleet.AgentID]*verdict.Agent{self: agent}, nil)
		if (counts.Applied == 1) != c.applied || agent.Write.FullState != c.asked {
			t.Errorf("%s: %+v, asked %v", name, counts, agent.Write.FullState)
		}
		if part, written := agent.Write.Parts[fleet.PartHealth]; written != c.applied || written && part.Stamp != c.from {
			t.Errorf("%s: written under %+v: %v", name, part.Stamp, written)
		}
		if former := c.from.Epoch < agent.Epoch; former && (agent.LastSequence != 0 || !agent.StateKnown) {
			t.Errorf("%s: it moves the session itself: %d, %v", name, agent.LastSequence, agent.StateKnown)
		}
	}
}

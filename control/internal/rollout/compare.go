// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// SampleLimit is how many agents a delta shows.
const SampleLimit = 20

// Compare says how a plan that is drawn now differs from the one that was shown. Each agent counts once, for the gravest:
// whether it is taken, then its wave, then its class. What is otherwise of the definition the caller knows.
func Compare(was fleet.RolloutPlan, before []fleet.Member, is fleet.RolloutPlan, after []fleet.Member) fleet.PlanDelta {
	d := fleet.PlanDelta{Of: len(before)}
	if was.Digest != "" && was.Digest == is.Digest {
		return d
	}
	old := make(map[fleet.AgentID]fleet.Member, len(before))
	for _, m := range before {
		old[m.Agent] = m
	}
	show := func(agent fleet.AgentID, n *int, words string, args ...any) {
		*n++
		if len(d.Sample) < SampleLimit {
			d.Sample = append(d.Sample, fleet.PlanChange{Agent: agent, Words: fmt.Sprintf(words, args...)})
		}
	}
	for _, m := range after {
		o, known := old[m.Agent]
		delete(old, m.Agent)
		switch {
		case !known:
			show(m.Agent, &d.Joined, "joined the group")
		case skips(m) && !skips(o):
			show(m.Agent, &d.Turned, "is skipped now: %s", m.Reason)
		case skips(o) && !skips(m):
			show(m.Agent, &d.Turned, "is not skipped any more: %s", o.Reason)
		case o.Wave != m.Wave:
			show(m.Agent, &d.Moved, "moved from wave %d to wave %d", o.Wave, m.Wave)
		case o.Change != m.Change || o.Target != m.Target:
			show(m.Agent, &d.Reclassed, "its change is %s now, it was %s", m.Change, o.Change)
		}
	}
	for _, m := range before { // in their order
		if _, left := old[m.Agent]; left {
			show(m.Agent, &d.Left, "left the group")
		}
	}
	return d
}

func skips(m fleet.Member) bool { return m.State == fleet.MemberSkipped }

// Stale says that the older plan is not what would run: its definition holds no more, or more than so many percent of its
// agents are otherwise. Who joined was not planned, and waits or is added.
func Stale(d fleet.PlanDelta, tolerance float64) bool {
	changed := d.Left + d.Moved + d.Reclassed + d.Turned
	return len(d.Definition) > 0 || above(changed, d.Of, tolerance)
}

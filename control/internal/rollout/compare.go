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
	for _, m := range after {
		if o, known := old[m.Agent]; known {
			count, words := differs(&d, o, m)
			show(&d, m.Agent, count, words)
		} else {
			show(&d, m.Agent, &d.Joined, "joined the group")
		}
		delete(old, m.Agent)
	}
	for _, m := range before { // in their order
		if _, left := old[m.Agent]; left {
			show(&d, m.Agent, &d.Left, "left the group")
		}
	}
	return d
}

// differs says what of an agent is otherwise, and as what it counts; nil: nothing.
func differs(d *fleet.PlanDelta, was, is fleet.Member) (count *int, words string) {
	switch {
	case skips(is) && !skips(was):
		return &d.Turned, "is skipped now: " + is.Reason
	case skips(was) && !skips(is):
		return &d.Turned, "is not skipped any more: " + was.Reason
	case was.Wave != is.Wave:
		return &d.Moved, fmt.Sprintf("moved from wave %d to wave %d", was.Wave, is.Wave)
	case was.Target != is.Target:
		return &d.Reclassed, "had something else before"
	case was.Change != is.Change:
		return &d.Reclassed, fmt.Sprintf("its change is %s now, it was %s", is.Change, was.Change)
	default:
		return nil, ""
	}
}

func show(d *fleet.PlanDelta, agent fleet.AgentID, count *int, words string) {
	if count == nil {
		return
	}
	*count++
	if len(d.Sample) < SampleLimit {
		d.Sample = append(d.Sample, fleet.PlanChange{Agent: agent, Words: words})
	}
}

func skips(m fleet.Member) bool { return m.State == fleet.MemberSkipped }

// Stale says that the older plan is not what would run: its definition holds no more, or more than so many percent of its
// agents are otherwise. Who joined was not planned, and waits or is added.
func Stale(d fleet.PlanDelta, tolerance float64) bool {
	changed := d.Left + d.Moved + d.Reclassed + d.Turned
	return len(d.Definition) > 0 || above(changed, d.Of, tolerance)
}

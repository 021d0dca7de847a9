// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// OfDrift are the verdicts on what is still so, versions being those of the rows now, and what there is to tell of them.
func OfDrift(found []store.DriftVerdict, versions map[fleet.AgentID]int64, at time.Time) (todo []store.DriftVerdict, events []fleet.Event) {
	for _, f := range found {
		if version, there := versions[f.On.Agent]; !there || version != f.On.Version {
			continue
		}
		todo = append(todo, f)
		if e, told := trail.Drifted(f.On, f.Drift, at); told {
			events = append(events, e)
		}
	}
	return todo, events
}

// Turned are the agents of which the verdict is another than before.
func Turned(found []store.DriftVerdict) (agents []fleet.AgentID) {
	for _, f := range found {
		if f.On.Was != f.Drift.State {
			agents = append(agents, f.On.Agent)
		}
	}
	return agents
}

// Settles says whether a step of the engine may have changed what an agent says it runs of what it shall.
func Settles(s fleet.Step) bool { return s.Grant != nil && s.Grant.State != fleet.GrantOpen }

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// constraints is what calendars and budgets mean to rollouts.
var constraints = suite{
	"a rollout is decided for with the schedules of its group":        constrainedBySchedules,
	"a rollout is decided for with what its next agents count for":    constrainedByBudgets,
	"agents that a rollout disturbs count until it is done with them": rolloutDisturbs,
	"a restart and a rollout share a budget":                          restartBesideRollout,
	"a changed calendar lets rollouts in progress look again":         calendarWakes,
}

// constrained is a rollout in progress of one wave of agents, which were let in by nobody yet.
type constrained struct {
	*world
	fleet.Rollout
	agents []fleet.AgentID
}

func (w *world) constrained(agents ...fleet.AgentID) *constrained {
	w.Helper()
	group, v := w.group("edge"), w.version("a: 1\n")
	_, err := w.AddGroupMembers(w.Context(), w.by(), group.ID, agents, len(agents))
	w.must(err)
	r := fleet.Rollout{
		Tenant: w.tenant, ID: newID[fleet.RolloutID](), Kind: fleet.RolloutForward,
		Definition: fleet.RolloutDefinition{
			Group: group.ID, Config: v.Config, Version: v.Version, Strategy: fleet.Strategy{Kind: fleet.StrategyImmediate},
			Advance: fleet.AdvanceAutomatic, Gates: fleet.DefaultGates(), Late: fleet.LateFreeze, Deadline: fleet.DefaultDeadline,
		},
		Plan: fleet.RolloutPlan{Waves: []fleet.PlanWave{{Agents: len(agents)}}, Agents: len(agents)},
	}
	var members []fleet.Member
	for i, id := range agents {
		members = append(members, fleet.Member{Rollout: r.ID, Agent: id, Wave: 1, Position: i + 1, State: fleet.MemberPending, Change: fleet.ChangeNew, Revision: 1})
	}
	made, err := w.CreateRollout(w.Context(), w.by(), r, members)
	w.must(err)
	started, err := w.StartRollout(w.Context(), w.by(), store.RolloutStart{Rollout: made.ID, Version: made.Version})
	w.must(err)
	c := &constrained{w, started, agents}
	c.advance(func(s fleet.RolloutSnapshot) fleet.RolloutStep {
		next := s.Rollout
		next.Wave, next.WaveOpenedAt = 1, w.now
		return fleet.RolloutStep{Rollout: &next}
	})
	return c
}

// advance decides for the rollout if it is due, and says whether it was.
func (c *constrained) advance(decide func(fleet.RolloutSnapshot) fleet.RolloutStep) (due bool) {
	c.Helper()
	_, err := c.AdvanceRollouts(c.Context(), c.now, 10, store.Deciding{
		Elapse: func(m fleet.Member, _ fleet.RolloutDefinition, _ time.Time) fleet.Member { return m },
		Decide: func(s fleet.RolloutSnapshot, _ time.Time) fleet.RolloutStep {
			if s.Rollout.ID != c.ID {
				return fleet.RolloutStep{}
			}
			due = true
			return decide(s)
		},
	})
	c.must(err)
	return due
}

// sees is what is known when something is decided for the rollout, which is made due by an operator.
func (c *constrained) sees() (seen fleet.RolloutSnapshot) {
	c.Helper()
	_, err := c.Steer(c.Context(), c.by(), c.ID, "rollout.extend", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) {
		seen = s
		return fleet.RolloutStep{}, nil
	})
	c.must(err)
	return seen
}

// admit lets agents in.
func (c *constrained) admit(agents ...fleet.AgentID) {
	c.Helper()
	_, err := c.Steer(c.Context(), c.by(), c.ID, "rollout.advance", func(fleet.RolloutSnapshot) (fleet.RolloutStep, error) {
		return fleet.RolloutStep{Admit: agents, DeadlineAt: c.now.Add(c.Definition.Deadline)}, nil
	})
	c.must(err)
}

func constrainedBySchedules(w *world) {
	c := w.constrained(w.enrolled(1)...)
	all := w.putSchedule(w.newSchedule("all"))
	its := w.putSchedule(w.newSchedule("its", c.Definition.Group, w.group("more").ID))
	w.putSchedule(w.newSchedule("others", w.group("other").ID))
	w.in("theirs").putSchedule(w.in("theirs").newSchedule("theirs"))
	wantSame(w, c.sees().Schedules, []fleet.Schedule{all, its})
}

func constrainedByBudgets(w *world) {
	agents := w.enrolled(3)
	w.act(tagging(map[string]string{"zone": "a", "site": "s"}, nil, agents[0]))
	w.act(tagging(map[string]string{"zone": "b"}, nil, agents[1]))
	c := w.constrained(agents...)
	if seen := c.sees(); len(seen.Budgets) != 0 || len(seen.Next) != len(agents) || len(seen.Next[0].Budgets) != 0 {
		w.Errorf("without budgets it sees %+v", seen)
	}
	zones, sites := w.budget("zones", "zone", 2), w.budget("sites", "site", 1)
	seen := c.sees()
	for i, want := range [][]fleet.BudgetKey{
		{{Budget: sites.ID, Value: "s"}, {Budget: zones.ID, Value: "a"}}, {{Budget: zones.ID, Value: "b"}}, nil,
	} {
		if got := seen.Next[i]; got.Agent != agents[i] || !slices.Equal(got.Budgets, want) {
			w.Errorf("the agent at %d is %+v, want %+v", i, got, want)
		}
	}
	for _, want := range []fleet.BudgetUse{use(zones, "a", 0), use(zones, "b", 0), use(sites, "s", 0)} {
		if !slices.Contains(seen.Budgets, want) {
			w.Errorf("it sees %+v, want %+v", seen.Budgets, want)
		}
	}
}

func rolloutDisturbs(w *world) {
	zones := w.budget("zones", "zone", 2)
	agents := w.enrolled(3)
	w.act(tagging(map[string]string{"zone": "a"}, nil, agents...))
	c := w.constrained(agents...)
	w.wantUses()
	c.admit(agents[0], agents[2])
	w.wantUses(use(zones, "a", 2))
	if seen := c.sees(); len(seen.Next) != 1 || !slices.Contains(seen.Budgets, use(zones, "a", 2)) {
		w.Errorf("it sees %+v", seen)
	}
	for _, item := range w.work() {
		on := w.situation(item)
		if on.Agent != agents[0] || on.Member == nil {
			continue
		}
		m := *on.Member
		m.State, m.PushedAt = fleet.MemberPushed, w.now
		w.must(w.do(item, on, fleet.Step{Member: &m}))
	}
	_, err := w.Steer(w.Context(), w.by(), c.ID, "rollout.abort", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) {
		next := s.Rollout
		next.State, next.EndedAt = fleet.RolloutAborted, w.now
		return fleet.RolloutStep{Rollout: &next, Close: true}, nil
	})
	w.must(err)
	w.wantUses(use(zones, "a", 1)) // one may be in the middle of it, the other was never reached
	w.pass(c.Definition.Deadline)
	w.wantUses()
}

func restartBesideRollout(w *world) {
	zones := w.budget("zones", "zone", 2)
	agents := w.restartables(map[string]string{"zone": "a"}, 3)
	c := w.constrained(agents...)
	c.admit(agents[0])
	w.act(restarting(agents[1]))
	if outcome := w.act(restarting(agents...)); !slices.Equal(outcome.Done, agents[:2]) || !slices.Equal(outcome.Skipped[fleet.SkipBudget], agents[2:]) {
		w.Errorf("done to %v, skipped %v", outcome.Done, outcome.Skipped) // who is disturbed already may be disturbed again
	}
	seen := c.sees()
	if !slices.Contains(seen.Budgets, use(zones, "a", 2)) || len(seen.Next) != 2 {
		w.Fatalf("it sees %+v", seen)
	}
	if len(seen.Next[0].Budgets) != 0 || len(seen.Next[1].Budgets) != 1 {
		w.Errorf("who restarts counts twice: %+v", seen.Next)
	}
}

func calendarWakes(w *world) {
	c := w.constrained(w.enrolled(1)...)
	rest := func(fleet.RolloutSnapshot) fleet.RolloutStep { return fleet.RolloutStep{} }
	for c.advance(rest) {
		w.pass(time.Millisecond)
	}
	w.in("theirs").budget("theirs", "zone", 1)
	if c.advance(rest) {
		w.Error("a budget of another tenant lets it look")
	}
	s, b := w.newSchedule("nights"), fleet.Budget{}
	for _, change := range []func(){
		func() { s = w.putSchedule(s) }, func() { w.must(w.DeleteSchedule(w.Context(), w.by(), s.ID)) },
		func() { b = w.budget("zones", "zone", 1) }, func() { w.must(w.DeleteBudget(w.Context(), w.by(), b.ID)) },
	} {
		w.pass(time.Second)
		change()
		if !c.advance(rest) || c.advance(rest) {
			w.Error("it does not look once")
		}
	}
}

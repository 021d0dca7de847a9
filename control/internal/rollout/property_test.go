// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
)

// world is a rollout, its members, and whatever may happen to them, in any order.
type world struct {
	now     time.Time
	rollout fleet.Rollout
	members []fleet.Member
	site    map[fleet.AgentID]string
	most    int // of the budget for each site
	closed  bool
	wake    time.Time
}

var sites = []string{"berlin", "oslo", "rome"}

func newWorld(t *rapid.T) *world {
	w := &world{now: start, site: map[fleet.AgentID]string{}, most: rapid.IntRange(1, 8).Draw(t, "most")}
	list := candidates(rapid.IntRange(0, 60).Draw(t, "agents"), func(i int, c *fleet.RolloutCandidate) {
		w.site[c.Agent] = sites[i%len(sites)]
		c.Own = i%7 == 3
	})
	def := definition(func(d *fleet.RolloutDefinition) {
		d.Strategy = rapid.SampledFrom([]fleet.Strategy{
			d.Strategy,
			{Kind: fleet.StrategyImmediate},
			{Kind: fleet.StrategyBatch, Size: 7},
			{Kind: fleet.StrategyPercentage, Steps: fleet.DefaultSteps(fleet.StrategyPercentage), Dwell: time.Minute},
		}).Draw(t, "strategy")
		d.RollBack = rapid.Bool().Draw(t, "roll back")
	})
	if err := rollout.Check(def); err != nil {
		t.Fatal(err)
	}
	plan, members := rollout.Draw(fleet.RolloutForward, def, list, start)
	w.members = members
	w.rollout = fleet.Rollout{Kind: fleet.RolloutForward, Definition: def, Plan: plan, State: fleet.RolloutInProgress, StartedAt: start}
	return w
}

func (w *world) snapshot() fleet.RolloutSnapshot {
	s := fleet.RolloutSnapshot{Rollout: w.rollout, Calendar: fleet.Calendar{Closed: w.closed, Words: "closed"}}
	for _, m := range w.members {
		switch {
		case m.Wave == 0:
		case m.Wave > w.rollout.Wave:
			s.Rest++
		default:
			s.SoFar = s.SoFar.Plus(fleet.Tally(m))
			if m.Wave == w.rollout.Wave {
				s.Wave = s.Wave.Plus(fleet.Tally(m))
			}
			if m.State == fleet.MemberPending {
				s.Next = append(s.Next, fleet.NextCandidate{Agent: m.Agent, Budgets: []fleet.BudgetKey{{Budget: "b", Value: w.site[m.Agent]}}})
			}
			if !m.LookAt.IsZero() && (s.LookAt.IsZero() || m.LookAt.Before(s.LookAt)) {
				s.LookAt = m.LookAt
			}
		}
	}
	for _, site := range sites {
		s.Budgets = append(s.Budgets, fleet.BudgetUse{BudgetKey: fleet.BudgetKey{Budget: "b", Value: site}, Name: "sites", Used: w.disturbed(site), Most: w.most})
	}
	return s
}

func (w *world) disturbed(site string) (n int) {
	for _, m := range w.members {
		if w.site[m.Agent] == site && m.Disturbed() {
			n++
		}
	}
	return n
}

// crossed is what the gates are to say, written down once more, in whole numbers: the defaults, less what was accepted.
func (w *world) crossed() bool {
	s := w.snapshot()
	ofWave := s.Wave
	if w.rollout.Accepted.Wave == w.rollout.Wave {
		ofWave = ofWave.Minus(w.rollout.Accepted.OfWave)
	}
	soFar := s.SoFar.Minus(w.rollout.Accepted.SoFar)
	for _, g := range []struct{ wave, total, percent int }{
		{ofWave.Failed, soFar.Failed, 20}, {ofWave.Gone, soFar.Gone, 20}, {ofWave.Mismatch, soFar.Mismatch, 20}, {ofWave.Unhealthy, soFar.Unhealthy, 10},
	} {
		small := s.Wave.Agents < 5 && g.wave > 0
		wave := s.Wave.Agents >= 5 && g.wave*100 > g.percent*s.Wave.Agents
		total := s.SoFar.Touched >= 20 && g.total*100 > 5*s.SoFar.Touched
		if small || wave || total {
			return true
		}
	}
	return false
}

// decide advances the rollout as often as it asks for at once.
func (w *world) decide(t *rapid.T) {
	for i := range w.members {
		w.members[i] = rollout.Elapse(w.members[i], w.rollout.Definition, w.now)
	}
	for range 100 {
		crossed := w.crossed()
		step := rollout.Decide(w.snapshot(), w.now)
		if crossed && (len(step.Admit) > 0 || step.Rollout != nil && step.Rollout.Wave != w.rollout.Wave) {
			t.Fatalf("a gate is crossed, and it goes on: %+v", step)
		}
		if crossed && w.rollout.State == fleet.RolloutInProgress && !step.Close {
			t.Fatalf("a gate is crossed, and it does not stop: %+v", w.snapshot())
		}
		if !crossed && step.Close {
			t.Fatalf("it stops, and no gate is crossed: %s", step.Rollout.Reason)
		}
		if len(step.Admit) > 0 && (w.closed || w.rollout.State != fleet.RolloutInProgress) {
			t.Fatalf("%d are let in, and the rollout is %s, the calendar closed: %v", len(step.Admit), w.rollout.State, w.closed)
		}
		w.take(t, step)
		if w.wake = step.WakeAt; w.wake.IsZero() || w.wake.After(w.now) {
			return
		}
	}
	t.Fatalf("it wants to be looked at again and again: %s", w.rollout.Reason)
}

func (w *world) take(t *rapid.T, step fleet.RolloutStep) {
	if step.Rollout != nil {
		if from, to := w.rollout.State, step.Rollout.State; from != to && !slices.Contains(fleet.RolloutTransitions[from], to) {
			t.Fatalf("it goes from %s to %s", from, to)
		}
		w.rollout = *step.Rollout
	}
	for _, agent := range step.Admit {
		i := slices.IndexFunc(w.members, func(m fleet.Member) bool { return m.Agent == agent })
		if i < 0 || w.members[i].State != fleet.MemberPending || w.members[i].Wave > w.rollout.Wave {
			t.Fatalf("%s is let in, which is not to be", agent)
		}
		m := &w.members[i]
		m.State, m.AdmittedAt, m.DeadlineAt = fleet.MemberAdmitted, w.now, step.DeadlineAt
		if n := w.disturbed(w.site[agent]); n > w.most {
			t.Fatalf("%d are disturbed in %s, and %d may be", n, w.site[agent], w.most)
		}
		*m = rollout.Elapse(*m, w.rollout.Definition, w.now)
	}
	for i, m := range w.members {
		if step.Close && m.State == fleet.MemberAdmitted {
			w.members[i].State, w.members[i].AdmittedAt, w.members[i].DeadlineAt, w.members[i].LookAt = fleet.MemberPending, time.Time{}, time.Time{}, time.Time{}
		}
	}
}

// push writes to an agent that was let in.
func (w *world) push(m *fleet.Member) {
	if m.State == fleet.MemberAdmitted {
		m.State, m.PushedAt = fleet.MemberPushed, w.now
	}
}

// answer is an agent's last word.
func (w *world) answer(m *fleet.Member, state fleet.MemberState) {
	if m.Touched() && m.State != fleet.MemberAdmitted {
		m.State, m.SettledAt, m.Gone = state, w.now, false
	}
}

func (w *world) any(t *rapid.T, do func(*fleet.Member)) {
	if len(w.members) == 0 {
		return
	}
	m := &w.members[rapid.IntRange(0, len(w.members)-1).Draw(t, "member")]
	do(m)
	*m = rollout.Elapse(*m, w.rollout.Definition, w.now)
}

func (w *world) act(t *rapid.T, of func(fleet.RolloutSnapshot) (fleet.RolloutStep, error)) {
	if step, err := of(w.snapshot()); err == nil {
		w.take(t, step)
	}
}

// TestSafety: whatever happens in whatever order, never are more agents let in than wave and budgets allow, none that the
// plan has not, and none after a breach; and what is over stays over.
func TestSafety(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"push":   func(t *rapid.T) { w.any(t, w.push) },
			"apply":  func(t *rapid.T) { w.any(t, func(m *fleet.Member) { w.answer(m, fleet.MemberApplied) }) },
			"fail":   func(t *rapid.T) { w.any(t, func(m *fleet.Member) { w.answer(m, fleet.MemberFailed) }) },
			"health": func(t *rapid.T) { w.any(t, func(m *fleet.Member) { m.Unhealthy = m.Touched() && !m.Unhealthy }) },
			"drift": func(t *rapid.T) {
				w.any(t, func(m *fleet.Member) { m.Mismatch = m.State == fleet.MemberApplied && !m.Mismatch })
			},
			"leave": func(t *rapid.T) {
				w.any(t, func(m *fleet.Member) {
					if m.State == fleet.MemberPushed {
						m.State, m.Gone = fleet.MemberDisconnected, true
					}
				})
			},
			"wait": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 1200).Draw(t, "seconds")) * time.Second)
			},
			"calendar": func(t *rapid.T) { w.closed = rapid.Bool().Draw(t, "closed") },
			"budget":   func(t *rapid.T) { w.most = rapid.IntRange(1, 8).Draw(t, "most") },
			"pause": func(t *rapid.T) {
				w.act(t, func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) { return rollout.Pause(s, "", w.now) })
			},
			"resume": func(t *rapid.T) {
				accept := rapid.Bool().Draw(t, "accept")
				w.act(t, func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) { return rollout.Resume(s, accept, w.now) })
			},
			"advance": func(t *rapid.T) {
				w.act(t, func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) { return rollout.Advance(s, w.now) })
			},
			"abort": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") == 0 {
					w.act(t, func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) { return rollout.Abort(s, "", w.now) })
				}
			},
			"": func(t *rapid.T) { w.decide(t) },
		})
	})
}

// TestLiveness: with agents that answer and are well, or are not there at all, every rollout ends by itself.
func TestLiveness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		silent := map[fleet.AgentID]bool{}
		for _, m := range w.members {
			silent[m.Agent] = rapid.IntRange(0, 9).Draw(t, "silent") == 0
		}
		for range 12_000 { // a budget that is full is looked at every five seconds
			w.decide(t)
			if w.rollout.State == fleet.RolloutCompleted {
				w.ended(t, silent)
				return
			}
			said := false
			for i := range w.members {
				m := &w.members[i]
				switch {
				case silent[m.Agent]:
					continue
				case m.State == fleet.MemberAdmitted:
					w.push(m)
				case m.State == fleet.MemberPushed:
					w.answer(m, fleet.MemberApplied)
				default:
					continue
				}
				said = true
			}
			switch {
			case said:
				w.now = w.now.Add(time.Second)
			case w.wake.IsZero():
				t.Fatalf("nothing is to happen any more: %s, %+v", w.rollout.Reason, w.snapshot().SoFar)
			default:
				w.now = w.wake
			}
		}
		t.Fatalf("it does not end: %s, %+v", w.rollout.Reason, w.snapshot().SoFar)
	})
}

func (w *world) ended(t *rapid.T, silent map[fleet.AgentID]bool) {
	for _, m := range w.members {
		switch {
		case m.State == fleet.MemberSkipped:
		case silent[m.Agent] && (m.State != fleet.MemberAdmitted || !m.Overdue), !silent[m.Agent] && !m.Succeeded():
			t.Fatalf("it is completed, and %s is %s: %+v", m.Agent, m.State, m)
		}
	}
}

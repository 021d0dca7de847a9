// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func definition(edit ...func(*fleet.RolloutDefinition)) fleet.RolloutDefinition {
	def := fleet.RolloutDefinition{
		Group: "g", GroupName: "prod", Config: "c", ConfigName: "edge", Version: 3,
		Strategy: fleet.Strategy{Kind: fleet.StrategyCanary, Steps: fleet.DefaultSteps(fleet.StrategyCanary)}, Advance: fleet.AdvanceAutomatic,
		Order: fleet.Order{Kind: fleet.OrderRandom, Seed: 1}, Gates: fleet.DefaultGates(), Late: fleet.LateFreeze, Deadline: fleet.DefaultDeadline,
	}
	for _, e := range edit {
		e(&def)
	}
	return def
}

// snapshot is of a rollout of two waves of ten agents, of which the first is open and filled since the start.
func snapshot(edit ...func(*fleet.RolloutSnapshot)) fleet.RolloutSnapshot {
	s := fleet.RolloutSnapshot{
		Rollout: fleet.Rollout{
			Tenant: "t", ID: "r", Kind: fleet.RolloutForward, State: fleet.RolloutInProgress, Wave: 1, WaveOpenedAt: start, FilledAt: start,
			Definition: definition(func(d *fleet.RolloutDefinition) {
				d.Strategy = fleet.Strategy{Kind: fleet.StrategyBatch, Size: 10, Dwell: 20 * time.Minute}
			}),
			Plan: fleet.RolloutPlan{Agents: 20, Waves: []fleet.PlanWave{{Agents: 10}, {Agents: 10}}},
		},
		Wave: fleet.Counts{Agents: 10, Touched: 10, Applied: 10, Succeeded: 10},
		Rest: 10,
	}
	for _, e := range edit {
		e(&s)
	}
	if s.SoFar == (fleet.Counts{}) {
		s.SoFar = s.Wave
	}
	return s
}

func counts(c fleet.Counts) func(*fleet.RolloutSnapshot) {
	return func(s *fleet.RolloutSnapshot) { s.Wave = c }
}

func next(agents ...fleet.AgentID) func(*fleet.RolloutSnapshot) {
	return func(s *fleet.RolloutSnapshot) {
		s.Rollout.FilledAt = time.Time{}
		s.Wave = fleet.Counts{Agents: len(agents), Pending: len(agents)}
		for _, a := range agents {
			s.Next = append(s.Next, fleet.NextCandidate{Agent: a})
		}
	}
}

func state(state fleet.RolloutState) func(*fleet.RolloutSnapshot) {
	return func(s *fleet.RolloutSnapshot) { s.Rollout.State = state }
}

func second(s *fleet.RolloutSnapshot) { s.Rollout.Wave, s.Rest = 2, 0 }

func manual(s *fleet.RolloutSnapshot) { s.Rollout.Definition.Advance = fleet.AdvanceManual }

func budget(most int, of ...int) func(*fleet.RolloutSnapshot) {
	return func(s *fleet.RolloutSnapshot) {
		k := fleet.BudgetKey{Budget: "b", Value: "berlin"}
		s.Budgets = []fleet.BudgetUse{{BudgetKey: k, Name: "sites", Most: most}}
		for _, i := range of {
			s.Next[i].Budgets = []fleet.BudgetKey{k}
		}
	}
}

func TestDecide(t *testing.T) {
	closed := func(s *fleet.RolloutSnapshot) {
		s.Calendar = fleet.Calendar{Closed: true, Words: "frozen by year-end", Until: start.Add(time.Hour)}
	}
	for _, c := range []struct {
		name   string
		given  fleet.RolloutSnapshot
		after  time.Duration
		state  fleet.RolloutState // "" where the rollout does not change
		wave   int
		admit  string
		events string
		wake   time.Duration // -1: none
		reason string
	}{
		{
			name: "it begins", given: snapshot(func(s *fleet.RolloutSnapshot) { s.Rollout.Wave, s.Wave = 0, fleet.Counts{} }),
			state: fleet.RolloutInProgress, wave: 1, events: "rollout.wave_opened", wake: 0,
		},
		{
			name: "it has nobody", given: snapshot(func(s *fleet.RolloutSnapshot) {
				s.Rollout.Wave, s.Wave, s.Rollout.Plan.Waves = 0, fleet.Counts{}, nil
			}),
			state: fleet.RolloutCompleted, events: "rollout.completed", wake: -1, reason: "0 of 0 succeeded",
		},
		{
			name: "agents are let in", given: snapshot(next("a", "b")), after: time.Second,
			state: fleet.RolloutInProgress, wave: 1, admit: "a b", wake: time.Second + fleet.DefaultDeadline, reason: "wave 1 of 2: waits for agents to answer",
		},
		{
			name: "the calendar is closed", given: snapshot(next("a", "b"), closed),
			state: fleet.RolloutInProgress, wave: 1, events: "rollout.waiting", wake: time.Hour, reason: "frozen by year-end",
		},
		{
			name: "as a budget allows", given: snapshot(next("a", "b", "c"), budget(1, 0, 1)),
			state: fleet.RolloutInProgress, wave: 1, admit: "a c", events: "rollout.waiting", wake: rollout.BudgetLook, reason: `wave 1 of 2: waits for room in budget "sites" for "berlin"`,
		},
		{
			name: "agents are to answer", given: snapshot(counts(fleet.Counts{Agents: 10, Touched: 10, InFlight: 1})), after: time.Hour,
			state: fleet.RolloutInProgress, wave: 1, wake: -1, reason: "wave 1 of 2: waits for agents to answer",
		},
		{
			name: "windows are open", given: snapshot(counts(fleet.Counts{Agents: 10, Touched: 10, Applied: 10, Watched: 1})), after: time.Hour,
			state: fleet.RolloutInProgress, wave: 1, wake: -1, reason: "wave 1 of 2: the gates look at its agents",
		},
		{
			name: "it dwells", given: snapshot(), after: time.Minute,
			state: fleet.RolloutInProgress, wave: 1, wake: 20 * time.Minute, reason: "wave 1 of 2: is looked at until 2026-03-01T12:20:00Z",
		},
		{
			name: "the next wave opens", given: snapshot(), after: 20 * time.Minute,
			state: fleet.RolloutInProgress, wave: 2, events: "rollout.wave_ended rollout.wave_opened", wake: 20 * time.Minute,
		},
		{
			name: "an operator made it dwell longer", given: snapshot(func(s *fleet.RolloutSnapshot) { s.Rollout.Extended = time.Hour }), after: 20 * time.Minute,
			state: fleet.RolloutInProgress, wave: 1, wake: 80 * time.Minute, reason: "wave 1 of 2: is looked at until 2026-03-01T13:20:00Z",
		},
		{
			name: "without a dwell, as long as a disconnect counts", given: snapshot(func(s *fleet.RolloutSnapshot) { s.Rollout.Definition.Strategy.Dwell = 0 }), after: time.Minute,
			state: fleet.RolloutInProgress, wave: 1, wake: 5 * time.Minute, reason: "wave 1 of 2: is looked at until 2026-03-01T12:05:00Z",
		},
		{
			name: "an operator is to open the next wave", given: snapshot(manual), after: 20 * time.Minute,
			state: fleet.RolloutInProgress, wave: 1, events: "rollout.waiting", wake: -1, reason: "wave 1 of 2: has ended and waits for an operator to advance",
		},
		{
			name: "which is told once", given: snapshot(manual, func(s *fleet.RolloutSnapshot) {
				s.Rollout.Reason = "wave 1 of 2: has ended and waits for an operator to advance"
			}), after: time.Hour, wake: -1,
		},
		{
			name: "overdue agents hold up nothing", given: snapshot(second, counts(fleet.Counts{Agents: 10, Touched: 10, Applied: 9, Succeeded: 9, Overdue: 1})), after: time.Hour,
			state: fleet.RolloutCompleted, wave: 2, events: "rollout.wave_ended rollout.completed", wake: -1, reason: "9 of 10 succeeded, 1 have not answered in time",
		},
		{
			name: "a gate is breached, before anybody is let in", given: snapshot(next("a"), counts(fleet.Counts{Agents: 10, Touched: 9, Pending: 1, Failed: 3})), after: time.Minute,
			state: fleet.RolloutPaused, wave: 1, events: "rollout.paused", wake: -1, reason: "apply-failed 3 of 10 (30 % > 20 %) in wave 1",
		},
		{
			name: "it is paused", given: snapshot(state(fleet.RolloutPaused), next("a"), func(s *fleet.RolloutSnapshot) { s.LookAt = start.Add(time.Hour) }), wake: time.Hour,
		},
		{name: "it is over", given: snapshot(state(fleet.RolloutCompleted), next("a")), wake: -1},
		{name: "it rolls back", given: snapshot(state(fleet.RolloutRollingBack), func(s *fleet.RolloutSnapshot) { s.Undoing = fleet.RolloutInProgress }), wake: -1},
		{
			name: "it rolled back", given: snapshot(state(fleet.RolloutRollingBack), func(s *fleet.RolloutSnapshot) { s.Undoing = fleet.RolloutCompleted }),
			state: fleet.RolloutRolledBack, wave: 1, events: "rollout.rolled_back", wake: -1, reason: "those it touched have their former version again",
		},
		{
			name: "its rollback was aborted", given: snapshot(state(fleet.RolloutRollingBack), func(s *fleet.RolloutSnapshot) { s.Undoing = fleet.RolloutAborted }),
			state: fleet.RolloutAborted, wave: 1, events: "rollout.aborted", wake: -1, reason: "the rollback was aborted",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := start.Add(c.after)
			step := rollout.Decide(c.given, now)
			r := fleet.Rollout{}
			if step.Rollout != nil {
				r = *step.Rollout
			}
			check(t, "state", r.State, c.state)
			check(t, "wave", r.Wave, c.wave)
			check(t, "reason", r.Reason, c.reason)
			check(t, "admit", join(step.Admit), c.admit)
			check(t, "events", eventsText(step.Events), c.events)
			check(t, "close", step.Close, c.state == fleet.RolloutPaused)
			want := start.Add(c.wake)
			if c.wake < 0 {
				want = time.Time{}
			}
			check(t, "wake", step.WakeAt, want)
			if step.Rollout != nil {
				guarded(t, c.given.Rollout.State, r.State)
			}
		})
	}
}

// Each gate stops a rollout only above its share, in a small wave by one, over all from so many agents on; and not again
// for what an operator took note of.
func TestGates(t *testing.T) {
	wave := func(c fleet.Counts, of int) fleet.RolloutSnapshot {
		c.Agents, c.Touched = of, of
		return snapshot(counts(c), func(s *fleet.RolloutSnapshot) { s.Rollout.Definition.Gates.SmallTotal = 1_000_000 })
	}
	total := func(c fleet.Counts, of int) fleet.RolloutSnapshot {
		c.Agents, c.Touched = of, of
		return snapshot(counts(fleet.Counts{Agents: 10, Touched: 10}), func(s *fleet.RolloutSnapshot) { s.SoFar = c })
	}
	with := func(s fleet.RolloutSnapshot, edit func(*fleet.RolloutSnapshot)) fleet.RolloutSnapshot {
		edit(&s)
		return s
	}
	took := func(c fleet.Counts, wave int) func(*fleet.RolloutSnapshot) {
		return func(s *fleet.RolloutSnapshot) {
			s.Rollout.Accepted = fleet.Accepted{Wave: wave, OfWave: c, SoFar: c}
		}
	}
	for _, c := range []struct {
		name  string
		given fleet.RolloutSnapshot
		want  string // the reason, empty if it is not stopped
	}{
		{"at the share", wave(fleet.Counts{Failed: 2}, 10), ""},
		{"above it", wave(fleet.Counts{Failed: 12}, 50), "apply-failed 12 of 50 (24 % > 20 %) in wave 1"},
		{"above it by little", wave(fleet.Counts{Failed: 20001}, 100000), "apply-failed 20001 of 100000 (20.001 % > 20 %) in wave 1"},
		{"disconnects", wave(fleet.Counts{Gone: 5}, 10), "disconnect 5 of 10 (50 % > 20 %) within 300 s in wave 1"},
		{"mismatches", wave(fleet.Counts{Mismatch: 3}, 10), "effective-mismatch 3 of 10 (30 % > 20 %) after 600 s in wave 1"},
		{"the unhealthy", wave(fleet.Counts{Unhealthy: 2}, 10), "unhealthy 2 of 10 (20 % > 10 %) after 600 s in wave 1"},
		{"two at once", wave(fleet.Counts{Failed: 3, Gone: 3}, 10), "apply-failed 3 of 10 (30 % > 20 %) in wave 1; disconnect 3 of 10 (30 % > 20 %) within 300 s in wave 1"},
		{"one of few", wave(fleet.Counts{Failed: 1}, 4), "apply-failed 1 of 4 (one is enough of fewer than 5) in wave 1"},
		{"one of not so few", wave(fleet.Counts{Failed: 1}, 5), ""},
		{"none of few", wave(fleet.Counts{}, 1), ""},
		{"so far, at the share", total(fleet.Counts{Failed: 5}, 100), ""},
		{"so far, above it", total(fleet.Counts{Failed: 6}, 100), "apply-failed 6 of 100 (6 % > 5 %) so far"},
		{"so far, of too few to say", total(fleet.Counts{Failed: 6}, 19), ""},
		{"it is off", with(wave(fleet.Counts{Failed: 10}, 10), func(s *fleet.RolloutSnapshot) { s.Rollout.Definition.Gates.ApplyFailed.Off = true }), ""},
		{"it never stops", with(wave(fleet.Counts{Failed: 3}, 3), func(s *fleet.RolloutSnapshot) {
			s.Rollout.Definition.Gates.ApplyFailed = fleet.Gate{Wave: 100, Total: 100}
		}), ""},
		{"at a share with decimals", with(wave(fleet.Counts{Failed: 333}, 1000), func(s *fleet.RolloutSnapshot) { s.Rollout.Definition.Gates.ApplyFailed.Wave = 33.3 }), ""},
		{"accepted", with(wave(fleet.Counts{Failed: 5}, 10), took(fleet.Counts{Failed: 5}, 1)), ""},
		{"accepted, and more", with(wave(fleet.Counts{Failed: 8}, 10), took(fleet.Counts{Failed: 5}, 1)), "apply-failed 3 of 10 (30 % > 20 %) in wave 1"},
		{"accepted in another wave", with(wave(fleet.Counts{Failed: 5}, 10), took(fleet.Counts{Failed: 5}, 2)), "apply-failed 5 of 10 (50 % > 20 %) in wave 1"},
		{"accepted so far", with(total(fleet.Counts{Failed: 6}, 100), took(fleet.Counts{Failed: 4}, 1)), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			step := rollout.Decide(c.given, start)
			got := ""
			if step.Rollout != nil && step.Rollout.State == fleet.RolloutPaused {
				got = step.Rollout.Reason
			}
			check(t, "reason", got, c.want)
			check(t, "close", step.Close, c.want != "")
		})
	}
}

func TestABreachAsksForARollbackIfThatWasSaid(t *testing.T) {
	given := snapshot(counts(fleet.Counts{Agents: 10, Touched: 10, Failed: 10}), func(s *fleet.RolloutSnapshot) { s.Rollout.Definition.RollBack = true })
	step := rollout.Decide(given, start)
	check(t, "asks for a rollback", step.RollBack && step.Rollout.WantsRollback, true)
	given.Rollout.Kind = fleet.RolloutRollback
	step = rollout.Decide(given, start)
	check(t, "a rollback asks for one", step.RollBack || step.Rollout.WantsRollback, false)
}

func TestOperators(t *testing.T) {
	bad := counts(fleet.Counts{Agents: 10, Touched: 10, Failed: 5})
	resume := func(accept bool) func(fleet.RolloutSnapshot, time.Time) (fleet.RolloutStep, error) {
		return func(s fleet.RolloutSnapshot, now time.Time) (fleet.RolloutStep, error) {
			return rollout.Resume(s, accept, now)
		}
	}
	pause := func(s fleet.RolloutSnapshot, now time.Time) (fleet.RolloutStep, error) {
		return rollout.Pause(s, "by eve", now)
	}
	abort := func(s fleet.RolloutSnapshot, now time.Time) (fleet.RolloutStep, error) {
		return rollout.Abort(s, "by eve", now)
	}
	extend := func(by time.Duration) func(fleet.RolloutSnapshot, time.Time) (fleet.RolloutStep, error) {
		return func(s fleet.RolloutSnapshot, now time.Time) (fleet.RolloutStep, error) {
			return rollout.Extend(s, by, now)
		}
	}
	for _, c := range []struct {
		name  string
		act   func(fleet.RolloutSnapshot, time.Time) (fleet.RolloutStep, error)
		given fleet.RolloutSnapshot
		err   error
		state fleet.RolloutState
		close bool
		kind  string
	}{
		{"pause", pause, snapshot(), nil, fleet.RolloutPaused, true, "rollout.paused"},
		{"pause what is paused", pause, snapshot(state(fleet.RolloutPaused)), rollout.ErrState, "", false, ""},
		{"resume", resume(false), snapshot(state(fleet.RolloutPaused)), nil, fleet.RolloutInProgress, false, "rollout.resumed"},
		{"resume what goes on", resume(false), snapshot(), rollout.ErrState, "", false, ""},
		{"resume although a gate is breached", resume(false), snapshot(state(fleet.RolloutPaused), bad), rollout.ErrBreached, "", false, ""},
		{"resume and accept that", resume(true), snapshot(state(fleet.RolloutPaused), bad), nil, fleet.RolloutInProgress, false, "rollout.resumed"},
		{"advance", rollout.Advance, snapshot(), nil, fleet.RolloutInProgress, false, "rollout.wave_ended rollout.wave_opened"},
		{"advance from the last wave", rollout.Advance, snapshot(second), rollout.ErrState, "", false, ""},
		{"advance although a gate is breached", rollout.Advance, snapshot(bad), rollout.ErrBreached, "", false, ""},
		{"advance what is paused", rollout.Advance, snapshot(state(fleet.RolloutPaused)), rollout.ErrState, "", false, ""},
		{"extend", extend(time.Hour), snapshot(), nil, fleet.RolloutInProgress, false, "rollout.extended"},
		{"extend by nothing", extend(0), snapshot(), rollout.ErrInvalid, "", false, ""},
		{"extend without end", extend(rollout.Longest + 1), snapshot(), rollout.ErrInvalid, "", false, ""},
		{"extend before a wave is open", extend(time.Hour), snapshot(func(s *fleet.RolloutSnapshot) { s.Rollout.Wave = 0 }), rollout.ErrState, "", false, ""},
		{"abort", abort, snapshot(), nil, fleet.RolloutAborted, true, "rollout.aborted"},
		{"abort what is paused", abort, snapshot(state(fleet.RolloutPaused)), nil, fleet.RolloutAborted, true, "rollout.aborted"},
		{"abort before the start", abort, snapshot(state(fleet.RolloutPending)), nil, fleet.RolloutAborted, false, "rollout.aborted"},
		{"abort what is over", abort, snapshot(state(fleet.RolloutCompleted)), rollout.ErrState, "", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			step, err := c.act(c.given, start)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err != nil {
				return
			}
			check(t, "state", step.Rollout.State, c.state)
			check(t, "close", step.Close, c.close)
			check(t, "events", eventsText(step.Events), c.kind)
			if c.given.Rollout.State != c.state {
				guarded(t, c.given.Rollout.State, c.state)
			}
		})
	}
}

// What was accepted does not stop it again, at once.
func TestResumeAcceptsWhatIs(t *testing.T) {
	given := snapshot(state(fleet.RolloutPaused), counts(fleet.Counts{Agents: 10, Touched: 10, Failed: 5}))
	step, err := rollout.Resume(given, true, start)
	if err != nil {
		t.Fatal(err)
	}
	given.Rollout = *step.Rollout
	if again := rollout.Decide(given, start); again.Close {
		t.Errorf("stopped again: %s", again.Rollout.Reason)
	}
}

func guarded(t *testing.T, from, to fleet.RolloutState) {
	t.Helper()
	if from != to && !slices.Contains(fleet.RolloutTransitions[from], to) {
		t.Errorf("a rollout goes from %s to %s", from, to)
	}
}

func check[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func join(agents []fleet.AgentID) string {
	var words []string
	for _, a := range agents {
		words = append(words, string(a))
	}
	return strings.Join(words, " ")
}

func eventsText(list []fleet.Event) string {
	var words []string
	for _, e := range list {
		words = append(words, string(e.Kind))
	}
	return strings.Join(words, " ")
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout_test

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
)

func model(edit ...func(*rollout.Model)) rollout.Model {
	m := rollout.Model{Seed: 3, Answers: rollout.AnswerTimes{Min: time.Second, Median: 6 * time.Second, P99: 40 * time.Second}}
	for _, e := range edit {
		e(&m)
	}
	return m
}

// A canary over agents that are all well takes its dwells, or the windows of its gates where they are longer.
func TestSimulateWell(t *testing.T) {
	s := rollout.Simulate(definition(), candidates(1000), model(), start)
	check(t, "state", s.State, fleet.RolloutCompleted)
	check(t, "succeeded", s.Counts.Succeeded, 1000)
	check(t, "waves", len(s.Waves), 4)
	if s.Took != s.Plan.Shortest {
		t.Errorf("it took %s, the plan says %s at least, and everybody was well", s.Took, s.Plan.Shortest)
	}
	for i, w := range s.Waves {
		check(t, "succeeded of a wave", w.Counts.Succeeded, s.Plan.Waves[i].Agents)
		if w.Ended < w.Opened+s.Plan.Waves[i].Dwell {
			t.Errorf("wave %d ended after %s, its dwell is %s", w.Wave, w.Ended-w.Opened, s.Plan.Waves[i].Dwell)
		}
	}
}

// The question that operators have: would the gates have stopped a failure rate, and who would have been touched?
func TestSimulateFailures(t *testing.T) {
	for _, c := range []struct {
		failing float64
		state   fleet.RolloutState
		reason  string
		most    int // touched
	}{
		{0.03, fleet.RolloutCompleted, "failed", 10_000},
		{0.10, fleet.RolloutPaused, "so far", 1000},
		{0.30, fleet.RolloutPaused, "apply-failed", 500},
	} {
		s := rollout.Simulate(definition(), candidates(10_000), model(func(m *rollout.Model) { m.Failing = c.failing }), start)
		check(t, "state", s.State, c.state)
		if !strings.Contains(s.Reason, c.reason) || s.Counts.Touched > c.most {
			t.Errorf("%.0f %% fail: %s, %d touched", c.failing*100, s.Reason, s.Counts.Touched)
		}
	}
}

func TestSimulateTheRest(t *testing.T) {
	t.Run("silent agents are overdue, and hold up nothing", func(t *testing.T) {
		s := rollout.Simulate(definition(), candidates(1000), model(func(m *rollout.Model) { m.Silent = 0.02 }), start)
		check(t, "state", s.State, fleet.RolloutCompleted)
		if s.Counts.Overdue == 0 || s.Counts.Overdue+s.Counts.Succeeded != 1000 {
			t.Errorf("%+v", s.Counts)
		}
	})
	t.Run("ill ones stop it after the window", func(t *testing.T) {
		s := rollout.Simulate(definition(), candidates(1000), model(func(m *rollout.Model) { m.Unhealthy = 0.5 }), start)
		check(t, "state", s.State, fleet.RolloutPaused)
		check(t, "took", s.Took, 10*time.Minute)
		check(t, "touched", s.Counts.Touched, 50)
	})
	t.Run("a budget lets in a few at a time", func(t *testing.T) {
		list := candidates(40, func(_ int, c *fleet.RolloutCandidate) { c.Blast = map[string]string{"site": "berlin"} })
		def := definition(func(d *fleet.RolloutDefinition) { d.Strategy = fleet.Strategy{Kind: fleet.StrategyImmediate} })
		s := rollout.Simulate(def, list, model(func(m *rollout.Model) {
			m.Budgets = []fleet.Budget{{ID: "b", Name: "sites", Label: "site", Most: 10}}
		}), start)
		check(t, "state", s.State, fleet.RolloutCompleted)
		// Ten at a time, each ten for as long as the unhealthy gate looks at them.
		if s.Took < 40*time.Minute || s.Took > 45*time.Minute {
			t.Errorf("it took %s", s.Took)
		}
	})
	t.Run("a calendar that is closed for a day", func(t *testing.T) {
		opens := start.Add(24 * time.Hour)
		s := rollout.Simulate(definition(), candidates(100), model(func(m *rollout.Model) {
			m.Calendar = func(at time.Time) fleet.Calendar {
				return fleet.Calendar{Closed: at.Before(opens), Words: "frozen", Until: opens}
			}
		}), start)
		check(t, "took", s.Took, s.Plan.Shortest+24*time.Hour)
	})
	t.Run("a calendar that never opens", func(t *testing.T) {
		s := rollout.Simulate(definition(), candidates(100), model(func(m *rollout.Model) {
			m.Calendar = func(time.Time) fleet.Calendar { return fleet.Calendar{Closed: true, Words: "frozen"} }
		}), start)
		check(t, "state", s.State, fleet.RolloutInProgress)
		check(t, "reason", s.Reason, "frozen")
	})
	t.Run("nobody", func(t *testing.T) {
		check(t, "state", rollout.Simulate(definition(), nil, model(), start).State, fleet.RolloutCompleted)
	})
}

func TestSimulateIsDeterministic(t *testing.T) {
	ill := model(func(m *rollout.Model) { m.Failing, m.Silent, m.Unhealthy = 0.01, 0.01, 0.01 })
	once := rollout.Simulate(definition(), candidates(2000), ill, start)
	if again := rollout.Simulate(definition(), candidates(2000), ill, start); !reflect.DeepEqual(once, again) {
		t.Errorf("first %+v\nthen %+v", once, again)
	}
}

// A hundred thousand agents are simulated within seconds.
func TestSimulateAFleet(t *testing.T) {
	began := time.Now()
	s := rollout.Simulate(definition(), candidates(100_000, func(i int, c *fleet.RolloutCandidate) {
		c.Blast = map[string]string{"site": string(rune('a' + i%20))}
	}), model(func(m *rollout.Model) {
		m.Failing, m.Silent = 0.01, 0.01
		m.Budgets = []fleet.Budget{{ID: "b", Name: "sites", Label: "site", Most: 500}}
	}), start)
	check(t, "state", s.State, fleet.RolloutCompleted)
	took := time.Since(began)
	t.Logf("100000 agents in %s: %s after %s", took, s.Reason, s.Took)
	if took > 2*time.Minute { // on a machine that does much else
		t.Errorf("it took %s", took)
	}
}

func TestAnswerTimes(t *testing.T) {
	list := candidates(100_000)
	def := definition(func(d *fleet.RolloutDefinition) {
		off := fleet.Gate{Off: true}
		d.Strategy, d.Gates = fleet.Strategy{Kind: fleet.StrategyImmediate}, fleet.Gates{ApplyFailed: off, Disconnect: off, Mismatch: off, Unhealthy: off}
	})
	s := rollout.Simulate(def, list, model(func(m *rollout.Model) {
		m.Answers = rollout.AnswerTimes{Min: time.Second, Median: time.Second, P99: time.Second}
	}), start)
	if s.Took < time.Second || s.Took > time.Second+rollout.Granule {
		t.Errorf("everybody answers after a second, and it took %s", s.Took)
	}
}

func TestModelCheck(t *testing.T) {
	for field, edit := range map[string]func(*rollout.Model){
		"failing":   func(m *rollout.Model) { m.Failing = 1.1 },
		"silent":    func(m *rollout.Model) { m.Silent = math.NaN() },
		"unhealthy": func(m *rollout.Model) { m.Unhealthy = -1 },
		"answers":   func(m *rollout.Model) { m.Answers.P99 = 0 },
		"horizon":   func(m *rollout.Model) { m.Horizon = -1 },
	} {
		if err := model(edit).Check(); !errors.Is(err, rollout.ErrInvalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := model().Check(); err != nil {
		t.Error(err)
	}
}

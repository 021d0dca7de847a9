// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"math"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Model is what a simulation takes agents for. Shares are from 0 to 1.
type Model struct {
	Seed uint64
	// Failing agents say that they cannot apply it, Silent ones say nothing, Unhealthy ones apply it and are ill from then on.
	Failing, Silent, Unhealthy float64
	// Answers is how long agents take from the push to their last word.
	Answers AnswerTimes
	// Budgets are about labels that the candidates' Blast has; nothing but this rollout uses them.
	Budgets []fleet.Budget
	// Calendar says when agents may be disturbed; nil: always.
	Calendar func(at time.Time) fleet.Calendar
	// Horizon is how long is simulated at most; 0: a year.
	Horizon time.Duration
}

// AnswerTimes are a log-normal distribution above Min, through Median and P99.
type AnswerTimes struct {
	Min, Median, P99 time.Duration
}

// Check says what of a model cannot be.
func (m Model) Check() error {
	share := func(s float64) bool { return s >= 0 && s <= 1 }
	switch {
	case !share(m.Failing):
		return invalid("failing", "is a share from 0 to 1")
	case !share(m.Silent):
		return invalid("silent", "is a share from 0 to 1")
	case !share(m.Unhealthy):
		return invalid("unhealthy", "is a share from 0 to 1")
	case m.Answers.Min < 0 || m.Answers.Median < m.Answers.Min || m.Answers.P99 < m.Answers.Median || m.Answers.P99 > Longest:
		return invalid("answers", "are min, median and 99th percentile, none less than the one before and at most %s", Longest)
	case m.Horizon < 0:
		return invalid("horizon", "is not negative")
	}
	return nil
}

// fate is what an agent will do.
type fate struct {
	silent, fails, ill bool
	after              time.Duration
}

func (m Model) fate(agent fleet.AgentID) fate {
	drawn := chance(m.Seed, string(agent))
	draw := func() float64 {
		drawn = mixed(drawn + 0x9e3779b97f4a7c15)
		return unit(drawn)
	}
	return fate{silent: draw() < m.Silent, fails: draw() < m.Failing, ill: draw() < m.Unhealthy, after: m.Answers.at(draw())}
}

// at is the time within which the share u of agents answers.
func (a AnswerTimes) at(u float64) time.Duration {
	above, tail := float64(a.Median-a.Min), float64(a.P99-a.Min)
	if above <= 0 || u <= 0 {
		return a.Min
	}
	const z99 = 2.3263478740408408
	z := math.Sqrt2 * math.Erfinv(2*u-1)
	t := above * math.Exp(z/z99*math.Log(tail/above))
	return a.Min + time.Duration(min(t, float64(Longest)))
}

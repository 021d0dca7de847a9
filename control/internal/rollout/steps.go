// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"errors"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Why an operator's act is refused; the error's text has the words.
var (
	// ErrState: the rollout's state does not allow it.
	ErrState = errors.New("the rollout is not in a state for that")
	// ErrBreached: a gate is breached, and that was not accepted.
	ErrBreached = errors.New("a gate is breached")
	// ErrInvalid: an argument or a definition contradicts itself.
	ErrInvalid = errors.New("not a valid rollout")
)

func Check(def fleet.RolloutDefinition) error { return nil }

func Draw(def fleet.RolloutDefinition, candidates []fleet.RolloutCandidate, now time.Time) (fleet.RolloutPlan, []fleet.Member) {
	return fleet.RolloutPlan{}, nil
}

func Compare(was fleet.RolloutPlan, before []fleet.Member, is fleet.RolloutPlan, after []fleet.Member) fleet.PlanDelta {
	return fleet.PlanDelta{}
}

func Stale(d fleet.PlanDelta, tolerance float64) bool { return false }

func Decide(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep { return fleet.RolloutStep{} }

func Elapse(m fleet.Member, of fleet.RolloutDefinition, now time.Time) fleet.Member {
	return m.Elapsed(of.Gates, now)
}

func Pause(s fleet.RolloutSnapshot, why string, now time.Time) (fleet.RolloutStep, error) {
	return fleet.RolloutStep{}, nil
}

func Resume(s fleet.RolloutSnapshot, accept bool, now time.Time) (fleet.RolloutStep, error) {
	return fleet.RolloutStep{}, nil
}

func Advance(s fleet.RolloutSnapshot, now time.Time) (fleet.RolloutStep, error) {
	return fleet.RolloutStep{}, nil
}

func Extend(s fleet.RolloutSnapshot, by time.Duration, now time.Time) (fleet.RolloutStep, error) {
	return fleet.RolloutStep{}, nil
}

func Abort(s fleet.RolloutSnapshot, why string, now time.Time) (fleet.RolloutStep, error) {
	return fleet.RolloutStep{}, nil
}

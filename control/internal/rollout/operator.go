// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"errors"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Why an operator's act is refused; the text of the error has the words.
var (
	// ErrState: the rollout's state does not allow it.
	ErrState = errors.New("not in this state")
	// ErrBreached: a gate is breached, and that was not accepted.
	ErrBreached = errors.New("a gate is breached")
)

// Pause stops a rollout: what was not sent is closed, what was is let finish.
func Pause(s fleet.RolloutSnapshot, why string, now time.Time) (fleet.RolloutStep, error) {
	if err := in(s, "pause", fleet.RolloutInProgress); err != nil {
		return fleet.RolloutStep{}, err
	}
	d := newDecision(s, now)
	d.stop(why)
	return d.finish(), nil
}

// Resume lets a paused rollout go on, once nothing is breached any more, or what is was accepted: then the gates count what
// comes on top. A rollback that was asked for is not made any more.
func Resume(s fleet.RolloutSnapshot, accept bool, now time.Time) (fleet.RolloutStep, error) {
	if err := in(s, "resume", fleet.RolloutPaused); err != nil {
		return fleet.RolloutStep{}, err
	}
	if list := breaches(s); len(list) > 0 && !accept {
		return fleet.RolloutStep{}, fmt.Errorf("%w: %s", ErrBreached, wordsOf(list))
	}
	d := newDecision(s, now)
	if accept {
		d.next.Accepted = fleet.Accepted{Wave: s.Rollout.Wave, OfWave: s.Wave, SoFar: s.SoFar}
	}
	d.next.State, d.next.Reason, d.next.WantsRollback = fleet.RolloutInProgress, "", false
	d.wakeBy(now)
	d.tell(fleet.EventRolloutResumed, "goes on")
	return d.finish(), nil
}

// Advance opens the next wave at once, whatever the dwell and the windows are. Who is pending in waves before is let in as
// well.
func Advance(s fleet.RolloutSnapshot, now time.Time) (fleet.RolloutStep, error) {
	if err := in(s, "advance", fleet.RolloutInProgress); err != nil {
		return fleet.RolloutStep{}, err
	}
	if s.Rollout.Wave >= len(s.Rollout.Plan.Waves) {
		return fleet.RolloutStep{}, fmt.Errorf("%w: the last wave is open", ErrState)
	}
	if list := breaches(s); len(list) > 0 {
		return fleet.RolloutStep{}, fmt.Errorf("%w: %s", ErrBreached, wordsOf(list))
	}
	d := newDecision(s, now)
	if s.Rollout.Wave > 0 {
		d.ended()
	}
	d.openWave(s.Rollout.Wave + 1)
	return d.finish(), nil
}

// Extend makes the open wave dwell longer.
func Extend(s fleet.RolloutSnapshot, by time.Duration, now time.Time) (fleet.RolloutStep, error) {
	if err := in(s, "extend", fleet.RolloutInProgress, fleet.RolloutPaused); err != nil {
		return fleet.RolloutStep{}, err
	}
	if s.Rollout.Wave == 0 {
		return fleet.RolloutStep{}, fmt.Errorf("%w: no wave is open", ErrState)
	}
	if by <= 0 || by > Longest || s.Rollout.Extended+by > Longest {
		return fleet.RolloutStep{}, invalid("by", "is more than nothing, and at most %s in all", Longest)
	}
	d := newDecision(s, now)
	d.next.Extended += by
	d.wakeBy(now)
	d.tell(fleet.EventRolloutExtended, fmt.Sprintf("looks at wave %d for %s longer", d.next.Wave, by), "by", by.String())
	return d.finish(), nil
}

// Abort ends a rollout for good. Who was touched keeps the version.
func Abort(s fleet.RolloutSnapshot, why string, now time.Time) (fleet.RolloutStep, error) {
	if err := in(s, "abort", fleet.RolloutPending, fleet.RolloutInProgress, fleet.RolloutPaused); err != nil {
		return fleet.RolloutStep{}, err
	}
	d := newDecision(s, now)
	d.next.WantsRollback = false
	d.step.Close = s.Rollout.State.Active()
	d.end(fleet.RolloutAborted, fleet.EventRolloutAborted, why)
	return d.finish(), nil
}

// in refuses an act of a rollout that is in none of the states.
func in(s fleet.RolloutSnapshot, act string, states ...fleet.RolloutState) error {
	for _, state := range states {
		if s.Rollout.State == state {
			return nil
		}
	}
	return fmt.Errorf("%w: nobody can %s a rollout that is %s", ErrState, act, spoken(s.Rollout.State))
}

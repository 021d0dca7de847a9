// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// BudgetLook is how often a rollout that a disruption budget holds up looks whether there is room: what another rollout or
// a restart gives back does not wake it.
const BudgetLook = 5 * time.Second

// Elapse is what time alone makes of a member.
func Elapse(m fleet.Member, of fleet.RolloutDefinition, now time.Time) fleet.Member {
	return m.Elapsed(of.Gates, now)
}

// Decide says what to do next for a rollout. Gates are looked at before anybody is let in, in the same step.
func Decide(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
	d := newDecision(s, now)
	switch s.Rollout.State {
	case fleet.RolloutInProgress:
		if list := breaches(s); len(list) > 0 {
			d.breached(list)
		} else {
			d.goOn()
		}
	case fleet.RolloutRollingBack:
		d.followRollback()
	case fleet.RolloutPaused:
		// Time goes on for those that were let in, so that an operator sees what is.
		d.wakeBy(s.LookAt)
	case fleet.RolloutPending, fleet.RolloutCompleted, fleet.RolloutAborted, fleet.RolloutRolledBack:
	}
	return d.finish()
}

// decision gathers a step while it is being made.
type decision struct {
	s   fleet.RolloutSnapshot
	now time.Time
	// next is the rollout as it will be.
	next fleet.Rollout
	step fleet.RolloutStep
}

func newDecision(s fleet.RolloutSnapshot, now time.Time) *decision {
	return &decision{s: s, now: now, next: s.Rollout}
}

func (d *decision) finish() fleet.RolloutStep {
	if changed(d.s.Rollout, d.next) {
		next := d.next
		d.step.Rollout = &next
	}
	return d.step
}

// changed reports whether anything is otherwise that a step may change.
func changed(a, b fleet.Rollout) bool {
	return a.State != b.State || a.Wave != b.Wave || !a.WaveOpenedAt.Equal(b.WaveOpenedAt) || !a.FilledAt.Equal(b.FilledAt) ||
		a.Extended != b.Extended || a.Accepted != b.Accepted || a.Reason != b.Reason || a.WantsRollback != b.WantsRollback || !a.EndedAt.Equal(b.EndedAt)
}

// breached stops the rollout at a gate.
func (d *decision) breached(list []breach) {
	words := wordsOf(list)
	d.stop(words, "gate", list[0].gate)
	if d.s.Rollout.Definition.RollBack && d.s.Rollout.Kind == fleet.RolloutForward {
		d.next.WantsRollback = true
		d.step.RollBack = true
	}
}

// stop pauses: nothing is granted any more.
func (d *decision) stop(why string, attributes ...string) {
	d.next.State = fleet.RolloutPaused
	d.next.Reason = why
	d.step.Close = true
	d.wakeBy(d.s.LookAt)
	d.tell(fleet.EventRolloutPaused, "is paused: "+why, attributes...)
}

// goOn lets agents in, ends the wave, or says what is waited for.
func (d *decision) goOn() {
	if d.next.Wave == 0 {
		d.openWave(1)
		return
	}
	d.wakeBy(d.s.LookAt)
	if wait := d.admit(); wait.words != "" {
		d.wait(wait)
		return
	}
	if pending := d.s.SoFar.Pending - len(d.step.Admit); pending > 0 {
		// More than are let in at once.
		d.next.Reason, d.next.FilledAt = "", time.Time{}
		if len(d.step.Admit) > 0 {
			d.wakeBy(d.now)
		}
		return
	}
	if d.next.FilledAt.IsZero() {
		d.next.FilledAt = d.now
	}
	d.endWave()
}

// openWave lets agents of a wave in from now on, or ends a rollout that has none.
func (d *decision) openWave(wave int) {
	if wave > len(d.next.Plan.Waves) {
		d.complete()
		return
	}
	d.next.Wave, d.next.WaveOpenedAt, d.next.FilledAt, d.next.Extended, d.next.Reason = wave, d.now, time.Time{}, 0, ""
	d.wakeBy(d.now)
	agents := d.next.Plan.Waves[wave-1].Agents
	d.tell(fleet.EventRolloutWaveOpened, fmt.Sprintf("opens wave %d of %d with %d agents", wave, len(d.next.Plan.Waves), agents), "agents", fmt.Sprint(agents))
}

// endWave ends the wave if nothing of it is open any more, else says what is.
func (d *decision) endWave() {
	until := d.next.FilledAt.Add(d.dwell())
	last := d.next.Wave >= len(d.next.Plan.Waves)
	switch {
	case len(d.step.Admit) > 0 || d.s.SoFar.InFlight > 0:
		d.next.Reason = d.ofWave("waits for agents to answer")
	case d.s.SoFar.Watched > 0:
		d.next.Reason = d.ofWave("the gates look at its agents")
	case d.now.Before(until):
		d.next.Reason = d.ofWave("is looked at until " + clock(until))
		d.wakeBy(until)
	case last:
		d.ended()
		d.complete()
	case d.next.Definition.Advance == fleet.AdvanceManual:
		d.wait(waiting{words: d.ofWave("has ended and waits for an operator to advance")})
	default:
		d.ended()
		d.openWave(d.next.Wave + 1)
	}
}

// dwell is how long the wave is at least looked at after the last of its agents was let in: not less than a disconnect
// would count.
func (d *decision) dwell() time.Duration {
	dwell := d.next.Definition.Strategy.DwellOf(d.next.Wave) + d.next.Extended
	if gate := d.next.Definition.Gates.Disconnect; !gate.Off {
		dwell = max(dwell, gate.Window)
	}
	return dwell
}

func (d *decision) ended() {
	d.tell(fleet.EventRolloutWaveEnded, fmt.Sprintf("has ended wave %d: %s", d.next.Wave, summary(d.s.Wave)), counted(d.s.Wave)...)
}

func (d *decision) complete() {
	d.next.State, d.next.EndedAt, d.next.Reason = fleet.RolloutCompleted, d.now, summary(d.s.SoFar)
	d.step.WakeAt = time.Time{}
	d.tell(fleet.EventRolloutCompleted, "is completed: "+d.next.Reason, counted(d.s.SoFar)...)
}

// followRollback ends a rollout that rolls back when the one that does it has ended.
func (d *decision) followRollback() {
	switch d.s.Undoing {
	case fleet.RolloutCompleted:
		d.end(fleet.RolloutRolledBack, fleet.EventRolloutRolledBack, "those it touched have their former version again")
	case fleet.RolloutAborted, fleet.RolloutRolledBack:
		d.end(fleet.RolloutAborted, fleet.EventRolloutAborted, "the rollback was aborted")
	default:
	}
}

func (d *decision) end(state fleet.RolloutState, kind fleet.EventKind, why string) {
	d.next.State, d.next.EndedAt, d.next.Reason = state, d.now, why
	d.tell(kind, fmt.Sprintf("is %s: %s", spoken(state), why))
}

// wakeBy asks to be called at a time, or before; the zero time asks for nothing.
func (d *decision) wakeBy(at time.Time) {
	if !at.IsZero() && (d.step.WakeAt.IsZero() || at.Before(d.step.WakeAt)) {
		d.step.WakeAt = at
	}
}

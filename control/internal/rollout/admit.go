// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// waiting is why nobody is let in for now; without words nothing is waited for.
type waiting struct {
	words string
	until time.Time // zero: not known
	look  time.Time // when to look again
}

// admit lets in who may be disturbed now. If that is nobody although agents are pending, it says what is waited for.
func (d *decision) admit() waiting {
	if d.s.SoFar.Pending == 0 {
		return waiting{}
	}
	if c := d.s.Calendar; c.Closed {
		return waiting{words: c.Words, until: c.Until, look: c.Until}
	}
	room := newRoom(d.s.Budgets)
	var full string
	for _, c := range d.s.Next[:min(len(d.s.Next), fleet.CandidateLimit)] {
		if which := room.full(c.Budgets); which != "" {
			if full == "" {
				full = which
			}
			continue
		}
		room.take(c.Budgets)
		d.step.Admit = append(d.step.Admit, c.Agent)
	}
	if len(d.step.Admit) > 0 {
		d.step.DeadlineAt = d.now.Add(d.next.Definition.Deadline)
		d.wakeBy(d.step.DeadlineAt)
	}
	if full == "" {
		return waiting{}
	}
	return waiting{words: d.ofWave("waits for room in " + full), look: d.now.Add(BudgetLook)}
}

// wait says what is waited for, once.
func (d *decision) wait(w waiting) {
	d.wakeBy(w.look)
	if d.next.FilledAt = d.filledAt(); w.words == d.s.Rollout.Reason {
		return
	}
	d.next.Reason = w.words
	var attributes []string
	if !w.until.IsZero() {
		attributes = []string{"until", w.until.UTC().Format(time.RFC3339)}
	}
	d.tell(fleet.EventRolloutWaiting, "waits: "+w.words, attributes...)
}

// filledAt is when the last agent of the wave was let in, if nobody is pending again.
func (d *decision) filledAt() time.Time {
	if d.s.SoFar.Pending > len(d.step.Admit) {
		return time.Time{}
	}
	return d.next.FilledAt
}

// room is what disruption budgets leave.
type room map[fleet.BudgetKey]fleet.BudgetUse

func newRoom(uses []fleet.BudgetUse) room {
	r := make(room, len(uses))
	for _, u := range uses {
		r[u.BudgetKey] = u
	}
	return r
}

// full names a budget that has no room; one that nothing is known of has none.
func (r room) full(keys []fleet.BudgetKey) string {
	for _, k := range keys {
		if u := r[k]; u.Used >= u.Most {
			return fmt.Sprintf("budget %q for %q", u.Name, k.Value)
		}
	}
	return ""
}

func (r room) take(keys []fleet.BudgetKey) {
	for _, k := range keys {
		u := r[k]
		u.Used++
		r[k] = u
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package calendar says what maintenance windows and freezes mean: when agents may be disturbed, and for how long.
//
// Its functions are pure: no clock, no I/O. Schedules are read on the wall clock of their zone, and last in real time: a
// window of two hours is open for two hours on every day of the year. A start on a wall clock that a zone skips is where
// it would be had the clock not been changed, and one that comes twice is the first (RFC 5545, section 3.3.5). What a
// hostile schedule can cost is bounded.
package calendar

import (
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// At says what schedules mean at a time: windows unite, and a freeze wins over them. Without a window it is open whenever
// no freeze is. A schedule that cannot be read lets nobody be disturbed.
func At(schedules []fleet.Schedule, now time.Time) fleet.Calendar {
	b, err := read(schedules)
	if err != nil {
		return fleet.Calendar{Closed: true, Words: err.Error()}
	}
	closed := b.closedAt(now)
	if closed == "" {
		return fleet.Calendar{ClosesAt: b.closes(now)}
	}
	opens := b.opens(now)
	if opens.IsZero() {
		return fleet.Calendar{Closed: true, Words: closed + ", and it is not known when that is over"}
	}
	return fleet.Calendar{Closed: true, Words: fmt.Sprintf("%s, until %s", closed, opens.In(b.zone).Format("2006-01-02 15:04 MST")), Until: opens}
}

// hops is how many schedules are gone through, one after the other, to find when a calendar opens or closes.
const hops = 100

// book is what schedules are, in order.
type book struct {
	windows, freezes []*entry
	zone             *time.Location // of the first, in which times are told
}

func read(schedules []fleet.Schedule) (b book, err error) {
	b.zone = time.UTC
	for i, s := range schedules {
		e, err := parse(s)
		if err != nil {
			return book{}, fmt.Errorf("the schedule %q cannot be read: %w", s.Name, err)
		}
		if i == 0 {
			b.zone = e.zone
		}
		if s.Kind == fleet.ScheduleFreeze {
			b.freezes = append(b.freezes, e)
		} else {
			b.windows = append(b.windows, e)
		}
	}
	return b, nil
}

// closedAt says in words why it is closed at a time; empty: it is not.
func (b book) closedAt(t time.Time) string {
	for _, f := range b.freezes {
		if s, found := f.first(t); found && !s.From.After(t) {
			return fmt.Sprintf("the freeze %q is on", f.name)
		}
	}
	if len(b.windows) > 0 && !b.inWindow(t) {
		return "it is outside of the maintenance windows"
	}
	return ""
}

func (b book) inWindow(t time.Time) bool {
	for _, w := range b.windows {
		if s, found := w.first(t); found && !s.From.After(t) {
			return true
		}
	}
	return false
}

// opens is the first time from t on at which it is open; zero: none is known.
func (b book) opens(t time.Time) time.Time {
	for range hops {
		frozen := false
		for _, f := range b.freezes {
			if s, found := f.first(t); found && !s.From.After(t) {
				t, frozen = s.Until, true
			}
		}
		if frozen {
			continue
		}
		if len(b.windows) == 0 || b.inWindow(t) {
			return t
		}
		next := earliest(b.windows, t)
		if next.IsZero() {
			return time.Time{}
		}
		t = next
	}
	return time.Time{}
}

// closes is when it closes that is open at t; zero: not as far as is known.
func (b book) closes(t time.Time) time.Time {
	freeze := earliest(b.freezes, t)
	if len(b.windows) == 0 {
		return freeze
	}
	end := t
	for range hops {
		longer := false
		for _, w := range b.windows {
			if s, found := w.first(end); found && !s.From.After(end) {
				end, longer = s.Until, true
			}
		}
		if !longer || !freeze.IsZero() && !end.Before(freeze) {
			break
		}
	}
	if !freeze.IsZero() && freeze.Before(end) {
		return freeze
	}
	return end
}

// earliest is when the first of schedules begins that are not on at t; zero: none.
func earliest(of []*entry, t time.Time) (first time.Time) {
	for _, e := range of {
		if s, found := e.first(t); found && s.From.After(t) && (first.IsZero() || s.From.Before(first)) {
			first = s.From
		}
	}
	return first
}

// Preview returns the next spans of a schedule that are not over at a time, at most n. Spans that touch are one.
func Preview(s fleet.Schedule, from time.Time, n int) ([]Span, error) {
	e, err := parse(s)
	if err != nil {
		return nil, err
	}
	var next []Span
	for s := range e.spans(from) {
		if len(next) == n {
			break
		}
		next = append(next, s)
	}
	return next, nil
}

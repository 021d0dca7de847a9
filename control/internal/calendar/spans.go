// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package calendar

import (
	"iter"
	"slices"
	"time"
)

// Span is from a time, included, until another, not included.
type Span struct {
	From, Until time.Time
}

const (
	// ahead is how far is looked ahead, startLimit how many starts are looked at.
	ahead      = 5 * 366 * 24 * time.Hour
	startLimit = 4000
	// skipLimit is more than what any zone has skipped of its wall clock at once: Samoa a day, in 2011.
	skipLimit = 25 * time.Hour
)

// entry is a schedule that was read.
type entry struct {
	name string
	zone *time.Location
	once *Span // or
	// starts are those of a recurring one, from a time on, ascending: on the wall clock, which is written as if it were UTC.
	starts func(from time.Time) iter.Seq[time.Time]
	length time.Duration

	// asked is what first was asked last, and answered.
	asked struct {
		after time.Time
		span  Span
		found bool
	}
}

// first returns the first span that ends after a time. As time goes on, the same is returned until it has ended.
func (e *entry) first(after time.Time) (Span, bool) {
	last := &e.asked
	if !last.after.IsZero() && !after.Before(last.after) && (!last.found || after.Before(last.span.Until)) {
		return last.span, last.found
	}
	last.after, last.span, last.found = after, Span{}, false
	for s := range e.spans(after) {
		last.span, last.found = s, true
		break
	}
	return last.span, last.found
}

// spans are those that end after a time, ascending; what touches is one. They end where no more is looked at.
func (e *entry) spans(after time.Time) iter.Seq[Span] {
	return func(yield func(Span) bool) {
		tell := func(s Span) bool { return !s.Until.After(after) || yield(s) }
		if e.once != nil {
			tell(*e.once)
			return
		}
		var held []Span // what a later start may still touch: on a skipped wall clock they come out of order
		for start := range e.bounded(after) {
			from := instant(start, e.zone)
			for len(held) > 0 && held[0].Until.Add(skipLimit).Before(from) {
				if !tell(held[0]) {
					return
				}
				held = held[1:]
			}
			held = unite(held, Span{from, from.Add(e.length)})
		}
		for _, s := range held {
			if !tell(s) {
				return
			}
		}
	}
}

// bounded are the starts of spans that may end after a time.
func (e *entry) bounded(after time.Time) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		n := 0
		end := after.Add(ahead)
		for start := range e.starts(wall(after.Add(-e.length-skipLimit), e.zone)) {
			if n++; n > startLimit || start.After(end) || !yield(start) {
				return
			}
		}
	}
}

// unite puts a span among others, which are ascending and do not touch.
func unite(spans []Span, s Span) []Span {
	i := len(spans)
	for i > 0 && !spans[i-1].Until.Before(s.From) {
		i--
	}
	j := i
	for j < len(spans) && !spans[j].From.After(s.Until) {
		s = Span{earlier(s.From, spans[j].From), later(s.Until, spans[j].Until)}
		j++
	}
	return slices.Replace(spans, i, j, s)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wall is what clocks of a zone show at a time, written as if it were UTC.
func wall(t time.Time, zone *time.Location) time.Time {
	_, offset := t.In(zone).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// instant is when clocks of a zone show that: the first time if they do so twice, and if they never do, when they would
// have, had they not been changed.
func instant(shown time.Time, zone *time.Location) time.Time {
	const day = 24 * time.Hour
	before := under(shown, shown.Add(-day), zone)
	after := under(shown, shown.Add(day), zone)
	if !wall(before, zone).Equal(shown) && wall(after, zone).Equal(shown) {
		return after
	}
	return before
}

// under is when clocks would show that, set as they are at another time.
func under(shown, at time.Time, zone *time.Location) time.Time {
	_, offset := at.In(zone).Zone()
	return shown.Add(-time.Duration(offset) * time.Second)
}

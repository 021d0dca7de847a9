// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package calendar

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"strings"
	"time"
	_ "time/tzdata" // where there is no other, as in an image with nothing but the program

	"github.com/robfig/cron/v3"
	"github.com/teambition/rrule-go"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

const (
	// textLimit is how long the text of a recurrence is at most, dayLimit how often it starts on a day.
	textLimit = 500
	dayLimit  = 24
	// countLimit is the highest COUNT, intervalLimit the longest INTERVAL, monthWeeks the most weekdays of a kind in a month.
	countLimit    = 1000
	intervalLimit = 366
	monthWeeks    = 5
	// The shortest and the longest length.
	shortest = time.Minute
	longest  = 31 * 24 * time.Hour
)

// epoch is the first time at which a schedule may begin: recurrences are counted from there.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Check says what is wrong with when a schedule is; the error names the field. One that will never be on again is none of
// that, as long as it once was.
func Check(s fleet.Schedule) error {
	e, err := parse(s)
	if err != nil || e.once != nil {
		return err
	}
	from := s.From
	if s.Cron != "" {
		from = epoch
	}
	if _, found := e.first(from); !found {
		return errors.New("cron or rule: it never starts within five years")
	}
	return nil
}

func parse(s fleet.Schedule) (*entry, error) {
	if s.Kind != fleet.ScheduleWindow && s.Kind != fleet.ScheduleFreeze {
		return nil, fmt.Errorf("kind: %q is neither a window nor a freeze", s.Kind)
	}
	zone, err := zoneOf(s.Zone)
	if err != nil {
		return nil, err
	}
	e := &entry{name: s.Name, zone: zone, length: s.Length}
	switch {
	case s.Cron != "" && s.Rule != "":
		return nil, errors.New("cron, rule: only one of them can be set")
	case s.Cron != "":
		e.starts, err = ofCron(s)
	case s.Rule != "":
		e.starts, err = ofRule(s, zone)
	default:
		e.once, err = ofSpan(s)
	}
	if err == nil && e.once == nil && (s.Length < shortest || s.Length > longest) {
		err = fmt.Errorf("length: what recurs lasts from %s to %d days each time", shortest, longest/(24*time.Hour))
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// zoneOf knows the zones of the IANA by name. That of the machine is none of them.
func zoneOf(name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" {
		return nil, fmt.Errorf("zone: %q is no IANA time zone, such as Europe/Berlin", name)
	}
	return zone, nil
}

func ofSpan(s fleet.Schedule) (*Span, error) {
	switch {
	case s.From.IsZero() || s.Until.IsZero():
		return nil, errors.New("cron, rule, from, until: either cron, or rule with from, or from with until is to be set")
	case !s.Until.After(s.From):
		return nil, errors.New("until: it is not after from")
	case s.Length != 0:
		return nil, errors.New("length: it is for what recurs; from and until say how long this is")
	}
	return &Span{s.From, s.Until}, nil
}

// fields are minute, hour, day of month, month and day of week.
var fields = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

func ofCron(s fleet.Schedule) (func(time.Time) iter.Seq[time.Time], error) {
	switch {
	case !s.From.IsZero() || !s.Until.IsZero():
		return nil, errors.New("from, until: cron has neither")
	case len(s.Cron) > textLimit:
		return nil, fmt.Errorf("cron: it is longer than %d bytes", textLimit)
	case strings.Contains(s.Cron, "="):
		return nil, errors.New("cron: the time zone is a field of its own")
	}
	parsed, err := fields.Parse(s.Cron)
	if err != nil {
		return nil, fmt.Errorf("cron: %w", err)
	}
	spec, is := parsed.(*cron.SpecSchedule)
	if !is {
		return nil, errors.New("cron: it is not of five fields")
	}
	const numbers = 1<<60 - 1 // what is above says how they were written
	if bits.OnesCount64(spec.Minute&numbers)*bits.OnesCount64(spec.Hour&numbers) > dayLimit {
		return nil, fmt.Errorf("cron: it starts more than %d times a day", dayLimit)
	}
	return func(from time.Time) iter.Seq[time.Time] {
		return func(yield func(time.Time) bool) {
			// Next is greater than what it is given, and zero if there is none within five years.
			for t := spec.Next(from.Add(-time.Second)); !t.IsZero() && yield(t); t = spec.Next(t) {
			}
		}
	}, nil
}

func ofRule(s fleet.Schedule, zone *time.Location) (func(time.Time) iter.Seq[time.Time], error) {
	switch {
	case !s.Until.IsZero():
		return nil, errors.New("until: a rule ends by UNTIL or COUNT")
	case s.From.Before(epoch):
		return nil, fmt.Errorf("from: a rule begins with it, and not before %d", epoch.Year())
	case len(s.Rule) > textLimit:
		return nil, fmt.Errorf("rule: it is longer than %d bytes", textLimit)
	case strings.ContainsAny(s.Rule, "\r\n") || strings.Contains(s.Rule, "DTSTART"):
		return nil, errors.New("rule: it is one line, and from is its DTSTART")
	}
	options, err := rrule.StrToROptionInLocation(s.Rule, zone)
	if err != nil {
		return nil, fmt.Errorf("rule: %w", err)
	}
	if err := checkRule(*options); err != nil {
		return nil, fmt.Errorf("rule: %w", err)
	}
	// It is gone through on the wall clock.
	options.Dtstart = wall(s.From, zone).Truncate(time.Second)
	if !options.Until.IsZero() {
		options.Until = wall(options.Until, zone)
	}
	if _, err := rrule.NewRRule(*options); err != nil {
		return nil, fmt.Errorf("rule: %w", err)
	}
	return func(from time.Time) iter.Seq[time.Time] { return startsOf(*options, from) }, nil
}

// checkRule refuses what a window is not, and what would be gone through for long to find few.
func checkRule(o rrule.ROption) error {
	switch {
	case o.Freq > rrule.DAILY:
		return errors.New("FREQ is DAILY or rarer")
	case o.Interval < 0 || o.Interval > intervalLimit:
		return fmt.Errorf("INTERVAL is from 1 to %d", intervalLimit)
	case o.Count < 0 || o.Count > countLimit:
		return fmt.Errorf("COUNT is from 1 to %d", countLimit)
	case len(o.Bysecond)+len(o.Byweekno)+len(o.Byyearday)+len(o.Byeaster) > 0:
		return errors.New("BYSECOND, BYWEEKNO, BYYEARDAY and BYEASTER are not supported")
	case max(1, len(o.Byhour))*max(1, len(o.Byminute)) > dayLimit:
		return fmt.Errorf("it starts more than %d times a day", dayLimit)
	}
	for _, day := range o.Byweekday {
		if day.N() != 0 && o.Freq > rrule.MONTHLY {
			return errors.New("BYDAY has a number with FREQ=MONTHLY and FREQ=YEARLY only")
		}
		if day.N() < -monthWeeks || day.N() > monthWeeks {
			return fmt.Errorf("BYDAY has a number from -%d to %d", monthWeeks, monthWeeks)
		}
	}
	return nil
}

// startsOf goes through a rule from a time on.
func startsOf(o rrule.ROption, from time.Time) iter.Seq[time.Time] {
	o = explicit(o)
	o.Dtstart = laterStart(o, from)
	return func(yield func(time.Time) bool) {
		rule, err := rrule.NewRRule(o)
		if err != nil {
			return // it was none a moment ago
		}
		next := rule.Iterator()
		for t, found := next(); found; t, found = next() {
			if !t.Before(from) && !yield(t) {
				return
			}
		}
	}
}

// explicit says what a rule takes from its start otherwise: the month and the day of it.
func explicit(o rrule.ROption) rrule.ROption {
	if len(o.Bymonthday)+len(o.Byweekday) == 0 && (o.Freq == rrule.MONTHLY || o.Freq == rrule.YEARLY) {
		o.Bymonthday = []int{o.Dtstart.Day()}
		if len(o.Bymonth) == 0 && o.Freq == rrule.YEARLY {
			o.Bymonth = []int{int(o.Dtstart.Month())}
		}
	}
	return o
}

// laterStart is a start from which a rule comes to the same from a time on, without going through all the years before: a
// whole number of its periods later, and one period before the time, for what it does in a period before its start. A rule
// that counts must be gone through.
func laterStart(o rrule.ROption, from time.Time) time.Time {
	every, start := max(1, o.Interval), o.Dtstart
	hour, minute, second := start.Clock()
	periods := func(since int) int { return (since/every - 1) * every }
	if o.Count != 0 {
		return start
	}
	switch o.Freq {
	case rrule.YEARLY:
		if n := periods(from.Year() - start.Year()); n > 0 {
			return time.Date(start.Year()+n, 1, 1, hour, minute, second, 0, time.UTC)
		}
	case rrule.MONTHLY:
		if n := periods(12*(from.Year()-start.Year()) + int(from.Month()-start.Month())); n > 0 {
			return time.Date(start.Year(), start.Month()+time.Month(n), 1, hour, minute, second, 0, time.UTC)
		}
	case rrule.WEEKLY:
		if n := periods(int(from.Sub(start) / (7 * 24 * time.Hour))); n > 0 {
			return start.AddDate(0, 0, 7*n)
		}
	default:
		if n := periods(int(from.Sub(start) / (24 * time.Hour))); n > 0 {
			return start.AddDate(0, 0, n)
		}
	}
	return start
}

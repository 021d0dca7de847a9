// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package calendar

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teambition/rrule-go"
	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

var zones = []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "America/Sao_Paulo"}

func drawSchedule(t *rapid.T) fleet.Schedule {
	s := fleet.Schedule{
		Name: "s", Zone: rapid.SampledFrom(zones).Draw(t, "zone"),
		Kind: rapid.SampledFrom([]fleet.ScheduleKind{fleet.ScheduleWindow, fleet.ScheduleFreeze}).Draw(t, "kind"),
	}
	hour, minute := rapid.IntRange(0, 23).Draw(t, "hour"), rapid.SampledFrom([]int{0, 15, 30}).Draw(t, "minute")
	s.Length = time.Duration(rapid.IntRange(1, 40).Draw(t, "quarters")) * 15 * time.Minute
	switch rapid.IntRange(0, 2).Draw(t, "kind of time") {
	case 0:
		s.Cron = fmt.Sprintf("%d %d * * %s", minute, hour, rapid.SampledFrom([]string{"*", "1-5", "0,6"}).Draw(t, "days"))
	case 1:
		s.From = time.Date(2026, 1, 1, hour, minute, 0, 0, time.UTC)
		s.Rule = rapid.SampledFrom([]string{"FREQ=DAILY;INTERVAL=2", "FREQ=WEEKLY;BYDAY=SU,WE", "FREQ=MONTHLY;BYDAY=-1SU", "FREQ=DAILY;BYHOUR=1,2,3"}).Draw(t, "rule")
	default:
		s.From = time.Date(2026, 3, 1+hour, hour, minute, 0, 0, time.UTC)
		s.Until, s.Length = s.From.Add(s.Length), 0
	}
	return s
}

// TestAtAgreesWithPreview: it is open exactly if no span of a freeze is on, and one of a window is, if there are windows;
// and what At says of until when holds at any time in between, and no longer.
func TestAtAgreesWithPreview(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		schedules := rapid.SliceOfN(rapid.Custom(drawSchedule), 1, 4).Draw(t, "schedules")
		// Around the days on which clocks change.
		day := rapid.SampledFrom([]time.Time{
			time.Date(2026, 3, 7, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC),
			time.Date(2026, 4, 4, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 0, 0, 0, 0, time.UTC),
		}).Draw(t, "day")
		now := day.Add(time.Duration(rapid.IntRange(0, 4*24*60).Draw(t, "minutes")) * time.Minute)

		says := At(schedules, now)
		if open := isOpen(t, schedules, now); open == says.Closed {
			t.Fatalf("at %s: %+v, and open is %v", now, says, open)
		}
		turns := says.ClosesAt
		if says.Closed {
			turns = says.Until
		}
		if turns.IsZero() {
			return
		}
		if !turns.After(now) {
			t.Fatalf("at %s: %+v, which is not later", now, says)
		}
		if At(schedules, turns).Closed == says.Closed {
			t.Fatalf("at %s: %+v, and then it is the same", now, says)
		}
		between := now.Add(time.Duration(rapid.Float64Range(0, 0.999).Draw(t, "between") * float64(turns.Sub(now))))
		if At(schedules, between).Closed != says.Closed {
			t.Fatalf("at %s: %+v, and at %s it is otherwise", now, says, between)
		}
	})
}

func isOpen(t *rapid.T, schedules []fleet.Schedule, now time.Time) bool {
	windows, inside := false, false
	for _, s := range schedules {
		next, err := Preview(s, now.Add(-48*time.Hour), 200)
		if err != nil {
			t.Fatal(err)
		}
		on := slices.ContainsFunc(next, func(s Span) bool { return !now.Before(s.From) && now.Before(s.Until) })
		switch {
		case s.Kind == fleet.ScheduleFreeze && on:
			return false
		case s.Kind == fleet.ScheduleWindow:
			windows, inside = true, inside || on
		}
	}
	return !windows || inside
}

// TestSpansAreInOrder: whatever the clock does, spans are ascending and do not touch, and each is at least as long as its
// schedule says.
func TestSpansAreInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSchedule(t)
		spans, err := Preview(s, time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC), 400)
		if err != nil {
			t.Fatal(err)
		}
		for i, is := range spans {
			if is.Until.Sub(is.From) < s.Length {
				t.Fatalf("%+v is shorter than %s", is, s.Length)
			}
			if i > 0 && !is.From.After(spans[i-1].Until) {
				t.Fatalf("%+v is not after %+v", is, spans[i-1])
			}
		}
	})
}

// TestALaterStartChangesNothing: a rule comes to the same from a time on whether it is gone through from its start or not.
func TestALaterStartChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := "FREQ=" + rapid.SampledFrom([]string{"DAILY", "WEEKLY", "MONTHLY", "YEARLY"}).Draw(t, "frequency")
		text += fmt.Sprint(";INTERVAL=", rapid.IntRange(1, 5).Draw(t, "interval"))
		for _, part := range []string{";BYMONTH=1,6,7", ";BYMONTHDAY=1,15,-1", ";BYDAY=MO,SA", ";BYHOUR=3,22", ";BYSETPOS=1,-1", ";WKST=SU"} {
			if rapid.Bool().Draw(t, part) {
				text += part
			}
		}
		options, err := rrule.StrToROption(text)
		if err != nil {
			t.Fatal(err)
		}
		options.Dtstart = time.Date(2000+rapid.IntRange(0, 8).Draw(t, "year"), 1, 1, 4, 30, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(0, 400).Draw(t, "day"))
		from := options.Dtstart.AddDate(0, 0, rapid.IntRange(-100, 4000).Draw(t, "later"))
		until := from.AddDate(3, 0, 0)
		rule, err := rrule.NewRRule(*options)
		if err != nil {
			t.Fatal(err)
		}
		var got []time.Time
		for start := range startsOf(*options, from) {
			if start.After(until) {
				break
			}
			got = append(got, start)
		}
		if want := rule.Between(from, until, true); !slices.Equal(got, want) {
			t.Fatalf("%s from %s: got %v, want %v", text, from, got, want)
		}
	})
}

// FuzzCheck: whatever is given as a schedule is refused or can be asked, in little time.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"0 2 * * *", "*/5 1-3 1,15 * 1-5", "TZ=UTC", "0 0 29 2 *", "@every 1s"} {
		f.Add(s, "", int64(0), int64(time.Hour), "Europe/Berlin")
	}
	for _, s := range []string{
		"FREQ=DAILY", "RRULE:FREQ=YEARLY;INTERVAL=4;BYMONTH=2;BYMONTHDAY=29", "FREQ=SECONDLY;COUNT=1", "FREQ=MONTHLY;BYDAY=-1SU;BYSETPOS=-1",
		"FREQ=DAILY;BYHOUR=1,2;UNTIL=20300101T000000Z", "FREQ=YEARLY;BYEASTER=1", "FREQ=WEEKLY;WKST=SU;BYDAY=SU;BYSETPOS=366",
	} {
		f.Add("", s, int64(1_767_225_600), int64(time.Hour), "Pacific/Apia")
	}
	f.Fuzz(func(t *testing.T, cron, rule string, from, length int64, zone string) {
		s := fleet.Schedule{Name: "f", Kind: fleet.ScheduleWindow, Cron: cron, Rule: rule, Length: time.Duration(length), Zone: zone}
		if from != 0 {
			s.From = time.Unix(from%1_000_000_000_000, 0)
		}
		began := time.Now()
		err := Check(s)
		now := time.Date(2026, 11, 1, 5, 30, 0, 0, time.UTC)
		says := At([]fleet.Schedule{s}, now)
		if err == nil && !says.Closed && !says.ClosesAt.After(now) {
			t.Errorf("%+v: %+v", s, says)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%+v took %s", s, took)
		}
		if err != nil && !strings.Contains(err.Error(), ": ") {
			t.Errorf("%v names no field", err)
		}
	})
}

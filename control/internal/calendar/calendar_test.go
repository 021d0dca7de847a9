// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package calendar

import (
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func window(name, cron, zone string, length time.Duration) fleet.Schedule {
	return fleet.Schedule{Name: name, Kind: fleet.ScheduleWindow, Cron: cron, Zone: zone, Length: length}
}

func TestSpansOnDaysWhoseClockChanges(t *testing.T) {
	rule := func(text, from, zone string, length time.Duration) fleet.Schedule {
		return fleet.Schedule{Kind: fleet.ScheduleWindow, Rule: text, From: at(t, from), Zone: zone, Length: length}
	}
	for name, c := range map[string]struct {
		of   fleet.Schedule
		from string
		want []string // from/until, in UTC
	}{
		"Berlin skips 02:30: it is where it would have been, and as long": {
			window("", "30 2 * * *", "Europe/Berlin", 2*time.Hour), "2026-03-28T12:00:00Z",
			[]string{"2026-03-29T01:30:00Z/2026-03-29T03:30:00Z", "2026-03-30T00:30:00Z/2026-03-30T02:30:00Z"},
		},
		"Berlin has 02:30 twice: it is the first, and as long": {
			window("", "30 2 * * *", "Europe/Berlin", 2*time.Hour), "2026-10-24T12:00:00Z",
			[]string{"2026-10-25T00:30:00Z/2026-10-25T02:30:00Z", "2026-10-26T01:30:00Z/2026-10-26T03:30:00Z"},
		},
		"a window that is open when the clock changes lasts no longer and no shorter": {
			window("", "0 23 * * 6", "Europe/Berlin", 6*time.Hour), "2026-10-24T12:00:00Z",
			[]string{"2026-10-24T21:00:00Z/2026-10-25T03:00:00Z"},
		},
		"New York skips 02:30": {
			rule("FREQ=DAILY", "2026-01-01T07:30:00Z", "America/New_York", time.Hour), "2026-03-08T00:00:00Z",
			[]string{"2026-03-08T07:30:00Z/2026-03-08T08:30:00Z", "2026-03-09T06:30:00Z/2026-03-09T07:30:00Z"},
		},
		"New York has 01:30 twice": {
			rule("FREQ=WEEKLY;BYDAY=SU;BYHOUR=1;BYMINUTE=30", "2026-01-01T00:00:00Z", "America/New_York", time.Hour), "2026-10-31T00:00:00Z",
			[]string{"2026-11-01T05:30:00Z/2026-11-01T06:30:00Z", "2026-11-08T06:30:00Z/2026-11-08T07:30:00Z"},
		},
		"Lord Howe skips half an hour": {
			window("", "15 2 * * *", "Australia/Lord_Howe", time.Hour), "2026-10-03T00:00:00Z",
			[]string{"2026-10-03T15:45:00Z/2026-10-03T16:45:00Z", "2026-10-04T15:15:00Z/2026-10-04T16:15:00Z"},
		},
		"Lord Howe has half an hour twice": {
			window("", "45 1 * * *", "Australia/Lord_Howe", time.Hour), "2026-04-04T00:00:00Z",
			[]string{"2026-04-04T14:45:00Z/2026-04-04T15:45:00Z", "2026-04-05T15:15:00Z/2026-04-05T16:15:00Z"},
		},
		"what a skipped clock puts out of order is told in order": {
			window("", "0,30 2,3 * * *", "Europe/Berlin", 10*time.Minute), "2026-03-29T00:00:00Z",
			[]string{
				"2026-03-29T01:00:00Z/2026-03-29T01:10:00Z", "2026-03-29T01:30:00Z/2026-03-29T01:40:00Z",
				"2026-03-30T00:00:00Z/2026-03-30T00:10:00Z",
			},
		},
		"Samoa had no 30 December 2011": {
			window("", "0 12 30 12 *", "Pacific/Apia", time.Hour), "2011-12-29T00:00:00Z",
			[]string{"2011-12-30T22:00:00Z/2011-12-30T23:00:00Z", "2012-12-29T22:00:00Z/2012-12-29T23:00:00Z"},
		},
		"starts that follow each other without a break are one span": {
			window("", "0 1,2,3 * * *", "UTC", time.Hour), "2026-05-01T00:00:00Z",
			[]string{"2026-05-01T01:00:00Z/2026-05-01T04:00:00Z", "2026-05-02T01:00:00Z/2026-05-02T04:00:00Z"},
		},
		"the last Sunday of a month": {
			rule("FREQ=MONTHLY;BYDAY=-1SU", "2020-01-26T03:00:00Z", "UTC", time.Hour), "2026-05-02T00:00:00Z",
			[]string{"2026-05-31T03:00:00Z/2026-05-31T04:00:00Z", "2026-06-28T03:00:00Z/2026-06-28T04:00:00Z"},
		},
		"every other week, counted from the first": {
			rule("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,SA", "2026-01-05T03:00:00Z", "UTC", time.Hour), "2026-06-08T00:00:00Z",
			[]string{
				"2026-06-08T03:00:00Z/2026-06-08T04:00:00Z", "2026-06-13T03:00:00Z/2026-06-13T04:00:00Z",
				"2026-06-22T03:00:00Z/2026-06-22T04:00:00Z",
			},
		},
		"a rule that ends, by count and by a local time": {
			rule("FREQ=DAILY;COUNT=2", "2026-01-05T03:00:00Z", "UTC", time.Hour), "2026-01-06T00:00:00Z",
			[]string{"2026-01-06T03:00:00Z/2026-01-06T04:00:00Z", ""},
		},
		"UNTIL is of the zone": {
			rule("FREQ=DAILY;UNTIL=20260701T023000", "2026-06-01T00:30:00Z", "Europe/Berlin", time.Hour), "2026-06-30T12:00:00Z",
			[]string{"2026-07-01T00:30:00Z/2026-07-01T01:30:00Z", ""},
		},
		"UNTIL in UTC": {
			rule("FREQ=DAILY;UNTIL=20260701T002900Z", "2026-06-01T00:30:00Z", "Europe/Berlin", time.Hour), "2026-06-29T12:00:00Z",
			[]string{"2026-06-30T00:30:00Z/2026-06-30T01:30:00Z", ""},
		},
		"one that is on is told from its beginning": {
			window("", "0 0 * * *", "UTC", 2*time.Hour), "2026-06-29T01:00:00Z", []string{"2026-06-29T00:00:00Z/2026-06-29T02:00:00Z"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := Check(c.of); err != nil {
				t.Fatal(err)
			}
			got, err := Preview(c.of, at(t, c.from), len(c.want))
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range c.want {
				is := ""
				if i < len(got) {
					is = got[i].From.UTC().Format(time.RFC3339) + "/" + got[i].Until.UTC().Format(time.RFC3339)
				}
				if is != want {
					t.Errorf("span %d: got %q, want %q", i, is, want)
				}
			}
		})
	}
}

func TestAt(t *testing.T) {
	nights := window("nights", "0 2 * * *", "UTC", 2*time.Hour)
	mornings := window("mornings", "0 4 * * *", "UTC", time.Hour)
	freeze := fleet.Schedule{
		Name: "year end", Kind: fleet.ScheduleFreeze, Zone: "UTC",
		From: at(t, "2026-06-01T03:00:00Z"), Until: at(t, "2026-06-03T00:00:00Z"),
	}
	over := window("over", "", "UTC", 0)
	over.From, over.Until = at(t, "2025-01-01T00:00:00Z"), at(t, "2025-01-02T00:00:00Z")
	always := window("always", "0 * * * *", "UTC", time.Hour)
	broken := window("broken", "", "Europe/Berlin", 0)
	for name, c := range map[string]struct {
		of              []fleet.Schedule
		now             string
		closed, say     string
		until, closesAt string
	}{
		"nothing is always open":                      {now: "2026-05-01T00:00:00Z"},
		"outside of a window":                         {of: []fleet.Schedule{nights}, now: "2026-05-01T00:00:00Z", say: "outside", until: "2026-05-01T02:00:00Z"},
		"its first moment is inside":                  {of: []fleet.Schedule{nights}, now: "2026-05-01T02:00:00Z", closesAt: "2026-05-01T04:00:00Z"},
		"its last is outside":                         {of: []fleet.Schedule{nights}, now: "2026-05-01T04:00:00Z", say: "outside", until: "2026-05-02T02:00:00Z"},
		"windows unite":                               {of: []fleet.Schedule{mornings, nights}, now: "2026-05-01T03:00:00Z", closesAt: "2026-05-01T05:00:00Z"},
		"a freeze ends a window":                      {of: []fleet.Schedule{nights, freeze}, now: "2026-06-01T02:00:00Z", closesAt: "2026-06-01T03:00:00Z"},
		"a freeze wins, and windows come after it":    {of: []fleet.Schedule{nights, freeze}, now: "2026-06-01T03:30:00Z", say: "\"year end\"", until: "2026-06-03T02:00:00Z"},
		"a freeze alone":                              {of: []fleet.Schedule{freeze}, now: "2026-06-01T03:30:00Z", say: "\"year end\"", until: "2026-06-03T00:00:00Z"},
		"before a freeze":                             {of: []fleet.Schedule{freeze}, now: "2026-05-01T00:00:00Z", closesAt: "2026-06-01T03:00:00Z"},
		"outside of a window, and the next is frozen": {of: []fleet.Schedule{nights, freeze}, now: "2026-06-01T04:30:00Z", say: "\"year end\"", until: "2026-06-03T02:00:00Z"},
		"a window that never comes again":             {of: []fleet.Schedule{over}, now: "2026-06-01T04:30:00Z", say: "not known"},
		"what cannot be read lets nobody in":          {of: []fleet.Schedule{nights, broken}, now: "2026-05-01T03:00:00Z", say: "\"broken\""},
		"windows without a break":                     {of: []fleet.Schedule{always, freeze}, now: "2026-05-30T00:30:00Z", closesAt: "2026-06-01T03:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			got := At(c.of, at(t, c.now))
			if got.Closed != (c.say != "") || !strings.Contains(got.Words, c.say) {
				t.Errorf("got %+v, want it to say %q", got, c.say)
			}
			for what, times := range map[string]struct {
				got  time.Time
				want string
			}{"until": {got.Until, c.until}, "closes at": {got.ClosesAt, c.closesAt}} {
				want := time.Time{}
				if times.want != "" {
					want = at(t, times.want)
				}
				if !times.got.Equal(want) {
					t.Errorf("%s %s, want %s", what, times.got, want)
				}
			}
		})
	}
}

func TestCheckNamesTheField(t *testing.T) {
	from := at(t, "2026-01-01T00:00:00Z")
	good := window("w", "0 2 * * *", "Europe/Berlin", time.Hour)
	rule := fleet.Schedule{Kind: fleet.ScheduleFreeze, Rule: "FREQ=DAILY", From: from, Zone: "UTC", Length: time.Hour}
	for name, c := range map[string]struct {
		of     fleet.Schedule
		change func(*fleet.Schedule)
		want   string
	}{
		"no kind":                  {good, func(s *fleet.Schedule) { s.Kind = "" }, "kind: "},
		"no zone":                  {good, func(s *fleet.Schedule) { s.Zone = "" }, "zone: "},
		"the machine's zone":       {good, func(s *fleet.Schedule) { s.Zone = "Local" }, "zone: "},
		"a path for a zone":        {good, func(s *fleet.Schedule) { s.Zone = "../../etc/passwd" }, "zone: "},
		"both":                     {good, func(s *fleet.Schedule) { s.Rule = "FREQ=DAILY" }, "cron, rule: "},
		"neither":                  {good, func(s *fleet.Schedule) { s.Cron = "" }, "cron, rule, from, until: "},
		"no length":                {good, func(s *fleet.Schedule) { s.Length = 0 }, "length: "},
		"a long length":            {good, func(s *fleet.Schedule) { s.Length = 32 * 24 * time.Hour }, "length: "},
		"cron with from":           {good, func(s *fleet.Schedule) { s.From = from }, "from, until: "},
		"cron of six fields":       {good, func(s *fleet.Schedule) { s.Cron = "0 0 2 * * *" }, "cron: "},
		"cron by name":             {good, func(s *fleet.Schedule) { s.Cron = "@daily" }, "cron: "},
		"cron with a zone":         {good, func(s *fleet.Schedule) { s.Cron = "TZ=UTC" }, "cron: "},
		"cron each minute":         {good, func(s *fleet.Schedule) { s.Cron = "* * * * *" }, "cron: "},
		"cron that never fires":    {good, func(s *fleet.Schedule) { s.Cron = "0 0 30 2 *" }, "cron or rule: "},
		"cron with a huge step":    {good, func(s *fleet.Schedule) { s.Cron = "0 0/18446744073709551615 * * *" }, "cron: "},
		"a span that ends first":   {rule, func(s *fleet.Schedule) { s.Rule, s.Length, s.Until = "", 0, from }, "until: "},
		"a span with a length":     {rule, func(s *fleet.Schedule) { s.Rule, s.Until = "", from.Add(time.Hour) }, "length: "},
		"a rule without a start":   {rule, func(s *fleet.Schedule) { s.From = time.Time{} }, "from: "},
		"a rule with an end":       {rule, func(s *fleet.Schedule) { s.Until = from.Add(time.Hour) }, "until: "},
		"no rule":                  {rule, func(s *fleet.Schedule) { s.Rule = "every day" }, "rule: "},
		"a rule of two lines":      {rule, func(s *fleet.Schedule) { s.Rule = "DTSTART:20260101T000000Z\nFREQ=DAILY" }, "rule: "},
		"a rule of seconds":        {rule, func(s *fleet.Schedule) { s.Rule = "FREQ=SECONDLY" }, "rule: "},
		"a rule of many hours":     {rule, func(s *fleet.Schedule) { s.Rule = "FREQ=DAILY;BYHOUR=1,2,3,4,5;BYMINUTE=1,2,3,4,5" }, "rule: "},
		"a rule that never occurs": {rule, func(s *fleet.Schedule) { s.Rule = "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30" }, "cron or rule: "},
		"a rule of none left":      {rule, func(s *fleet.Schedule) { s.Rule = "FREQ=DAILY;UNTIL=20251231T000000Z" }, "cron or rule: "},
		"a rule that counts far":   {rule, func(s *fleet.Schedule) { s.Rule = "FREQ=DAILY;COUNT=1001" }, "rule: "},
		"a month of 53 Mondays":    {rule, func(s *fleet.Schedule) { s.Rule = "FREQ=MONTHLY;BYDAY=53MO" }, "rule: "},
		"a second Monday a week":   {rule, func(s *fleet.Schedule) { s.Rule = "FREQ=WEEKLY;BYDAY=2MO" }, "rule: "},
		"a long text":              {rule, func(s *fleet.Schedule) { s.Rule = "FREQ=DAILY;BYMONTHDAY=1" + strings.Repeat(",1", 300) }, "rule: "},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.of
			c.change(&s)
			if err := Check(s); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s…", err, c.want)
			}
		})
	}
}

// BenchmarkNever is what the most that a schedule can cost is like: one that is looked for in vain.
func BenchmarkNever(b *testing.B) {
	for name, rule := range map[string]string{
		"daily": "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "weekly": "FREQ=WEEKLY;BYMONTH=2;BYMONTHDAY=30;BYDAY=MO,TU,WE,TH,FR,SA,SU",
		"monthly": "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30", "yearly": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
		"yearly by weekday": "FREQ=YEARLY;BYMONTH=1;BYMONTHDAY=30;BYDAY=1MO,2MO,3MO,4MO,1TU,2TU,3TU,4TU",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				err := Check(fleet.Schedule{Kind: fleet.ScheduleFreeze, Rule: rule, From: epoch, Zone: "Europe/Berlin", Length: time.Hour})
				if err == nil {
					b.Fatal("it is found")
				}
			}
		})
	}
}

// BenchmarkAt is what one decision for a rollout costs if a tenant has as many schedules as it can.
func BenchmarkAt(b *testing.B) {
	now := time.Date(2026, 11, 1, 5, 30, 0, 0, time.UTC)
	for name, s := range map[string]fleet.Schedule{
		"cron":    window("c", "0 * * * *", "Europe/Berlin", time.Minute),
		"weekly":  {Name: "w", Kind: fleet.ScheduleWindow, Rule: "FREQ=WEEKLY;BYDAY=SU", From: epoch, Zone: "Europe/Berlin", Length: time.Hour},
		"counted": {Name: "n", Kind: fleet.ScheduleWindow, Rule: "FREQ=DAILY;COUNT=1000;BYHOUR=0,1,2,3,4,5,6,7", From: epoch, Zone: "Europe/Berlin", Length: time.Minute},
		"rare":    {Name: "r", Kind: fleet.ScheduleWindow, Rule: "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", From: epoch, Zone: "Europe/Berlin", Length: time.Minute},
	} {
		schedules := make([]fleet.Schedule, fleet.MaxSchedules)
		for i := range schedules {
			schedules[i] = s
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				At(schedules, now)
			}
		})
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

type arrived struct {
	number uint64
	full   bool
	after  time.Duration // since the first
	want   Step
}

func TestSequence(t *testing.T) {
	relay, ask, silent := Step{Relay: true}, Step{Relay: true, Ask: true}, Step{}
	for name, test := range map[string]struct {
		begin    Sequence
		arrivals []arrived
	}{
		"first report":                {Begin(0, false), []arrived{{0, true, 0, relay}, {1, false, 0, relay}}},
		"reconnect with known state":  {Begin(41, true), []arrived{{42, false, 0, relay}, {43, false, 0, relay}}},
		"reconnect with a gap":        {Begin(41, true), []arrived{{43, false, 0, ask}, {44, false, 0, relay}, {45, true, 0, relay}}},
		"reconnect, state unknown":    {Begin(0, false), []arrived{{9, false, 0, ask}}},
		"reconnect, everything again": {Begin(41, true), []arrived{{50, true, 0, relay}}},
		"gap":                         {Begin(0, false), []arrived{{0, true, 0, relay}, {2, false, 0, ask}, {3, false, 0, relay}}},
		"gap, filled by the report":   {Begin(0, false), []arrived{{0, true, 0, relay}, {2, true, 0, relay}}},
		"asked again after 30 s":      {Begin(0, false), []arrived{{0, true, 0, relay}, {2, false, 0, ask}, {3, false, 29 * time.Second, relay}, {4, false, 30 * time.Second, ask}, {5, false, 31 * time.Second, relay}}},
		"full state ends the doubt":   {Begin(0, false), []arrived{{0, true, 0, relay}, {2, false, 0, ask}, {3, true, 0, relay}, {4, false, time.Minute, relay}}},
		"two gaps, asked once":        {Begin(0, false), []arrived{{0, true, 0, relay}, {2, false, 0, ask}, {9, false, time.Second, relay}}},
		"repeated":                    {Begin(0, false), []arrived{{0, true, 0, relay}, {1, false, 0, relay}, {1, false, 0, silent}, {2, false, 0, relay}}},
		"restart":                     {Begin(0, false), []arrived{{0, true, 0, relay}, {1, false, 0, relay}, {0, true, 0, Step{Relay: true, Restart: true}}, {1, false, 0, relay}}},
		"restart after one report":    {Begin(0, false), []arrived{{0, true, 0, relay}, {0, true, 0, Step{Relay: true, Restart: true}}}},
		"restart, nothing said":       {Begin(0, false), []arrived{{5, true, 0, relay}, {0, false, 0, Step{Ask: true}}, {1, false, 0, silent}, {2, true, 0, Step{Relay: true, Restart: true}}, {3, false, 0, relay}}},
	} {
		q := test.begin
		for i, a := range test.arrivals {
			extent := Partly
			if a.full {
				extent, a.want.Whole = Whole, a.want.Relay
			}
			var step Step
			if q, step = q.Next(a.number, extent, noon.Add(a.after)); step != a.want {
				t.Errorf("%s: message %d (number %d) gives %+v, want %+v", name, i, a.number, step, a.want)
			}
		}
	}
}

func TestShedMessageLeavesDoubt(t *testing.T) {
	q, _ := Begin(0, false).Next(0, Whole, noon)
	q = q.Shed(1)
	if _, step := q.Next(2, Partly, noon); step != (Step{Relay: true, Ask: true}) {
		t.Errorf("after a shed message: %+v", step)
	}
}

// A description alone is no full state: after a gap it is asked for, and once that has come to nothing a few times, what
// the agent says of itself must do.
func TestDescriptionAloneHealsNothing(t *testing.T) {
	q := Begin(41, true)
	now := noon
	for asked := 0; asked < patience; now = now.Add(AskAgainAfter) {
		var step Step
		if q, step = q.Next(q.last+2, Described, now); step != (Step{Relay: true, Ask: true}) {
			t.Fatalf("after being asked %d times: %+v", asked, step)
		}
		asked++
	}
	if _, step := q.Next(q.last+1, Partly, now); step != (Step{Relay: true, Ask: true}) {
		t.Errorf("a part of it: %+v", step)
	}
	if q, step := q.Next(q.last+1, Described, now); step != (Step{Relay: true, Whole: true}) || q.doubtful || q.asks != 0 {
		t.Errorf("in the end: %+v, %+v", step, q)
	}
	// What begins anew is asked for the rest.
	for number, want := range map[uint64]Step{
		0: {Relay: true, Restart: true, Ask: true}, 7: {Relay: true, Restart: true, Ask: true}, 41: {Relay: true, Ask: true}, 42: {Relay: true},
	} {
		q, _ := Begin(40, true).Next(41, Partly, noon)
		if number == 41 {
			q = Begin(39, true)
		}
		if _, step := q.Next(number, Described, noon); step != want {
			t.Errorf("number %d gives %+v, want %+v", number, step, want)
		}
	}
}

// Whatever arrives: what is relayed between two restarts has growing numbers, and as
// soon as a number is missing the full state is asked for until it comes, at most once
// in 30 s.
func TestSequenceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := Begin(rapid.Uint64Range(0, 5).Draw(t, "last"), rapid.Bool().Draw(t, "known"))
		now := noon
		var last uint64
		var begun, complete bool
		var asked time.Time
		if q.known {
			complete = true
		}
		previous := q.last
		for range rapid.IntRange(1, 40).Draw(t, "messages") {
			number, extent := rapid.Uint64Range(0, 9).Draw(t, "number"), Extent(rapid.IntRange(0, 2).Draw(t, "extent"))
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second)
			var step Step
			q, step = q.Next(number, extent, now)
			full := step.Whole
			if step.Restart && (extent == Partly || !step.Relay) {
				t.Fatalf("a restart without a description: %+v", step)
			}
			if full && extent == Partly || extent == Whole && step.Relay && !full {
				t.Fatalf("%v is taken for whole: %t", extent, full)
			}
			if step.Relay && begun && !step.Restart && number <= last {
				t.Fatalf("number %d was relayed after %d", number, last)
			}
			if step.Relay {
				complete = full || complete && number == previous+1
				last, previous, begun = number, number, true
			} else if number != last {
				complete = false
			}
			if step.Ask && complete {
				t.Fatal("the full state was asked for although nothing is missing")
			}
			if !complete && !step.Ask && (asked.IsZero() || now.Sub(asked) >= AskAgainAfter) {
				t.Fatal("something is missing and was not asked for")
			}
			if step.Ask {
				asked = now
			}
			if complete {
				asked = time.Time{}
			}
		}
	})
}

func TestBucket(t *testing.T) {
	b := FullBucket(noon)
	taken := 0
	for ok := true; ok; taken++ {
		b, ok = b.Take(noon)
	}
	if taken-1 != MessageBurst {
		t.Errorf("a full bucket holds %d", taken-1)
	}
	var ok bool
	if b, ok = b.Take(noon.Add(time.Second / MessagesPerSecond)); !ok {
		t.Error("nothing was refilled")
	}
	if _, ok = b.Take(noon); ok {
		t.Error("a clock that goes back refilled it")
	}
	b, _ = b.Take(noon.Add(24 * time.Hour))
	if b.tokens != MessageBurst-1 {
		t.Errorf("after a day it holds %v", b.tokens)
	}
}

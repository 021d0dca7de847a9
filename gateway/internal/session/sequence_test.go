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
			var step Step
			if q, step = q.Next(a.number, a.full, noon.Add(a.after)); step != a.want {
				t.Errorf("%s: message %d (number %d) gives %+v, want %+v", name, i, a.number, step, a.want)
			}
		}
	}
}

func TestShedMessageLeavesDoubt(t *testing.T) {
	q, _ := Begin(0, false).Next(0, true, noon)
	q = q.Shed(1)
	if _, step := q.Next(2, false, noon); step != (Step{Relay: true, Ask: true}) {
		t.Errorf("after a shed message: %+v", step)
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
			number, full := rapid.Uint64Range(0, 9).Draw(t, "number"), rapid.Bool().Draw(t, "full")
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second)
			var step Step
			q, step = q.Next(number, full, now)
			if step.Restart && (!full || !step.Relay) {
				t.Fatalf("a restart without full state: %+v", step)
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

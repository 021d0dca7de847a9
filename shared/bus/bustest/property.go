// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bustest

import (
	"errors"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/shared/bus"
)

// everyMessageOrLost runs random interleavings of publishing, reading, trimming
// and whatever faults the harness declares, and holds them to the one promise of
// the bus: a reader that goes on from Next has each accepted message once and in
// order, or a loss is reported.
func everyMessageOrLost(t *testing.T, h Harness) {
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		s := &story{t: t, rt: rt, h: &h, partition: round % bus.Partitions}
		s.after = begin(t, h.Bus, s.partition)
		trim(t, h.Bus, s.partition, s.after)
		actions := map[string]func(*rapid.T){"publish": s.publish, "read": s.read, "trim": s.trimRead, "trim ahead": s.trimAhead}
		if h.Flush != nil {
			actions["flush"] = func(*rapid.T) { h.Flush(t); s.losses++ }
		}
		if h.Restart != nil {
			actions["restart"] = func(*rapid.T) { h.Bus = h.Restart(t); s.losses++ }
		}
		if h.LoseTail != nil {
			// A reader whose last message is gone hears of it, reads what is retained once
			// more, and hears of it again where the new messages begin.
			actions["lose tail"] = func(*rapid.T) { h.LoseTail(t, 1); s.losses += 2 }
		}
		rt.Repeat(actions)
		for s.next < len(s.accepted) {
			s.read(rt)
		}
	})
}

// story is one publisher and one reader of one partition.
type story struct {
	t         *testing.T
	rt        *rapid.T
	h         *Harness
	partition int

	accepted []string
	next     int // index in accepted of the message that the reader must see next
	after    bus.Position
	losses   int // that may be reported, because something happened that often
}

func (s *story) publish(rt *rapid.T) {
	for range rapid.IntRange(1, 8).Draw(rt, "messages") {
		text := strconv.Itoa(len(s.accepted))
		err := s.h.Bus.Publish(within(s.t), outgoing(s.partition, text)...)
		if errors.Is(err, bus.ErrFull) {
			return
		}
		if err != nil {
			rt.Fatalf("Publish: %v", err)
		}
		s.accepted = append(s.accepted, text)
	}
}

// read reads one batch if there is one to expect; otherwise it would wait.
func (s *story) read(rt *rapid.T) {
	if s.next == len(s.accepted) {
		return
	}
	limit := rapid.IntRange(1, 5).Draw(rt, "limit")
	batch, err := s.h.Bus.Read(within(s.t), s.partition, s.after, limit)
	if err != nil {
		rt.Fatalf("Read: %v", err)
	}
	if err := batchError(batch, limit); err != nil {
		rt.Fatal(err)
	}
	if batch.Lost {
		s.skipTo(rt, batch)
	}
	for _, text := range textsOf(batch) {
		if s.next == len(s.accepted) || text != s.accepted[s.next] {
			rt.Fatalf("read %s, want message %d of %d (lost: %v)", text, s.next, len(s.accepted), batch.Lost)
		}
		s.next++
	}
	s.after = batch.Next
}

// skipTo moves the expectation to where a reported loss allows it to be: at the
// first message of the batch, or, without one, past all there are.
func (s *story) skipTo(rt *rapid.T, batch bus.Batch) {
	if s.losses == 0 {
		rt.Fatal("more losses were reported than happened to the bus")
	}
	s.losses--
	s.next = len(s.accepted)
	if len(batch.Messages) == 0 {
		return
	}
	first, err := strconv.Atoi(string(batch.Messages[0].Payload))
	if err != nil || first >= len(s.accepted) {
		rt.Fatalf("read %q, which nobody published", batch.Messages[0].Payload)
	}
	s.next = first
}

func (s *story) trimRead(*rapid.T) { trim(s.t, s.h.Bus, s.partition, s.after) }

func (s *story) trimAhead(*rapid.T) {
	trim(s.t, s.h.Bus, s.partition, begin(s.t, s.h.Bus, s.partition))
	s.losses++
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/shared/bus"
)

// Whatever somebody with every right does to a stream, no loss is silent: a reader that
// is told of none has each message once and in order.
func TestSabotage(t *testing.T) {
	s := startServer(t)
	l := newLink(t, s)
	b := install(t, l, s)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		v := &victim{t: t, rt: rt, b: b, partition: round % bus.Partitions}
		key := b.control.names.uplink(v.partition).key
		v.after = start(t, b, v.partition)
		some := func() string { // an entry, or one that is not there
			entries := s.admin.XRange(t.Context(), key, "-", "+").Val()
			if i := rapid.IntRange(0, len(entries)).Draw(rt, "entry"); i < len(entries) {
				return entries[i].ID
			}
			return "1-77"
		}
		ruins := []func(){
			func() { s.do("DEL", key) },
			func() { s.do("PEXPIRE", key, 0) },
			func() { s.do("FLUSHALL") },
			func() { s.loseTail(1); l.cut() },
			func() { s.try("XADD", key, "18446744073709551615-1", "a", "b") },
			func() { s.try("XADD", key, "0-7", "a", "b") },
			func() { s.try("XADD", key, "1-18446744073709551615", "a", "b") },
			func() { s.try("XADD", key, idNext, "a", "b") },
			func() { s.do("XTRIM", key, "MAXLEN", rapid.IntRange(0, 5).Draw(rt, "length")) },
		}
		rt.Repeat(map[string]func(*rapid.T){
			"publish":      func(*rapid.T) { v.publish(b.gateways["one"], 1) },
			"publish more": func(*rapid.T) { v.publish(b.gateways["other"], 5) },
			"read":         func(*rapid.T) { v.read(time.Second) },
			"trim":         func(*rapid.T) { v.trim() },
			"delete":       func(*rapid.T) { s.do("XDEL", key, some()) },
			"ruin":         func(*rapid.T) { ruins[rapid.IntRange(0, len(ruins)-1).Draw(rt, "ruin")]() },
		})
		v.catchUp()
	})
}

// victim publishes numbers and reads them.
type victim struct {
	t         *testing.T
	rt        *rapid.T
	b         *installation
	partition int
	after     bus.Position

	accepted int
	next     int // the number that must come next unless a loss is told
}

func (v *victim) publish(by *Bus, count int) {
	messages := make([]bus.Outgoing, count)
	for i := range messages {
		messages[i] = bus.Outgoing{Partition: v.partition, Payload: []byte(strconv.Itoa(v.accepted + i))}
	}
	err := by.Publish(within(v.t), messages...)
	switch {
	case err == nil:
		v.accepted += count
	// A stream that is jammed or full takes nothing; it may have been made and unmade.
	case !errors.Is(err, bus.ErrUnavailable) && !errors.Is(err, bus.ErrFull):
		v.rt.Fatalf("Publish: %v", err)
	}
}

// read reads once, if there may be something, and checks what it gets.
func (v *victim) read(patience time.Duration) bool {
	if v.next == v.accepted {
		patience = 20 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(v.t.Context(), patience)
	defer cancel()
	batch, err := v.b.Read(ctx, v.partition, v.after, rapid.IntRange(1, 5).Draw(v.rt, "limit"))
	if errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if err != nil {
		v.rt.Fatalf("Read: %v", err)
	}
	for i, message := range batch.Messages {
		number, err := strconv.Atoi(string(message.Payload))
		if err != nil || number >= v.accepted {
			v.rt.Fatalf("read %q, which nobody published", message.Payload)
		}
		if number != v.next && (!batch.Lost || i > 0) {
			v.rt.Fatalf("read %d, want %d (lost: %v)", number, v.next, batch.Lost)
		}
		v.next = number + 1
	}
	if batch.Lost && len(batch.Messages) == 0 {
		v.next = v.accepted
	}
	v.after = batch.Next
	return true
}

func (v *victim) trim() {
	if err := v.b.Trim(within(v.t), v.partition, v.after); err != nil {
		v.rt.Fatalf("Trim: %v", err)
	}
}

// catchUp reads to the end, which is reached or told to be gone.
func (v *victim) catchUp() {
	for v.next < v.accepted {
		if !v.read(patience) {
			v.rt.Fatalf("%d of %d messages were read, and no loss was told", v.next, v.accepted)
		}
	}
}

// What is deleted from the end is told within seconds, though nothing follows it.
func TestDeletedEnd(t *testing.T) {
	s := startServer(t)
	b := install(t, newLink(t, s), s)
	after := start(t, b, 0)
	publish(t, b, 0, "a", "b", "c")
	at := wantReads(t, b, 0, after, "a")
	s.do("XDEL", b.control.names.uplink(0).key, "1-2", "1-3")
	at = wantReads(t, b, 0, at, "lost")
	publish(t, b, 0, "d")
	at = wantReads(t, b, 0, at, "d")
	if err := b.Trim(within(t), 0, at); err != nil {
		t.Fatal(err)
	}
	publish(t, b, 0, "e")
	wantReads(t, b, 0, at, "e")
}

// Somebody who may append puts an entry where none can follow: the next reader begins the
// stream anew, and publishers go on.
func TestJammedStream(t *testing.T) {
	s := startServer(t)
	l := newLink(t, s)
	b := install(t, l, s)
	for _, jam := range []string{"18446744073709551615-18446744073709551615", "2-1", "1-18446744073709551615", "1-9223372036854775807"} {
		t.Run(jam, func(t *testing.T) {
			after := start(t, b, 0)
			publish(t, b, 0, "a")
			at := wantReads(t, b, 0, after, "a")
			key := b.control.names.uplink(0).key
			if err := raw(t, l.url(b.prefix+userOf("one"))).Do(t.Context(), "XADD", key, jam, "a", "b").Err(); err != nil {
				t.Fatal(err)
			}
			err := b.Publish(within(t), bus.Outgoing{Payload: []byte("b")})
			if err != nil && !errors.Is(err, bus.ErrUnavailable) {
				t.Fatalf("Publish: %v", err)
			}
			at = wantReads(t, b, 0, at, "lost")
			publish(t, b, 0, "c")
			wantReads(t, b, 0, at, "c")
		})
	}
	t.Run("of which the last entry is deleted", func(t *testing.T) {
		at := start(t, b, 1)
		key := b.control.names.uplink(1).key
		s.do("XADD", key, "9-9", "a", "b")
		s.do("XDEL", key, "9-9")
		at = wantReads(t, b, 1, at, "lost")
		publish(t, b, 1, "c")
		wantReads(t, b, 1, at, "c")
	})
}

// Entries that are none are skipped and told, whatever they are.
func TestEntriesThatAreNone(t *testing.T) {
	s := startServer(t)
	b := install(t, newLink(t, s), s)
	at := start(t, b, 0)
	key := b.control.names.uplink(0).key
	large, stamp := make([]byte, bus.MaxPayload+1), b.control.line.Load().stamp(1)
	for _, fields := range [][]any{
		{"a", "b"},
		{fieldStamp, "short", fieldPayload, "x"},
		{fieldPayload, "without a stamp"},
		{fieldStamp, stamp, fieldPayload, large},
		{fieldStamp, stamp, fieldPayload, "x", fieldExpiry, "soon"},
		{fieldStamp, stamp, fieldPayload, "x", fieldExpiry, "-1"},
		{fieldStamp, stamp, fieldPayload, "x", "more", "than there is"},
	} {
		s.do(append([]any{"XADD", key, idNext}, fields...)...)
		publish(t, b, 0, "a")
		at = wantReads(t, b, 0, at, "lost", "a")
	}
	s.do("SET", key, "no stream")
	if _, err := b.Read(within(t), 0, at, 1); err == nil || errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("reading what is no stream: %v", err)
	}
	if err := b.Publish(within(t), bus.Outgoing{}); err == nil || errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("appending to what is no stream: %v", err)
	}
}

// Messages that expired make room wherever they are, and are told.
func TestExpiredMakeRoom(t *testing.T) {
	s := startServer(t)
	b := install(t, newLink(t, s), s)
	at := startDownlinks(t, b, "gateway")
	sendTexts(t, b, "gateway", "long")
	short := make([][]byte, capacity-2)
	if err := b.Send(within(t), "gateway", 50*time.Millisecond, short...); err != nil {
		t.Fatal(err)
	}
	sendTexts(t, b, "gateway", "too")
	want := []string{"long", "lost", "too"}
	eventually(t, func() error {
		err := b.Send(within(t), "gateway", time.Hour, []byte("new"), []byte("newer"))
		if errors.Is(err, bus.ErrFull) {
			return bus.ErrUnavailable // not yet
		}
		want = append(want, "new", "newer")
		return err
	})
	wantReceives(t, b, "gateway", at, want...)
	if n := s.admin.XLen(t.Context(), b.control.names.downlink("gateway").key).Val(); n > 5 {
		t.Errorf("the stream holds %d entries", n)
	}
}

// The streams of gateways that are gone do not stay for ever.
func TestDownlinksOfTheDead(t *testing.T) {
	s := startServer(t)
	b := install(t, newLink(t, s), s)
	life := func(gateway string) time.Duration {
		return s.admin.PTTL(t.Context(), b.control.names.prefix+":down:"+gateway).Val()
	}
	startDownlinks(t, b, "one")
	if err := b.Send(within(t), "other", 100*time.Hour, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if one, other := life("one"), life("other"); one <= 0 || one > leastIdle || other < 100*time.Hour || other > 100*time.Hour+leastIdle {
		t.Errorf("the streams live for %v and %v", one, other)
	}
	// A shorter message does not shorten the life of the longer one, nor does a read.
	sendTexts(t, b, "other", "y")
	startDownlinks(t, b, "other")
	if other := life("other"); other < 99*time.Hour {
		t.Errorf("the stream lives for %v", other)
	}
	keys := s.admin.Keys(t.Context(), b.prefix+":up:*").Val()
	if slices.ContainsFunc(keys, func(key string) bool { return s.admin.PTTL(t.Context(), key).Val() != -1 }) {
		t.Error("an uplink stream is to expire")
	}
}

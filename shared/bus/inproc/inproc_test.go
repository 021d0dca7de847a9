// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package inproc

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/bus/bustest"
)

func TestConformance(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Harness {
		clock := &clock{now: time.Unix(1_800_000_000, 0)}
		options := Options{MaxMessages: 100, Now: clock.Now}
		b := New(options)
		t.Cleanup(func() { _ = b.Close() })
		return bustest.Harness{
			Bus:      b,
			Capacity: options.MaxMessages,
			Advance:  clock.Advance,
			Restart: func(t testing.TB) bus.Bus {
				_ = b.Close()
				b = New(options)
				return b
			},
			Flush: func(testing.TB) { b.flush() },
		}
	})
}

// A waiting read is durably blocked: it neither spins nor polls.
func TestReadBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{})
		start, err := b.Read(t.Context(), 0, "", 1)
		if err != nil {
			t.Fatal(err)
		}
		var batch bus.Batch
		go func() { batch, err = b.Read(t.Context(), 0, start.Next, 1) }()
		synctest.Wait()
		if batch.Next != "" {
			t.Fatalf("the read returned %+v before there was anything", batch)
		}
		if err := b.Publish(t.Context(), bus.Outgoing{Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err != nil || len(batch.Messages) != 1 || batch.Lost {
			t.Fatalf("Read = %+v, %v", batch, err)
		}
	})
}

func TestBytesAreBounded(t *testing.T) {
	b := New(Options{MaxBytes: 1}) // raised to MaxPayload, or the largest message would never fit
	half := bus.Outgoing{Payload: bytes.Repeat([]byte("x"), bus.MaxPayload/2)}
	start, err := b.Read(t.Context(), 0, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), half, half); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), bus.Outgoing{Payload: []byte("x")}); !errors.Is(err, bus.ErrFull) {
		t.Fatalf("one byte more than fits: %v", err)
	}
	batch, err := b.Read(t.Context(), 0, start.Next, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Trim(t.Context(), 0, batch.Next); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), half); err != nil {
		t.Fatalf("after a trim: %v", err)
	}
}

// Without waiting readers the streams keep no trace of messages that are gone.
func TestTrimmedPayloadsAreReleased(t *testing.T) {
	b := New(Options{})
	for range 1000 {
		if err := b.Publish(t.Context(), bus.Outgoing{Payload: make([]byte, 1024)}); err != nil {
			t.Fatal(err)
		}
		batch, err := b.Read(t.Context(), 0, "", 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Trim(t.Context(), 0, batch.Next); err != nil {
			t.Fatal(err)
		}
	}
	s := b.uplinks[0]
	if len(s.entries) != 0 || cap(s.entries) > 16 || s.bytes != 0 {
		t.Errorf("%d entries of %d and %d bytes remain", len(s.entries), cap(s.entries), s.bytes)
	}
}

// A ttl of a second has passed after a second, not after more.
func TestExpiryIsExact(t *testing.T) {
	clock := &clock{now: time.Unix(1_800_000_000, 0)}
	b := New(Options{Now: clock.Now})
	if err := b.Send(t.Context(), "gateway", time.Second, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		advance  time.Duration
		messages int
	}{{time.Second - 1, 1}, {1, 0}} {
		clock.Advance(want.advance)
		batch, err := b.Receive(t.Context(), "gateway", "", 1)
		if err != nil || len(batch.Messages) != want.messages {
			t.Errorf("after %v more: %d messages, %v, want %d", want.advance, len(batch.Messages), err, want.messages)
		}
	}
}

// A position ahead of the stream was never given out; waiting there would pass
// over messages in silence.
func TestPositionAheadOfTheStreamIsUnknown(t *testing.T) {
	b := New(Options{})
	if err := b.Publish(t.Context(), bus.Outgoing{Payload: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	ahead := b.uplinks[0].position(2)
	if err := b.Trim(t.Context(), 0, ahead); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	batch, err := b.Read(ctx, 0, ahead, 1)
	if err != nil || !batch.Lost || len(batch.Messages) != 1 {
		t.Errorf("Read = %+v, %v", batch, err)
	}
}

// flush loses everything, as no bus of a single process does by itself: it stands
// in for the flush of a real one, so that readers of this bus in tests meet it.
func (b *Bus) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.uplinks {
		s.flush()
	}
	for _, s := range b.downlinks {
		s.flush()
	}
	b.registers.mu.Lock()
	defer b.registers.mu.Unlock()
	clear(b.registers.values)
}

func (s *stream) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(func(entry) bool { return true })
	s.wake()
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bustest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"gitlab.com/ampora/ampora/shared/bus"
)

func publishKeepsOrder(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 7)
	publish(t, h.Bus, 7, "a", "b")
	publish(t, h.Bus, 7)
	publish(t, h.Bus, 7, "", "c")
	got, _ := readAll(t, h.Bus, 7, after, 4)
	wantTexts(t, got, "a", "b", "", "c")
}

func partitionsAreApart(t *testing.T, h Harness) {
	var after [bus.Partitions]bus.Position
	var messages []bus.Outgoing
	for i := range after {
		after[i] = begin(t, h.Bus, i)
		messages = append(messages, outgoing(i, fmt.Sprint("first ", i))...)
	}
	for i := range after {
		messages = append(messages, outgoing(i, fmt.Sprint("second ", i))...)
	}
	if err := h.Bus.Publish(within(t), messages...); err != nil {
		t.Fatal(err)
	}
	trim(t, h.Bus, 0, begin(t, h.Bus, 0))
	for i := 1; i < bus.Partitions; i++ {
		got, _ := readAll(t, h.Bus, i, after[i], 2)
		wantTexts(t, got, fmt.Sprint("first ", i), fmt.Sprint("second ", i))
	}
}

func readRemovesNothing(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 0)
	publish(t, h.Bus, 0, "a", "b", "c")
	for _, limit := range []int{-1, 0, 1} {
		if got := read(t, h.Bus, 0, after, limit); len(got.Messages) != 1 {
			t.Fatalf("a limit of %d gave %d messages, want 1", limit, len(got.Messages))
		}
	}
	for range 2 {
		got, _ := readAll(t, h.Bus, 0, after, 3)
		wantTexts(t, got, "a", "b", "c")
	}
}

func readWaits(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 0)
	type result struct {
		batch bus.Batch
		err   error
	}
	const readers = 3
	results := make(chan result, readers)
	for range readers {
		go func() {
			batch, err := h.Bus.Read(within(t), 0, after, 10)
			results <- result{batch, err}
		}()
	}
	publish(t, h.Bus, 1, "another partition")
	publish(t, h.Bus, 0, "woken")
	for range readers {
		r := <-results
		if r.err != nil || r.batch.Lost {
			t.Fatalf("Read = %+v, %v", r.batch, r.err)
		}
		wantTexts(t, textsOf(r.batch), "woken")
	}
}

func readGoesOnAnywhere(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 3)
	want := numbered("m", 20)
	publish(t, h.Bus, 3, want...)
	positions := []bus.Position{after}
	for len(positions) <= len(want) {
		batch := read(t, h.Bus, 3, positions[len(positions)-1], 3)
		for _, message := range batch.Messages {
			positions = append(positions, message.Position)
		}
	}
	for i, position := range positions[:len(want)] {
		got, _ := readAll(t, h.Bus, 3, position, len(want)-i)
		wantTexts(t, got, want[i:]...)
	}
}

func readWithoutPosition(t *testing.T, h Harness) {
	empty := read(t, h.Bus, 0, "", 10)
	if !empty.Lost || len(empty.Messages) != 0 {
		t.Fatalf("reading an empty partition from the start gave %+v, want a loss without messages", empty)
	}
	publish(t, h.Bus, 0, "a", "b")
	full := read(t, h.Bus, 0, "", 10)
	if !full.Lost {
		t.Fatal("reading from the start did not report that earlier messages are unknown")
	}
	wantTexts(t, textsOf(full), "a", "b")
	got, _ := readAll(t, h.Bus, 0, empty.Next, 2)
	wantTexts(t, got, "a", "b")
}

func readAfterUnknownPosition(t *testing.T, h Harness) {
	publish(t, h.Bus, 0, "a", "b")
	for _, position := range []bus.Position{
		"x", "0", "0-0", ".", "1.1", "99999999999999999999-1", "-1", "é", "\x00",
		bus.Position(strings.Repeat("9", 128)), bus.Position(strings.Repeat("a.", 5000)),
	} {
		batch := read(t, h.Bus, 0, position, 10)
		if !batch.Lost {
			t.Fatalf("reading after %q, which the bus never gave out, did not report a loss", position)
		}
		wantTexts(t, textsOf(batch), "a", "b")
		trim(t, h.Bus, 0, position)
	}
}

func foreignPosition(t *testing.T, h, other Harness) {
	publish(t, other.Bus, 0, "x", "y", "z")
	foreign := begin(t, other.Bus, 0)
	publish(t, h.Bus, 0, "a", "b")
	trim(t, h.Bus, 0, foreign)
	batch := read(t, h.Bus, 0, foreign, 10)
	if !batch.Lost {
		t.Fatal("a position of another bus was taken for one of this bus")
	}
	wantTexts(t, textsOf(batch), "a", "b")
}

func readEndsWithItsContext(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 0)
	ctx, cancel := context.WithCancel(within(t))
	failed := make(chan error, 1)
	go func() {
		_, err := h.Bus.Read(ctx, 0, after, 1)
		failed <- err
	}()
	cancel()
	wantError(t, <-failed, context.Canceled)
	publish(t, h.Bus, 0, "later")
	got, _ := readAll(t, h.Bus, 0, after, 1)
	wantTexts(t, got, "later")
}

func callsAfterTheirContext(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 0)
	publish(t, h.Bus, 0, "a")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := h.Bus.Read(ended, 0, after, 1)
	wantError(t, err, context.Canceled)
	_, err = h.Bus.Receive(ended, "gateway", "", 1)
	wantError(t, err, context.Canceled)
	wantError(t, h.Bus.Publish(ended, outgoing(0, "b")...), context.Canceled)
	wantError(t, h.Bus.Trim(ended, 0, after), context.Canceled)
	wantError(t, h.Bus.Send(ended, "gateway", patience, []byte("b")), context.Canceled)
}

func readersDoNotSeeEachOther(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 5)
	want := numbered("m", h.Capacity/2)
	results := make(chan []string, 2)
	for _, limit := range []int{1, 7} {
		go func() { results <- follow(t, h.Bus, 5, after, limit, len(want)) }()
	}
	for _, text := range want {
		publish(t, h.Bus, 5, text)
	}
	for range 2 {
		wantTexts(t, <-results, want...)
	}
}

// publishersKeepTheirOrder has several publishers and a reader that trims behind
// itself, all at once; a full partition makes the publishers try again.
func publishersKeepTheirOrder(t *testing.T, h Harness) {
	const publishers, each = 4, 200
	after := begin(t, h.Bus, 9)
	var all sync.WaitGroup
	for p := range publishers {
		all.Go(func() {
			for _, text := range numbered(fmt.Sprintf("%d-", p), each) {
				if err := publishUntilAccepted(within(t), h.Bus, outgoing(9, text)); err != nil {
					t.Errorf("publisher %d: %v", p, err)
					return
				}
			}
		})
	}
	var got []string
	for len(got) < publishers*each {
		texts, next := readAll(t, h.Bus, 9, after, 1)
		trim(t, h.Bus, 9, next)
		got, after = append(got, texts...), next
	}
	all.Wait()
	for p := range publishers {
		prefix := fmt.Sprintf("%d-", p)
		own := slices.DeleteFunc(slices.Clone(got), func(text string) bool { return !strings.HasPrefix(text, prefix) })
		wantTexts(t, own, numbered(prefix, each)...)
	}
}

func trimForgets(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 0)
	publish(t, h.Bus, 0, "a", "b", "c")
	_, read2 := readAll(t, h.Bus, 0, after, 2)
	for range 2 {
		trim(t, h.Bus, 0, read2)
		got, _ := readAll(t, h.Bus, 0, read2, 1)
		wantTexts(t, got, "c")
	}
	trim(t, h.Bus, 0, after) // before what is trimmed already
	wantTexts(t, textsOf(read(t, h.Bus, 0, "", 10)), "c")
}

func trimAboveThePositionIsLoss(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 0)
	publish(t, h.Bus, 0, "a", "b", "c", "d")
	_, read1 := readAll(t, h.Bus, 0, after, 1)
	_, read3 := readAll(t, h.Bus, 0, after, 3)
	trim(t, h.Bus, 0, read3)
	batch := read(t, h.Bus, 0, read1, 10)
	if !batch.Lost {
		t.Fatal("two unread messages were trimmed and no loss was reported")
	}
	wantTexts(t, textsOf(batch), "d")
	trim(t, h.Bus, 0, batch.Next)
	if empty := read(t, h.Bus, 0, read1, 10); !empty.Lost || len(empty.Messages) != 0 {
		t.Fatalf("after all was trimmed unread: %+v, want a loss without messages, at once", empty)
	}
	publish(t, h.Bus, 0, "e")
	got, _ := readAll(t, h.Bus, 0, batch.Next, 1)
	wantTexts(t, got, "e")
}

func trimOfNothing(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 0)
	trim(t, h.Bus, 0, "")
	trim(t, h.Bus, 0, after)
	publish(t, h.Bus, 0, "a")
	trim(t, h.Bus, 0, "")
	trim(t, h.Bus, 0, "no position of this bus")
	got, _ := readAll(t, h.Bus, 0, after, 1)
	wantTexts(t, got, "a")
}

// publishFull has a slow reader: it loses nothing, the publisher is told instead,
// and trimming makes room.
func publishFull(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 0)
	accepted := 0
	var err error
	for ; accepted < 2*h.Capacity && err == nil; accepted++ {
		err = h.Bus.Publish(within(t), outgoing(0, "x")...)
	}
	wantError(t, err, bus.ErrFull)
	accepted-- // the one that met the bound
	if accepted < h.Capacity {
		t.Fatalf("only %d messages fit, %d must", accepted, h.Capacity)
	}
	publish(t, h.Bus, 1, "another partition has room")
	_, last := readAll(t, h.Bus, 0, after, accepted)
	wantError(t, h.Bus.Publish(within(t), outgoing(0, "reading makes no room")...), bus.ErrFull)
	trim(t, h.Bus, 0, last)
	for range h.Capacity {
		publish(t, h.Bus, 0, "y")
	}
	readAll(t, h.Bus, 0, last, h.Capacity)
}

func publishBounds(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 0)
	largest := bytes.Repeat([]byte{0xff}, bus.MaxPayload)
	tooLarge := bus.Outgoing{Payload: make([]byte, bus.MaxPayload+1)}
	small := bus.Outgoing{Payload: []byte("small")}
	wantError(t, h.Bus.Publish(within(t), small, tooLarge), bus.ErrTooLarge)
	for _, partition := range []int{-1, bus.Partitions} {
		wantError(t, h.Bus.Publish(within(t), small, bus.Outgoing{Partition: partition}), bus.ErrInvalid)
		wantError(t, h.Bus.Trim(within(t), partition, ""), bus.ErrInvalid)
		_, err := h.Bus.Read(within(t), partition, "", 1)
		wantError(t, err, bus.ErrInvalid)
	}
	if err := h.Bus.Publish(within(t), bus.Outgoing{Payload: largest}); err != nil {
		t.Fatalf("a payload of exactly MaxPayload: %v", err)
	}
	batch := read(t, h.Bus, 0, after, 1)
	if batch.Lost || !bytes.Equal(batch.Messages[0].Payload, largest) {
		t.Fatal("the largest payload came back changed, or something of a refused call was accepted")
	}
}

// follow reads count messages from a goroutine, so it reports with Errorf.
func follow(t testing.TB, b bus.Uplinks, partition int, after bus.Position, limit, count int) []string {
	var texts []string
	for len(texts) < count {
		batch, err := b.Read(within(t), partition, after, limit)
		if err == nil {
			err = batchError(batch, limit)
		}
		if err != nil || batch.Lost {
			t.Errorf("Read = lost %v, %v", batch.Lost, err)
			return texts
		}
		texts, after = append(texts, textsOf(batch)...), batch.Next
	}
	return texts
}

func publishUntilAccepted(ctx context.Context, b bus.Uplinks, messages []bus.Outgoing) error {
	for {
		err := b.Publish(ctx, messages...)
		if !errors.Is(err, bus.ErrFull) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

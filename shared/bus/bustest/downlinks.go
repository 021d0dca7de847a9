// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bustest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

func send(t testing.TB, b bus.Downlinks, gateway identity.GatewayID, ttl time.Duration, texts ...string) {
	t.Helper()
	payloads := make([][]byte, len(texts))
	for i, text := range texts {
		payloads[i] = []byte(text)
	}
	if err := b.Send(within(t), gateway, ttl, payloads...); err != nil {
		t.Fatalf("Send: %v", err)
	}
}

func receive(t testing.TB, b bus.Downlinks, gateway identity.GatewayID, after bus.Position, limit int) bus.Batch {
	t.Helper()
	batch, err := b.Receive(within(t), gateway, after, limit)
	if err != nil {
		t.Fatalf("Receive: %v", err)
	}
	checkBatch(t, batch, limit)
	return batch
}

func sendAndReceive(t *testing.T, h Harness) {
	one, other := receive(t, h.Bus, "one", "", 1), receive(t, h.Bus, "other", "", 1)
	if !one.Lost || len(one.Messages) != 0 {
		t.Fatalf("receiving without a position gave %+v, want a loss without messages", one)
	}
	send(t, h.Bus, "one", time.Hour, "a", "b")
	send(t, h.Bus, "one", time.Hour, "c")
	send(t, h.Bus, "other", time.Hour, "d")
	first := receive(t, h.Bus, "one", one.Next, 2)
	again := receive(t, h.Bus, "one", one.Next, 2) // no receipt was given yet
	second := receive(t, h.Bus, "one", first.Next, 2)
	if first.Lost || again.Lost || second.Lost {
		t.Fatal("a loss was reported where none was")
	}
	wantTexts(t, textsOf(first), "a", "b")
	wantTexts(t, textsOf(again), "a", "b")
	wantTexts(t, textsOf(second), "c")
	wantTexts(t, textsOf(receive(t, h.Bus, "other", other.Next, 9)), "d")

	woken := make(chan bus.Batch, 1)
	go func() {
		batch, err := h.Bus.Receive(within(t), "one", second.Next, 9)
		if err != nil {
			t.Errorf("Receive: %v", err)
		}
		woken <- batch
	}()
	send(t, h.Bus, "other", time.Hour, "not for one")
	send(t, h.Bus, "one", time.Hour, "woken")
	wantTexts(t, textsOf(<-woken), "woken")

	ctx, cancel := context.WithCancel(within(t))
	failed := make(chan error, 1)
	never := receive(t, h.Bus, "never sent to", "", 1).Next
	go func() {
		_, err := h.Bus.Receive(ctx, "never sent to", never, 1)
		failed <- err
	}()
	cancel()
	wantError(t, <-failed, context.Canceled)
}

func sendBounds(t *testing.T, h Harness) {
	after := receive(t, h.Bus, "gateway", "", 1).Next
	largest := bytes.Repeat([]byte{0}, bus.MaxPayload)
	wantError(t, h.Bus.Send(within(t), "gateway", time.Hour, nil, make([]byte, bus.MaxPayload+1)), bus.ErrTooLarge)
	wantError(t, h.Bus.Send(within(t), "", time.Hour, nil), bus.ErrInvalid)
	wantError(t, h.Bus.Send(within(t), "gateway", 0, nil), bus.ErrInvalid)
	wantError(t, h.Bus.Send(within(t), "gateway", -time.Second, nil), bus.ErrInvalid)
	_, err := h.Bus.Receive(within(t), "", "", 1)
	wantError(t, err, bus.ErrInvalid)
	if err := h.Bus.Send(within(t), "gateway", time.Hour, largest); err != nil {
		t.Fatalf("a payload of exactly MaxPayload: %v", err)
	}
	batch := receive(t, h.Bus, "gateway", after, 1)
	if batch.Lost || !bytes.Equal(batch.Messages[0].Payload, largest) {
		t.Fatal("the largest payload came back changed, or something of a refused call was accepted")
	}
}

// sendFull: both ways in which a gateway's stream gets room again.
func sendFull(t *testing.T, h Harness) {
	after := receive(t, h.Bus, "gateway", "", 1).Next
	sent := fill(t, h, time.Hour)
	if sent < h.Capacity {
		t.Fatalf("only %d messages fit, %d must", sent, h.Capacity)
	}
	send(t, h.Bus, "other", time.Hour, "another gateway has room")
	for received := 0; received < sent; {
		batch := receive(t, h.Bus, "gateway", after, sent)
		if batch.Lost {
			t.Fatal("a full stream lost messages")
		}
		received, after = received+len(batch.Messages), batch.Next
	}

	// The receipt for the last message is the next read, which waits here.
	ctx, stop := context.WithCancel(within(t))
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		_, _ = h.Bus.Receive(ctx, "gateway", after, 1)
	}()
	room := errors.New("not tried yet")
	for room != nil {
		room = h.Bus.Send(ctx, "gateway", time.Second, []byte("y"))
		if room != nil {
			wantError(t, room, bus.ErrFull)
		}
	}
	stop()
	<-waiting

	fill(t, h, time.Second)
	h.Advance(2 * time.Second)
	send(t, h.Bus, "gateway", time.Hour, "room")
}

// fill sends until the gateway's stream is full and returns how many fitted.
func fill(t testing.TB, h Harness, ttl time.Duration) int {
	t.Helper()
	for sent := range 2 * h.Capacity {
		if err := h.Bus.Send(within(t), "gateway", ttl, []byte("x")); err != nil {
			wantError(t, err, bus.ErrFull)
			return sent
		}
	}
	t.Fatalf("%d messages fit, that is no bound of %d", 2*h.Capacity, h.Capacity)
	return 0
}

func sendExpires(t *testing.T, h Harness) {
	after := receive(t, h.Bus, "gateway", "", 1).Next
	send(t, h.Bus, "gateway", time.Second, "a", "b")
	h.Advance(1500 * time.Millisecond)
	gone := receive(t, h.Bus, "gateway", after, 9)
	if !gone.Lost || len(gone.Messages) != 0 {
		t.Fatalf("after the ttl: %+v, want a loss without messages", gone)
	}
	send(t, h.Bus, "gateway", time.Hour, "c")
	kept := receive(t, h.Bus, "gateway", gone.Next, 9)
	if kept.Lost {
		t.Fatal("a loss that was reported already was reported again")
	}
	wantTexts(t, textsOf(kept), "c")
}

func sendExpiresOutOfOrder(t *testing.T, h Harness) {
	after := receive(t, h.Bus, "gateway", "", 1).Next
	send(t, h.Bus, "gateway", time.Hour, "long")
	send(t, h.Bus, "gateway", time.Second, "short")
	send(t, h.Bus, "gateway", time.Hour, "last")
	h.Advance(1500 * time.Millisecond)
	lost, texts := false, []string(nil)
	for len(texts) < 2 {
		batch := receive(t, h.Bus, "gateway", after, 1)
		lost, texts, after = lost || batch.Lost, append(texts, textsOf(batch)...), batch.Next
	}
	wantTexts(t, texts, "long", "last")
	if !lost {
		t.Fatal("a message expired unread and no loss was reported")
	}
}

func closeEndsAll(t *testing.T, h Harness) {
	after, gatewayAfter := begin(t, h.Bus, 0), receive(t, h.Bus, "gateway", "", 1).Next
	failed := make(chan error, 2)
	go func() {
		_, err := h.Bus.Read(within(t), 0, after, 1)
		failed <- err
	}()
	go func() {
		_, err := h.Bus.Receive(within(t), "gateway", gatewayAfter, 1)
		failed <- err
	}()
	for range 2 {
		if err := h.Bus.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	wantError(t, <-failed, bus.ErrClosed)
	wantError(t, <-failed, bus.ErrClosed)
	wantError(t, h.Bus.Publish(within(t), outgoing(0, "x")...), bus.ErrClosed)
	wantError(t, h.Bus.Trim(within(t), 0, after), bus.ErrClosed)
	wantError(t, h.Bus.Send(within(t), "gateway", time.Hour, nil), bus.ErrClosed)
	_, err := h.Bus.Read(within(t), 0, after, 1)
	wantError(t, err, bus.ErrClosed)
	_, err = h.Bus.Receive(within(t), "gateway", gatewayAfter, 1)
	wantError(t, err, bus.ErrClosed)
}

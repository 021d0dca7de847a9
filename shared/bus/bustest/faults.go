// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bustest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
)

// faultTests are those of the hooks of a Harness, by the hook's name.
var faultTests = map[string]func(*testing.T, Harness){
	"Restart":  restart,
	"Flush":    flush,
	"LoseTail": loseTail,
	"Stall":    stall,
}

// restart: a stored position goes on exactly, or the loss shows.
func restart(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 0)
	publish(t, h.Bus, 0, "a", "b", "c")
	_, after = readAll(t, h.Bus, 0, after, 1)
	h.Bus = h.Restart(t)
	publish(t, h.Bus, 0, "d")
	throughLoss(t, h.Bus, after, []string{"b", "c"}, "d")
}

func flush(t *testing.T, h Harness) {
	t.Run("unread", func(t *testing.T) {
		after := begin(t, h.Bus, 0)
		publish(t, h.Bus, 0, "a", "b")
		_, after = readAll(t, h.Bus, 0, after, 1)
		h.Flush(t)
		gone := read(t, h.Bus, 0, after, 9)
		if !gone.Lost || len(gone.Messages) != 0 {
			t.Fatalf("after a flush: %+v, want a loss without messages", gone)
		}
		publish(t, h.Bus, 0, "c")
		got, _ := readAll(t, h.Bus, 0, gone.Next, 1)
		wantTexts(t, got, "c")
	})
	t.Run("unread and refilled", func(t *testing.T) {
		after := begin(t, h.Bus, 0)
		publish(t, h.Bus, 0, "a", "b", "c")
		_, after = readAll(t, h.Bus, 0, after, 1)
		h.Flush(t)
		publish(t, h.Bus, 0, "d", "e", "f", "g") // more than there were
		throughLoss(t, h.Bus, after, nil, "d", "e", "f", "g")
	})
	t.Run("twice", func(t *testing.T) {
		after := begin(t, h.Bus, 2)
		for range 2 {
			publish(t, h.Bus, 2, "a")
			h.Flush(t)
			gone := read(t, h.Bus, 2, after, 9)
			if !gone.Lost {
				t.Fatal("a flush of an unread message was not reported")
			}
			after = gone.Next
		}
	})
	t.Run("while waiting", func(t *testing.T) {
		after := begin(t, h.Bus, 3)
		batches := make(chan bus.Batch, 1)
		go func() {
			batch, err := h.Bus.Read(within(t), 3, after, 9)
			if err != nil {
				t.Errorf("Read: %v", err)
			}
			batches <- batch
		}()
		h.Flush(t)
		publish(t, h.Bus, 3, "a")
		batch := <-batches
		if len(batch.Messages) == 0 {
			batch = read(t, h.Bus, 3, batch.Next, 9)
		}
		wantTexts(t, textsOf(batch), "a")
	})
	t.Run("downlinks", func(t *testing.T) {
		after := receive(t, h.Bus, "gateway", "", 1).Next
		send(t, h.Bus, "gateway", time.Hour, "a")
		h.Flush(t)
		gone := receive(t, h.Bus, "gateway", after, 9)
		if !gone.Lost || len(gone.Messages) != 0 {
			t.Fatalf("after a flush: %+v, want a loss without messages", gone)
		}
		send(t, h.Bus, "gateway", time.Hour, "b")
		wantTexts(t, textsOf(receive(t, h.Bus, "gateway", gone.Next, 9)), "b")
	})
	t.Run("registers", func(t *testing.T) {
		set(t, h.Bus, bus.Polls, time.Hour, "a", "x")
		h.Flush(t)
		wantRegisters(t, h.Bus, bus.Polls, []string{"a"}, "-")
	})
}

func loseTail(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 0)
	publish(t, h.Bus, 0, "a", "b", "c", "d", "e")
	_, read3 := readAll(t, h.Bus, 0, after, 3)
	_, read5 := readAll(t, h.Bus, 0, after, 5)
	h.LoseTail(t, 2)
	publish(t, h.Bus, 0, "f", "g", "h")
	t.Run("unread", func(t *testing.T) {
		throughLoss(t, h.Bus, read3, []string{"d", "e"}, "f", "g", "h")
	})
	t.Run("new messages in place of read ones", func(t *testing.T) {
		throughLoss(t, h.Bus, read5, nil, "f", "g", "h")
	})
}

// stall: calls end with their context or ErrUnavailable, and afterwards all goes
// on from where it was.
func stall(t *testing.T, h Harness) {
	after := begin(t, h.Bus, 0)
	publish(t, h.Bus, 0, "a", "b")
	resume := h.Stall(t)
	brief, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	_, readError := h.Bus.Read(brief, 0, after, 9)
	_, receiveError := h.Bus.Receive(brief, "gateway", "", 9)
	_, getError := h.Bus.Get(brief, bus.Polls, "a")
	for name, err := range map[string]error{
		"Publish": h.Bus.Publish(brief, outgoing(1, "x")...), "Trim": h.Bus.Trim(brief, 1, ""), "Read": readError,
		"Send": h.Bus.Send(brief, "gateway", time.Hour, nil), "Receive": receiveError,
		"Set": h.Bus.Set(brief, bus.Polls, time.Hour, bus.Register{Name: "a"}), "Get": getError,
	} {
		if !errors.Is(err, bus.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s on a bus that is away: %v", name, err)
		}
	}
	resume()
	publish(t, h.Bus, 0, "c")
	throughLoss(t, h.Bus, after, []string{"a", "b"}, "c")
}

// throughLoss reads partition 0 from a position until the last of the retained texts and
// wants all of them, in order. The doubtful texts lay between the position and
// the retained ones when something happened to the bus: each was read, or a loss
// was reported.
func throughLoss(t *testing.T, b bus.Uplinks, after bus.Position, doubtful []string, retained ...string) {
	t.Helper()
	var got []string
	lost := false
	for !slices.Contains(got, retained[len(retained)-1]) {
		batch := read(t, b, 0, after, 2)
		got, after, lost = append(got, textsOf(batch)...), batch.Next, lost || batch.Lost
	}
	wantTexts(t, got[len(got)-len(retained):], retained...)
	before := got[:len(got)-len(retained)]
	if !lost && !slices.Equal(before, doubtful) {
		t.Fatalf("read %q before the retained messages and no loss was reported, want %q", before, doubtful)
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package bustest is the conformance suite of package bus: each sentence of that
// contract is a test here, and [Run] holds an implementation to all of them.
//
// The suite knows nothing of the implementation but its [Harness]. What a bus can
// suffer beside correct calls (a restart, a flush, a lost tail, a stall) the
// harness declares as hooks; a nil hook states that this cannot happen to that
// implementation.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
)

// Harness is one empty bus and the ways to hurt it. Every test gets its own.
type Harness struct {
	Bus bus.Bus
	// Capacity is the number of one-byte payloads that any stream of this bus must
	// take while nothing is trimmed; twice as many must not fit. Choose it small,
	// but 64 at least.
	Capacity int
	// Advance lets the time pass by which the bus measures ttls: it moves a clock
	// or waits.
	Advance func(d time.Duration)

	// Restart ends the bus and starts it again, and returns what to use from then
	// on. What the bus held may survive.
	Restart func(t testing.TB) bus.Bus
	// Flush makes the bus lose all messages and whatever it knows about them.
	Flush func(t testing.TB)
	// LoseTail makes the bus lose the newest n messages of every stream, as a
	// failover to a lagging replica does.
	LoseTail func(t testing.TB, n int)
	// Stall makes the bus unreachable until resume is called.
	Stall func(t testing.TB) (resume func())
}

// patience bounds every wait of the suite. It is a limit, never a delay.
const patience = 30 * time.Second

// Run holds the implementation that start makes to the contract of package bus.
// start registers what must be cleaned up with t.
func Run(t *testing.T, start func(t *testing.T) Harness) {
	tests := map[string]func(*testing.T, Harness){
		"PublishKeepsOrder":          publishKeepsOrder,
		"PartitionsAreApart":         partitionsAreApart,
		"ReadRemovesNothing":         readRemovesNothing,
		"ReadWaits":                  readWaits,
		"ReadGoesOnAnywhere":         readGoesOnAnywhere,
		"ReadWithoutPosition":        readWithoutPosition,
		"ReadAfterUnknownPosition":   readAfterUnknownPosition,
		"ReadEndsWithItsContext":     readEndsWithItsContext,
		"ReadersDoNotSeeEachOther":   readersDoNotSeeEachOther,
		"PublishersKeepTheirOrder":   publishersKeepTheirOrder,
		"TrimForgets":                trimForgets,
		"TrimAboveThePositionIsLoss": trimAboveThePositionIsLoss,
		"TrimOfNothing":              trimOfNothing,
		"PublishFull":                publishFull,
		"PublishBounds":              publishBounds,
		"CallsAfterTheirContext":     callsAfterTheirContext,
		"SendAndReceive":             sendAndReceive,
		"SendBounds":                 sendBounds,
		"SendFull":                   sendFull,
		"SendExpires":                sendExpires,
		"SendExpiresOutOfOrder":      sendExpiresOutOfOrder,
		"CloseEndsAll":               closeEndsAll,
		"EveryMessageOrLost":         everyMessageOrLost,
		"SetAndGet":                  setAndGet,
		"RegistersExpire":            registersExpire,
		"RegisterBounds":             registerBounds,
		"RegistersAfterTheirEnd":     registersAfterTheirEnd,
	}
	faults := start(t)
	for name, applies := range map[string]bool{"Restart": faults.Restart != nil, "Flush": faults.Flush != nil, "LoseTail": faults.LoseTail != nil, "Stall": faults.Stall != nil} {
		if applies {
			tests[name] = faultTests[name]
		}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, start(t)) })
	}
	t.Run("ForeignPosition", func(t *testing.T) { foreignPosition(t, start(t), start(t)) })
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// outgoing makes one message per text.
func outgoing(partition int, texts ...string) []bus.Outgoing {
	messages := make([]bus.Outgoing, len(texts))
	for i, text := range texts {
		messages[i] = bus.Outgoing{Partition: partition, Payload: []byte(text)}
	}
	return messages
}

func publish(t testing.TB, b bus.Uplinks, partition int, texts ...string) {
	t.Helper()
	if err := b.Publish(within(t), outgoing(partition, texts...)...); err != nil {
		t.Fatalf("Publish: %v", err)
	}
}

func trim(t testing.TB, b bus.Uplinks, partition int, upTo bus.Position) {
	t.Helper()
	if err := b.Trim(within(t), partition, upTo); err != nil {
		t.Fatalf("Trim: %v", err)
	}
}

// read reads once and checks what holds for every batch.
func read(t testing.TB, b bus.Uplinks, partition int, after bus.Position, limit int) bus.Batch {
	t.Helper()
	batch, err := b.Read(within(t), partition, after, limit)
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	checkBatch(t, batch, limit)
	return batch
}

// begin returns the position after everything that is in a partition.
func begin(t testing.TB, b bus.Uplinks, partition int) bus.Position {
	t.Helper()
	batch := read(t, b, partition, "", 1<<20)
	if !batch.Lost {
		t.Fatal("a read without a position did not report that it knows nothing of earlier messages")
	}
	return batch.Next
}

// readAll reads until it has count messages and fails on a loss. It returns their
// texts and the position after them.
func readAll(t testing.TB, b bus.Uplinks, partition int, after bus.Position, count int) ([]string, bus.Position) {
	t.Helper()
	var texts []string
	for len(texts) < count {
		batch := read(t, b, partition, after, count-len(texts))
		if batch.Lost {
			t.Fatalf("a loss was reported after %q, where none was", after)
		}
		texts, after = append(texts, textsOf(batch)...), batch.Next
	}
	return texts, after
}

func textsOf(batch bus.Batch) []string {
	texts := make([]string, len(batch.Messages))
	for i, message := range batch.Messages {
		texts[i] = string(message.Payload)
	}
	return texts
}

func checkBatch(t testing.TB, batch bus.Batch, limit int) {
	t.Helper()
	if err := batchError(batch, limit); err != nil {
		t.Fatal(err)
	}
}

func batchError(batch bus.Batch, limit int) error {
	if len(batch.Messages) > max(limit, 1) {
		return fmt.Errorf("%d messages were read where %d were asked for", len(batch.Messages), limit)
	}
	if len(batch.Messages) == 0 && !batch.Lost {
		return errors.New("a read returned neither messages nor a loss")
	}
	seen := map[bus.Position]bool{}
	for _, message := range batch.Messages {
		if !plain(message.Position) || seen[message.Position] {
			return fmt.Errorf("the position %q is empty, long, repeated or not printable", message.Position)
		}
		seen[message.Position] = true
	}
	if !plain(batch.Next) {
		return fmt.Errorf("the next position %q is empty, long or not printable", batch.Next)
	}
	return nil
}

func plain(position bus.Position) bool {
	for _, c := range []byte(position) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return position != "" && len(position) <= 128
}

// numbered returns count different one-word texts.
func numbered(prefix string, count int) []string {
	texts := make([]string, count)
	for i := range texts {
		texts[i] = fmt.Sprintf("%s%06d", prefix, i)
	}
	return texts
}

func wantTexts(t testing.TB, got []string, want ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("read %q, want %q", got, want)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("the error is %v, want %v", err, want)
	}
}

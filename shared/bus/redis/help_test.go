// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// start is the position after all that is in a partition.
func start(t testing.TB, b bus.Uplinks, partition int) bus.Position {
	t.Helper()
	batch, err := b.Read(within(t), partition, "", maxPage)
	if err != nil {
		t.Fatal(err)
	}
	return batch.Next
}

func startDownlinks(t testing.TB, b bus.Downlinks, gateway identity.GatewayID) bus.Position {
	t.Helper()
	batch, err := b.Receive(within(t), gateway, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	return batch.Next
}

func publish(t testing.TB, b bus.Uplinks, partition int, texts ...string) {
	t.Helper()
	messages := make([]bus.Outgoing, len(texts))
	for i, text := range texts {
		messages[i] = bus.Outgoing{Partition: partition, Payload: []byte(text)}
	}
	if err := b.Publish(within(t), messages...); err != nil {
		t.Fatalf("Publish: %v", err)
	}
}

func sendTexts(t testing.TB, b bus.Downlinks, gateway identity.GatewayID, texts ...string) {
	t.Helper()
	payloads := make([][]byte, len(texts))
	for i, text := range texts {
		payloads[i] = []byte(text)
	}
	if err := b.Send(within(t), gateway, time.Hour, payloads...); err != nil {
		t.Fatalf("Send: %v", err)
	}
}

// wantReads reads one message at a time and wants these texts; "lost" stands for a loss
// that is told before the text that follows it, or by itself.
func wantReads(t testing.TB, b bus.Uplinks, partition int, after bus.Position, want ...string) bus.Position {
	t.Helper()
	return wantStory(t, want, after, func(after bus.Position) (bus.Batch, error) {
		return b.Read(within(t), partition, after, 1)
	})
}

func wantReceives(t testing.TB, b bus.Downlinks, gateway identity.GatewayID, after bus.Position, want ...string) {
	t.Helper()
	wantStory(t, want, after, func(after bus.Position) (bus.Batch, error) {
		return b.Receive(within(t), gateway, after, 1)
	})
}

func wantStory(t testing.TB, want []string, after bus.Position, read func(bus.Position) (bus.Batch, error)) bus.Position {
	t.Helper()
	var got []string
	for len(got) < len(want) {
		batch, err := read(after)
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		if batch.Lost {
			got = append(got, "lost")
		}
		for _, message := range batch.Messages {
			got = append(got, string(message.Payload))
		}
		after = batch.Next
	}
	if !slices.Equal(got, want) {
		t.Fatalf("read %q, want %q", got, want)
	}
	return after
}

// eventually repeats what depends on a server that comes back.
func eventually(t testing.TB, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if !errors.Is(err, bus.ErrUnavailable) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

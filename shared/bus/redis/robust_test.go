// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
)

// A server that is at its memory limit refuses, and takes again when there is room.
func TestOutOfMemory(t *testing.T) {
	s := startServer(t)
	b := install(t, newLink(t, s), s)
	at, down := start(t, b, 0), startDownlinks(t, b, "gateway")
	s.do("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
	for name, err := range map[string]error{
		"Publish": b.Publish(within(t), bus.Outgoing{Payload: []byte("x")}, bus.Outgoing{Partition: 1}),
		"Send":    b.Send(within(t), "gateway", time.Hour, []byte("x")),
		"Set":     b.Set(within(t), bus.Polls, time.Hour, bus.Register{Name: "a"}),
	} {
		if !errors.Is(err, bus.ErrFull) {
			t.Errorf("%s: %v, want %v", name, err, bus.ErrFull)
		}
	}
	s.do("CONFIG", "SET", "maxmemory", "0")
	publish(t, b, 0, "a")
	sendTexts(t, b, "gateway", "a")
	wantReads(t, b, 0, at, "a")
	wantReceives(t, b, "gateway", down, "a")
}

func TestBytesAreBounded(t *testing.T) {
	s := startServer(t)
	b := install(t, newLink(t, s), s)
	after := start(t, b, 0)
	half := bus.Outgoing{Payload: bytes.Repeat([]byte("x"), bus.MaxPayload/2)}
	accepted := 0
	for accepted*len(half.Payload) < 2*DefaultMaxBytes {
		err := b.Publish(within(t), half)
		if errors.Is(err, bus.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		accepted++
	}
	if accepted < 5 || accepted > 7 { // an eighth would leave no room for what is stored beside
		t.Fatalf("%d messages of half a MiB fitted into 4 MiB", accepted)
	}
	batch, err := b.Read(within(t), 0, after, 3)
	if err != nil || len(batch.Messages) != 3 {
		t.Fatalf("Read = %d messages, %v", len(batch.Messages), err)
	}
	if err := b.Trim(within(t), 0, batch.Next); err != nil {
		t.Fatal(err)
	}
	publish(t, b, 0, "room")
}

// As much of a call as fits is accepted, in order.
func TestPartOfACallFits(t *testing.T) {
	s := startServer(t)
	b := install(t, newLink(t, s), s)
	after, down := start(t, b, 0), startDownlinks(t, b, "gateway")
	var messages []bus.Outgoing
	var payloads [][]byte
	for i := range capacity + 2 {
		payloads = append(payloads, []byte(strconv.Itoa(i)))
		messages = append(messages, bus.Outgoing{Payload: payloads[i]})
	}
	if err := b.Publish(within(t), messages...); !errors.Is(err, bus.ErrFull) {
		t.Fatalf("Publish: %v", err)
	}
	if err := b.Send(within(t), "gateway", time.Hour, payloads...); !errors.Is(err, bus.ErrFull) {
		t.Fatalf("Send: %v", err)
	}
	read, err := b.Read(within(t), 0, after, 1000)
	if err != nil || len(read.Messages) != capacity || string(read.Messages[capacity-1].Payload) != strconv.Itoa(capacity-1) {
		t.Errorf("Read = %d messages, %v", len(read.Messages), err)
	}
	received, err := b.Receive(within(t), "gateway", down, 1000)
	if err != nil || len(received.Messages) != capacity {
		t.Errorf("Receive = %d messages, %v", len(received.Messages), err)
	}
}

// A call ends when its context is cancelled, and when the bus is closed, though the
// server says nothing.
func TestCallsEndWhileTheServerHangs(t *testing.T) {
	s := startServer(t)
	l := newLink(t, s)
	b := install(t, l, s)
	after := start(t, b, 0)
	l.stall()
	calls := map[string]func(context.Context) error{
		"Publish": func(ctx context.Context) error { return b.Publish(ctx, bus.Outgoing{}) },
		"Trim":    func(ctx context.Context) error { return b.Trim(ctx, 0, after) },
		"Read":    func(ctx context.Context) error { _, err := b.Read(ctx, 0, after, 1); return err },
		"Receive": func(ctx context.Context) error { _, err := b.Receive(ctx, "one", "", 1); return err },
		"Send":    func(ctx context.Context) error { return b.Send(ctx, "one", time.Hour, nil) },
		"Set":     func(ctx context.Context) error { return b.Set(ctx, bus.Mail, time.Hour, bus.Register{Name: "a"}) },
		"Get":     func(ctx context.Context) error { _, err := b.Get(ctx, bus.Mail, "a"); return err },
		"Check":   func(ctx context.Context) error { return b.control.Check(ctx) },
	}
	all := func(ctx context.Context, end func(), want error) {
		var calling sync.WaitGroup
		began := time.Now()
		for name, call := range calls {
			calling.Go(func() {
				if err := call(ctx); !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", name, err, want)
				}
			})
		}
		end()
		calling.Wait()
		if took := time.Since(began); took > ioTimeout/2 {
			t.Errorf("the calls took %v to end", took)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	all(ctx, cancel, context.Canceled)
	all(t.Context(), func() { _ = b.Close() }, bus.ErrClosed)
}

// Hints are not needed: without them a reader is late, and no more.
func TestReaderHearsNothing(t *testing.T) {
	s := startServer(t)
	b := install(t, newLink(t, s), s)
	after := start(t, b, 0)
	read := make(chan bus.Batch, 1)
	go func() {
		batch, err := b.Read(within(t), 0, after, 1)
		if err != nil {
			t.Errorf("Read: %v", err)
		}
		read <- batch
	}()
	s.wait("hear of a subscriber", func() bool { return len(s.admin.PubSubChannels(t.Context(), "*").Val()) == 1 })
	s.do("XADD", b.control.names.uplink(0).key, idNext, fieldStamp, b.control.line.Load().stamp(7), fieldPayload, "untold")
	if batch := <-read; batch.Lost || len(batch.Messages) != 1 {
		t.Errorf("Read = %+v", batch)
	}
}

// Subscriptions come back by themselves, and make up for what they did not hear.
func TestSubscriptionsEnd(t *testing.T) {
	s := startServer(t)
	b := install(t, newLink(t, s), s)
	after := start(t, b, 0)
	for i := range 5 {
		read := make(chan bus.Batch, 1)
		go func() {
			batch, err := b.Read(within(t), 0, after, 1)
			if err != nil {
				t.Errorf("Read: %v", err)
			}
			read <- batch
		}()
		s.do("CLIENT", "KILL", "TYPE", "pubsub")
		publish(t, b, 0, strconv.Itoa(i))
		batch := <-read
		if batch.Lost || len(batch.Messages) != 1 {
			t.Fatalf("Read = %+v", batch)
		}
		after = batch.Next
	}
}

// Readers of all partitions wait together: on one connection, and without asking all the
// time.
func TestWaitingIsCheap(t *testing.T) {
	s := startServer(t)
	l := newLink(t, s)
	b, err := Open(l.url(""), Options{Connections: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for partition := range bus.Partitions {
		after := start(t, b, partition)
		readers.Go(func() {
			if _, err := b.Read(ctx, partition, after, 1); !errors.Is(err, context.Canceled) {
				t.Errorf("Read: %v", err)
			}
		})
	}
	commands := func() int {
		n, _ := strconv.Atoi(infoField(s.admin.Info(t.Context(), "stats").Val(), "total_commands_processed"))
		return n
	}
	s.wait("hear of all readers", func() bool {
		b.bell.mu.Lock()
		defer b.bell.mu.Unlock()
		return len(b.bell.waiting) == bus.Partitions
	})
	before := commands()
	time.Sleep(recheck)
	// Each looks once in that time, or twice at its ends, with three commands.
	if n := commands() - before; n > 2*bus.Partitions*4 {
		t.Errorf("%d commands in %v while nothing happened", n, recheck)
	}
	if n := strings.Count(s.admin.ClientList(t.Context()).Val(), "\n"); n > 4+1+1 {
		t.Errorf("%d connections", n)
	}
	cancel()
	readers.Wait()
}

// A bus whose server is away can be opened, and works when that has come.
func TestOpenBeforeTheServer(t *testing.T) {
	s := startServer(t)
	l := newLink(t, s)
	s.kill()
	b := open(t, l.url(""), "")
	if err := b.Check(within(t)); !errors.Is(err, bus.ErrUnavailable) {
		t.Fatalf("Check: %v", err)
	}
	s.start()
	eventually(t, func() error { return b.Check(within(t)) })
	at := start(t, b, 0)
	publish(t, b, 0, "a")
	wantReads(t, b, 0, at, "a")
}

// Installations that share a server do not meet.
func TestPrefixesAreApart(t *testing.T) {
	s := startServer(t)
	l := newLink(t, s)
	one, other := open(t, l.url(""), "one"), open(t, l.url(""), "other")
	at, otherAt := start(t, one, 0), start(t, other, 0)
	publish(t, one, 0, "one")
	publish(t, other, 0, "other")
	wantReads(t, one, 0, at, "one")
	wantReads(t, other, 0, otherAt, "other")
	wantReads(t, other, 0, at, "lost", "other")
}

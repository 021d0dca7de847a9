// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
)

// A failover to a replica that lags by some messages: those who had read them, those who
// had not, and a gateway's downlinks.
func TestFailoverLosesTheTail(t *testing.T) {
	p := startPair(t)
	p.link = newLink(t, p.primary)
	b := install(t, p.link, p.primary, p.replica)
	after, before := start(t, b.control, 0), startDownlinks(t, b, "gateway")
	publish(t, b, 0, "a", "b")
	sendTexts(t, b, "gateway", "a", "b")
	p.sync(p.replica, p.primary)

	p.links[p.primary].stall() // the replica hears no more
	publish(t, b, 0, "c", "d")
	sendTexts(t, b, "gateway", "c")
	one := wantReads(t, b, 0, after, "a")
	all := wantReads(t, b, 0, one, "b", "c", "d")
	p.primary.kill()
	p.replica.do("REPLICAOF", "NO", "ONE")
	p.swap()
	publish(t, b, 0, "e", "f", "g")
	sendTexts(t, b, "gateway", "d", "e")

	wantReads(t, b, 0, one, "b", "lost", "e", "f", "g")
	wantReads(t, b, 0, all, "lost", "a", "b", "lost", "e", "f", "g")
	wantReceives(t, b, "gateway", before, "a", "b", "lost", "d", "e")
}

// A failover that loses what was at the end of a stream, which nothing follows.
func TestFailoverLosesTheEnd(t *testing.T) {
	p := startPair(t)
	p.link = newLink(t, p.primary)
	b := install(t, p.link, p.primary, p.replica)
	after := start(t, b.control, 0)
	publish(t, b, 0, "a")
	p.sync(p.replica, p.primary)
	at := wantReads(t, b, 0, after, "a")
	waiting := make(chan bus.Batch, 1)
	go func() {
		batch, err := b.Read(t.Context(), 0, at, 1)
		for errors.Is(err, bus.ErrUnavailable) {
			batch, err = b.Read(t.Context(), 0, at, 1)
		}
		waiting <- batch
	}()
	p.links[p.primary].stall()
	// To another stream, so that the reader does not see what is lost from its own.
	publish(t, b, 1, "lost, and nothing follows")
	p.primary.kill()
	p.replica.do("REPLICAOF", "NO", "ONE")
	p.swap()
	batch := <-waiting
	if !batch.Lost || len(batch.Messages) > 0 {
		t.Fatalf("after a failover: %+v, want a loss without messages", batch)
	}
	publish(t, b, 0, "b")
	wantReads(t, b, 0, batch.Next, "b")
}

// A primary that is made a replica under its connections: calls fail until the address
// leads to a primary, and not longer.
func TestDemotedPrimary(t *testing.T) {
	p := startPair(t)
	p.link = newLink(t, p.primary)
	b := install(t, p.link, p.primary, p.replica)
	after := start(t, b.control, 0)
	publish(t, b, 0, "a")
	p.sync(p.replica, p.primary)
	p.replica.do("REPLICAOF", "NO", "ONE")
	p.follow(p.primary, p.replica)

	if err := b.Publish(t.Context(), bus.Outgoing{Payload: []byte("x")}); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("publishing to a replica: %v", err)
	}
	if batch, err := b.Read(t.Context(), 0, after, 1); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("reading from a replica: %+v, %v", batch, err)
	}
	if err := b.control.Check(t.Context()); !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("checking a replica: %v", err)
	}
	p.link.lead(p.replica) // no connection is cut
	publish(t, b, 0, "b")
	wantReads(t, b, 0, after, "a", "lost", "b")
}

// A server that goes back to an earlier state under its connections, as none does that
// is a primary all the time: the message that a publisher stamped with the past is told
// with the next one, or without.
func TestHistoryChangesUnderConnections(t *testing.T) {
	s := startServer(t)
	b := install(t, newLink(t, s), s)
	after := start(t, b.control, 0)
	publish(t, b, 0, "a", "b")
	at := wantReads(t, b, 0, after, "a")
	s.loseTail(1)
	publish(t, b, 0, "c")
	wantReads(t, b, 0, at, "c", "lost")
	publish(t, b, 0, "d")
	wantReads(t, b, 0, at, "c", "lost", "d")
}

func TestRestartOfAnEmptyBus(t *testing.T) {
	s := startServer(t)
	l := newLink(t, s)
	b := install(t, l, s)
	after := start(t, b.control, 0)
	waiting := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		_, err := b.Read(ctx, 0, after, 1)
		waiting <- err
	}()
	s.kill()
	l.cut()
	// Prompt: the reader looks every two seconds.
	if err := <-waiting; !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("a waiting read, while the server is away: %v", err)
	}
	began := time.Now()
	for name, err := range map[string]error{
		"Publish": b.Publish(ctx, bus.Outgoing{}), "Trim": b.Trim(ctx, 0, after), "Check": b.control.Check(ctx),
		"Set":  b.Set(ctx, bus.Polls, time.Hour, bus.Register{Name: "a"}),
		"Send": b.Send(ctx, "gateway", time.Hour, nil),
	} {
		if !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("%s, while the server is away: %v", name, err)
		}
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("to say that the server is away took %v", took)
	}
	s.start()
	eventually(t, func() error { return b.Publish(ctx, bus.Outgoing{Payload: []byte("x")}) })
	eventually(t, func() error { return b.control.Check(ctx) })
	wantReads(t, b, 0, after, "lost", "x")
}

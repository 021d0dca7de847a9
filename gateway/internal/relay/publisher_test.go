// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/gateway/internal/session"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/bus/inproc"
	"gitlab.com/ampora/ampora/shared/identity"
)

func newPublisher(t *testing.T, uplinks bus.Uplinks) *Publisher {
	t.Helper()
	p, err := NewPublisher(Origin{Gateway: "gw-1", BootID: 1}, uplinks, slog.New(slog.DiscardHandler), noop.Meter{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newSession(agent identity.AgentID) *session.Session {
	return session.New(session.Claimed{Key: session.Key{Tenant: "acme", Agent: agent}, Epoch: 1}, nil, time.Now())
}

// readAll reads n uplinks of a partition and checks that none is missing, making room
// for others.
func readAll(t *testing.T, uplinks bus.Uplinks, partition, n int) []*relayv1.Uplink {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var read []*relayv1.Uplink
	var after bus.Position
	for len(read) < n {
		batch, err := uplinks.Read(ctx, partition, after, 100)
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(read), n, err)
		}
		for _, message := range batch.Messages {
			var uplink relayv1.Uplink
			if err := proto.Unmarshal(message.Payload, &uplink); err != nil {
				t.Fatal(err)
			}
			read = append(read, &uplink)
		}
		after = batch.Next
		if err := uplinks.Trim(ctx, partition, after); err != nil {
			t.Fatal(err)
		}
	}
	return read
}

// The bus is full for most of the time, and takes only parts of batches: every message
// still arrives, with its number, in order, whatever is repeated.
func TestPublisherThroughAFullBus(t *testing.T) {
	const messages = 500
	uplinks := inproc.New(inproc.Options{MaxMessages: 50})
	p := newPublisher(t, uplinks)
	agent := identity.NewAgentID()
	s := newSession(agent)
	for i := range messages {
		if err := p.Report(t.Context(), s, &relayv1.Report{Sequence: uint64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	next := uint64(1)
	for next <= messages {
		for _, uplink := range readAll(t, uplinks, bus.PartitionOf(agent), 1) {
			switch {
			case uplink.GetCounter() > next:
				t.Fatalf("number %d came in place of %d", uplink.GetCounter(), next)
			case uplink.GetCounter() == next:
				if uplink.GetReport().GetSequence() != next-1 {
					t.Fatalf("number %d is report %d", next, uplink.GetReport().GetSequence())
				}
				next++
			}
		}
	}
	cancel()
	running.Wait()
}

func TestPublisherShedsAllButEnds(t *testing.T) {
	p := newPublisher(t, inproc.New(inproc.Options{}))
	s := newSession(identity.NewAgentID())
	for range queueMessages {
		if err := p.Report(t.Context(), s, &relayv1.Report{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Report(t.Context(), s, &relayv1.Report{}); !errors.Is(err, ErrShed) || !p.Full() {
		t.Errorf("a report to a full queue gives %v", err)
	}
	p.Delivery(s, &session.ConfigOffer{}, relayv1.Delivery_OUTCOME_DELIVERED)
	p.Ended(s, session.Closed)
	if n := p.Waiting(); n != queueMessages+1 {
		t.Errorf("%d messages wait", n)
	}
	if err := p.Report(t.Context(), s, &relayv1.Report{AgentToServer: make([]byte, bus.MaxPayload)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a huge report gives %v", err)
	}
}

// The end of a session is the last that is told of it, whoever else speaks meanwhile.
func TestNoReportFollowsTheEnd(t *testing.T) {
	uplinks := inproc.New(inproc.Options{})
	p := newPublisher(t, uplinks)
	registry := session.NewRegistry(p.Ended)
	s := newSession(identity.NewAgentID())
	registry.Start(s)
	if err := p.Report(t.Context(), s, &relayv1.Report{}); err != nil {
		t.Fatal(err)
	}
	registry.End(s, session.Superseded)
	if err := p.Report(t.Context(), s, &relayv1.Report{}); !errors.Is(err, ErrEnded) || p.Waiting() != 2 {
		t.Errorf("a report after the end gives %v, and %d messages wait", err, p.Waiting())
	}
}

func TestPublisherFlushesWhenItStops(t *testing.T) {
	uplinks := inproc.New(inproc.Options{})
	p := newPublisher(t, uplinks)
	agent := identity.NewAgentID()
	for range 1000 {
		p.Ended(newSession(agent), session.Drained)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, uplinks, bus.PartitionOf(agent), 1000); got[999].GetEnded().GetReason() != "DRAINED" {
		t.Errorf("the last is %v", got[999])
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := newCache[int](10)
	key := func(i byte) bodyKey { return bodyKey{"acme", Hash{i}} }
	for i := range byte(3) {
		c.put(key(i), int(i), 3)
	}
	if _, found := c.get(key(0)); !found {
		t.Fatal("the first is missing")
	}
	c.put(key(3), 3, 4) // 13: the longest unused goes
	for i, want := range []bool{true, false, true, true} {
		if _, found := c.get(key(byte(i))); found != want {
			t.Errorf("%d: %v", i, found)
		}
	}
	c.put(key(4), 4, 11)
	if _, found := c.get(key(4)); found || c.weight != 10 {
		t.Errorf("something heavier than the cache was put, the weight is %d", c.weight)
	}
	if _, found := c.get(bodyKey{"rival", Hash{0}}); found {
		t.Error("another tenant has the body")
	}
}

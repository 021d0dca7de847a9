// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/gateway/internal/session"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/bus/inproc"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/uplink"
)

func newPublisher(t *testing.T, uplinks bus.Uplinks) *Publisher {
	t.Helper()
	p, err := NewPublisher(origin, uplinks, registered(), slog.New(slog.DiscardHandler), noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var (
	origin = Origin{Gateway: "gw-1", BootID: 1}
	key    = uplink.Derive([]byte("secret"), origin.Gateway, origin.BootID)
)

func registered() *Registration {
	told := NewRegistration(time.Now)
	told.Use(key)
	return told
}

func newSession(agent identity.AgentID) *session.Session {
	return session.New(session.Claimed{Key: session.Key{Tenant: "acme", Agent: agent}, Epoch: 1}, nil, time.Now())
}

// opened reads a message of a partition, which the process has sealed.
func opened(t *testing.T, payload []byte) *relayv1.Uplink {
	t.Helper()
	var sealed relayv1.Sealed
	var inside relayv1.Uplink
	if err := errors.Join(proto.Unmarshal(payload, &sealed), proto.Unmarshal(sealed.GetBody(), &inside)); err != nil {
		t.Fatal(err)
	}
	if !key.SealedUplink(sealed.GetBody(), sealed.GetSeal()) {
		t.Fatalf("the seal of %v is broken", &inside)
	}
	return &inside
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
		batch, err := uplinks.Read(ctx, partition, after, n-len(read))
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(read), n, err)
		}
		for _, message := range batch.Messages {
			read = append(read, opened(t, message.Payload))
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

// agentsIn returns agents of distinct partitions.
func agentsIn(partitions int) []identity.AgentID {
	agents := make([]identity.AgentID, partitions)
	for found := 0; found < partitions; {
		agent := identity.NewAgentID()
		if p := bus.PartitionOf(agent); p < partitions && agents[p] == "" {
			agents[p], found = agent, found+1
		}
	}
	return agents
}

func TestPublisherShedsAllButEnds(t *testing.T) {
	p := newPublisher(t, inproc.New(inproc.Options{}))
	agents := agentsIn(queueMessages/laneMessages + 1)
	last := newSession(agents[len(agents)-1])
	for _, agent := range agents[:len(agents)-1] {
		s := newSession(agent)
		for range laneMessages {
			if err := p.Report(t.Context(), s, &relayv1.Report{}); err != nil {
				t.Fatal(err)
			}
		}
		// A full lane sheds for its own agents alone.
		if err := p.Report(t.Context(), s, &relayv1.Report{}); !errors.Is(err, ErrShed) {
			t.Errorf("a report to a full lane gives %v", err)
		}
	}
	if err := p.Report(t.Context(), last, &relayv1.Report{}); !errors.Is(err, ErrShed) || !p.Full() || !p.Lost() {
		t.Errorf("a report to a full queue gives %v", err)
	}
	p.Delivery(last, &session.ConfigOffer{}, relayv1.Delivery_OUTCOME_DELIVERED)
	p.Ended(last, session.Closed)
	if n := p.Waiting(); n != queueMessages+1 {
		t.Errorf("%d messages wait", n)
	}
	if err := p.Report(t.Context(), last, &relayv1.Report{AgentToServer: make([]byte, bus.MaxPayload)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a huge report gives %v", err)
	}
}

// What just fits is taken by the bus with its number and its seal.
func TestLargestReport(t *testing.T) {
	uplinks := inproc.New(inproc.Options{})
	p := newPublisher(t, uplinks)
	agent := identity.NewAgentID()
	s := newSession(agent)
	size := bus.MaxPayload
	for ; p.Report(t.Context(), s, &relayv1.Report{AgentToServer: make([]byte, size)}) != nil; size-- {
	}
	if size < bus.MaxPayload-256 {
		t.Errorf("the largest report has %d bytes", size)
	}
	running(t, p)
	if got := readAll(t, uplinks, bus.PartitionOf(agent), 1); len(got[0].GetReport().GetAgentToServer()) != size {
		t.Errorf("it came with %d bytes", len(got[0].GetReport().GetAgentToServer()))
	}
}

// running runs the publisher until the end of the test.
func running(t *testing.T, p *Publisher) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

// A partition that nobody reads is full: it waits alone, in its order, and the others go
// on.
func TestFullPartitionWaitsAlone(t *testing.T) {
	const bound, messages = 10, 200
	uplinks := inproc.New(inproc.Options{MaxMessages: bound})
	p := newPublisher(t, uplinks)
	agents := agentsIn(3)
	running(t, p)
	for i := range uint64(messages) {
		if err := p.Report(t.Context(), newSession(agents[0]), &relayv1.Report{Sequence: i}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(messages) {
		for partition, agent := range agents[1:] {
			if err := p.Report(t.Context(), newSession(agent), &relayv1.Report{Sequence: i}); err != nil {
				t.Fatal(err)
			}
			if got := inOrder(t, uplinks, partition+1, i); got.GetCounter() != i+1 {
				t.Fatalf("number %d came in place of %d", got.GetCounter(), i+1)
			}
		}
	}
	if p.Published(0, messages) || !p.Published(1, messages) || p.Lost() {
		t.Error("the full partition has it all, or the other not, or the bus counts as lost")
	}
	for i := range uint64(messages) {
		inOrder(t, uplinks, 0, i)
	}
}

// inOrder reads the report with the sequence from a partition, past copies of those
// before it, and makes room.
func inOrder(t *testing.T, uplinks bus.Uplinks, partition int, sequence uint64) *relayv1.Uplink {
	t.Helper()
	for {
		got := readAll(t, uplinks, partition, 1)[0]
		switch {
		case got.GetReport().GetSequence() == sequence:
			return got
		case got.GetReport().GetSequence() > sequence:
			t.Fatalf("report %d came in place of %d", got.GetReport().GetSequence(), sequence)
		}
	}
}

// away is a bus that can be out of reach. What it is called with then may have happened.
type away struct {
	bus.Bus
	gone atomic.Bool
}

func (b *away) Publish(ctx context.Context, messages ...bus.Outgoing) error {
	if !b.gone.Load() {
		return b.Bus.Publish(ctx, messages...)
	}
	if err := b.Bus.Publish(ctx, messages[:len(messages)/2]...); err != nil {
		return err
	}
	return bus.ErrUnavailable
}

func (b *away) Set(ctx context.Context, shelf bus.Shelf, ttl time.Duration, registers ...bus.Register) error {
	if b.gone.Load() {
		return bus.ErrUnavailable
	}
	return b.Bus.Set(ctx, shelf, ttl, registers...)
}

// The bus counts as lost when it has not answered for five seconds, and not any more when
// it has. Nothing is lost, and order is kept.
func TestBusThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		uplinks := &away{Bus: inproc.New(inproc.Options{})}
		p := newPublisher(t, uplinks)
		running(t, p)
		agents := agentsIn(2)
		report := func(sequence uint64) {
			for _, agent := range agents {
				if err := p.Report(t.Context(), newSession(agent), &relayv1.Report{Sequence: sequence}); err != nil {
					t.Fatal(err)
				}
			}
		}
		<-time.After(time.Hour)
		uplinks.gone.Store(true)
		for i := range uint64(20) {
			report(i)
		}
		<-time.After(lostAfter - time.Second)
		if p.Lost() {
			t.Error("it counts as lost too early")
		}
		<-time.After(2 * time.Second)
		if !p.Lost() {
			t.Error("it does not count as lost")
		}
		uplinks.gone.Store(false)
		<-time.After(2 * longestPause)
		synctest.Wait()
		if p.Lost() || p.Waiting() != 0 {
			t.Errorf("it counts as lost: %v; %d messages wait", p.Lost(), p.Waiting())
		}
		report(20)
		for partition := range agents {
			for i := range uint64(21) {
				inOrder(t, uplinks, partition, i)
			}
		}
	})
}

// Before the process is registered there is no key, and nothing is said without one.
func TestNothingIsPublishedWithoutAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		uplinks := inproc.New(inproc.Options{})
		told := NewRegistration(time.Now)
		p, err := NewPublisher(origin, uplinks, told, slog.New(slog.DiscardHandler), noop.Meter{})
		if err != nil {
			t.Fatal(err)
		}
		running(t, p)
		agent := identity.NewAgentID()
		p.Ended(newSession(agent), session.Closed)
		synctest.Wait()
		if p.Waiting() != 1 {
			t.Error("it was published")
		}
		told.Use(key)
		readAll(t, uplinks, bus.PartitionOf(agent), 1)
	})
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

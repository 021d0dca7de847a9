// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"log/slog"
	"sync"
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

// noting is a gateway that notes marks, inside a bubble of time.
type noting struct {
	t         *testing.T
	bus       *away
	registry  *session.Registry
	publisher *Publisher
}

func startNoting(t *testing.T) *noting {
	b := &away{Bus: inproc.New(inproc.Options{})}
	n := &noting{t: t, bus: b, registry: session.NewRegistry(func(*session.Session, session.EndReason) {}), publisher: newPublisher(t, b)}
	marks := NewMarks(MarksConfig{
		Origin: origin, Bus: b, Registry: n.registry, Publisher: n.publisher, Registration: n.publisher.told, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = marks.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return n
}

func (n *noting) start() *session.Session {
	s := session.New(session.Claimed{Key: session.Key{Tenant: "acme", Agent: identity.NewAgentID()}, Epoch: 3}, nil, time.Now())
	n.registry.Start(s)
	return s
}

// say lets a message arrive, and what is news in the queue.
func (n *noting) say(s *session.Session, number uint64, full bool) {
	n.t.Helper()
	var tells session.Parts
	if full {
		tells = session.Description
	}
	if s.Arrive(session.Arrival{Sequence: number, Tells: tells, News: full}, time.Now()).Relay {
		if err := n.publisher.Report(n.t.Context(), s, &relayv1.Report{Sequence: number}); err != nil {
			n.t.Fatal(err)
		}
		s.Settled()
	}
}

// mark is what stands in the session's register, nil if nothing does.
func (n *noting) mark(s *session.Session) *relayv1.Mark {
	n.t.Helper()
	synctest.Wait()
	register := uplink.Register(s.Key.Tenant, s.Key.Agent)
	values, err := n.bus.Get(n.t.Context(), bus.Marks(origin.Gateway), register)
	if err != nil {
		n.t.Fatal(err)
	}
	if values[0] == nil {
		return nil
	}
	var sealed relayv1.Sealed
	var mark relayv1.Mark
	if err := errors.Join(proto.Unmarshal(values[0], &sealed), proto.Unmarshal(sealed.GetBody(), &mark)); err != nil {
		n.t.Fatal(err)
	}
	if !key.SealedMark(register, sealed.GetBody(), sealed.GetSeal()) || len(values[0]) > 256 || mark.GetBootId() != origin.BootID {
		n.t.Fatalf("the mark %v of %d bytes is not sealed as it should be", &mark, len(values[0]))
	}
	return &mark
}

func (n *noting) want(s *session.Session, sequence uint64, whole bool) {
	n.t.Helper()
	mark := n.mark(s)
	if mark.GetEpoch() != s.Epoch() || mark.GetSequence() != sequence || mark.GetWhole() != whole || !mark.GetLastSeenAt().AsTime().Equal(s.LastSeen()) {
		n.t.Errorf("the mark is %v, want %d, whole %v, heard at %v", mark, sequence, whole, s.LastSeen())
	}
}

func TestMarksAreAMomentBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNoting(t)
		running(t, n.publisher)
		s := n.start()
		<-time.After(time.Second)
		if mark := n.mark(s); mark != nil {
			t.Errorf("before the agent has said anything the mark is %v", mark)
		}
		n.say(s, 0, true)
		<-time.After(MarkInterval)
		n.want(s, 0, true)
		n.say(s, 1, false)
		n.say(s, 2, false)
		<-time.After(MarkInterval)
		n.want(s, 2, true)
		s.Touch(time.Now())
		<-time.After(MarkInterval)
		n.want(s, 2, true)
		n.say(s, 5, false) // something was lost
		<-time.After(MarkInterval)
		n.want(s, 5, false)
		if changed := n.registry.Changed(); len(changed) != 0 {
			t.Errorf("%d sessions count as changed", len(changed))
		}
	})
}

// A mark waits for what the agent has said before: until it is queued, and until the bus
// has it.
func TestMarksCoverWhatIsOnTheBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNoting(t)
		s := n.start()
		s.Arrive(session.Arrival{Sequence: 0, Tells: session.Description, News: true}, time.Now())
		<-time.After(time.Second)
		if mark := n.mark(s); mark != nil {
			t.Errorf("while a report is on its way the mark is %v", mark)
		}
		if err := n.publisher.Report(t.Context(), s, &relayv1.Report{}); err != nil {
			t.Fatal(err)
		}
		s.Settled()
		<-time.After(time.Second)
		if mark := n.mark(s); mark != nil {
			t.Errorf("while the report waits for the bus the mark is %v", mark)
		}
		running(t, n.publisher)
		<-time.After(2 * MarkInterval)
		n.want(s, 0, true)
	})
}

// A failing bus delays marks; what has ended by then is left out.
func TestMarksOutlastAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := startNoting(t)
		running(t, n.publisher)
		s, ended := n.start(), n.start()
		n.say(s, 0, true)
		n.say(ended, 0, true)
		synctest.Wait()
		n.bus.gone.Store(true)
		<-time.After(time.Minute + MarkInterval/2)
		n.registry.End(ended, session.Closed)
		n.bus.gone.Store(false)
		<-time.After(2 * MarkInterval)
		n.want(s, 0, true)
		if mark := n.mark(ended); mark != nil {
			t.Errorf("of a session that has ended the mark is %v", mark)
		}
	})
}

// BenchmarkMark is what one heartbeat costs behind: a changed session, its mark, and the
// bus in memory.
func BenchmarkMark(b *testing.B) {
	registers := inproc.New(inproc.Options{})
	p, err := NewPublisher(origin, registers, registered(), slog.New(slog.DiscardHandler), noop.Meter{})
	if err != nil {
		b.Fatal(err)
	}
	registry := session.NewRegistry(func(*session.Session, session.EndReason) {})
	marks := NewMarks(MarksConfig{Origin: origin, Bus: registers, Registry: registry, Publisher: p, Registration: p.told, Log: slog.New(slog.DiscardHandler)})
	marks.sealer = key.Sealer()
	sessions := make([]*session.Session, 400)
	for i := range sessions {
		sessions[i] = session.New(session.Claimed{Key: session.Key{Tenant: "acme", Agent: identity.NewAgentID()}, Epoch: 1, StateKnown: true}, nil, time.Now())
		registry.Start(sessions[i])
	}
	b.ReportAllocs()
	number := uint64(0)
	for b.Loop() {
		s := sessions[number%400]
		s.Arrive(session.Arrival{Sequence: 1 + number/400}, time.Now())
		if number++; number%400 == 0 {
			marks.round(b.Context())
		}
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/open-telemetry/opamp-go/protobufs"
	"go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/gateway/internal/edge"
	"gitlab.com/ampora/ampora/gateway/internal/relay"
	"gitlab.com/ampora/ampora/gateway/internal/session"
	"gitlab.com/ampora/ampora/shared/bus/inproc"
	"gitlab.com/ampora/ampora/shared/identity"
)

// beating is the connection of an agent that sends one heartbeat after the other.
type beating struct {
	net.Conn
	frame  []byte
	at     int // of the sequence number
	unread []byte
	number uint64
}

func (b *beating) Read(p []byte) (int, error) {
	if len(b.unread) == 0 {
		b.number++
		for i := range 5 { // a varint of five bytes
			b.frame[b.at+i] = byte(b.number>>(7*i))&0x7f | 0x80
		}
		b.frame[b.at+4] &= 0x7f
		b.unread = b.frame
	}
	n := copy(p, b.unread)
	b.unread = b.unread[n:]
	return n, nil
}

func (b *beating) Write(p []byte) (int, error)      { return len(p), nil }
func (b *beating) SetReadDeadline(time.Time) error  { return nil }
func (b *beating) SetWriteDeadline(time.Time) error { return nil }

func newBeating(b *testing.B, uid identity.InstanceUID) *beating {
	data, err := proto.Marshal(&protobufs.AgentToServer{InstanceUid: uid[:], Capabilities: 0x7de7, SequenceNum: 1 << 31})
	if err != nil {
		b.Fatal(err)
	}
	frame := ws.NewBinaryFrame(append(beginFrame(nil), data...))
	frame.Header.Masked = true // with zeros
	c := &beating{frame: ws.MustCompileFrame(frame)}
	for c.at = 1; c.frame[c.at-1] != 2<<3 || c.frame[c.at+4] != 0x08; c.at++ { // field 2, a number of five bytes
	}
	return c
}

// BenchmarkHeartbeat is a heartbeat from its frame to that of the answer, without TLS.
func BenchmarkHeartbeat(b *testing.B) {
	at := time.Now()
	clock := func() time.Time { at = at.Add(session.PaceOfMessages); return at } // nobody is too fast
	meter := metric.NewMeterProvider(metric.WithReader(metric.NewManualReader())).Meter("test")
	publisher, err := relay.NewPublisher(relay.Origin{Gateway: "gw-1", BootID: 1}, inproc.New(inproc.Options{}), relay.NewRegistration(clock), slog.New(slog.DiscardHandler), meter)
	if err != nil {
		b.Fatal(err)
	}
	server, err := NewServer(Config{
		Registry: session.NewRegistry(publisher.Ended), Publisher: publisher, Log: slog.New(slog.DiscardHandler), Clock: clock, Mask: ^Mask(0),
		Limits: Limits{MessageBytes: 1 << 20, FrameTime: time.Second, WriteTime: time.Second, PingInterval: time.Second, IdleTime: 3 * time.Second},
	}, meter)
	if err != nil {
		b.Fatal(err)
	}
	uid, agent := identity.InstanceUID{1}, identity.Agent{Tenant: "acme", ID: identity.NewAgentID()}
	c := &socket{conn: newBeating(b, uid), limits: server.Limits, clock: clock, heard: clock()}
	l := newLink(server, c, edge.Caller{Agent: agent})
	claimed := session.Claimed{Key: session.Key{Tenant: agent.Tenant, Agent: agent.ID}, UID: uid, Epoch: 1, StateKnown: true}
	if err := l.start(b.Context(), uid, session.New(claimed, l, clock()), false); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		message, end := c.receive()
		if end != nil {
			b.Fatal(end)
		}
		out := l.take(b.Context(), message)
		message.release()
		if err := l.write(b.Context(), out.answer, out.session); err != nil || out.shed {
			b.Fatal(out, err)
		}
	}
}

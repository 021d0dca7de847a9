// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/bus/bustest"
	"gitlab.com/ampora/ampora/shared/identity"
)

const capacity = 100

// installation is the bus of a whole installation in one value: each call is made by the
// process that makes it in earnest, as its own user.
type installation struct {
	prefix   string
	control  *Bus
	gateways map[identity.GatewayID]*Bus
}

var installations atomic.Int64

// install makes an installation with users and a prefix of its own.
func install(t testing.TB, l *link, servers ...*server) *installation {
	t.Helper()
	i := &installation{prefix: fmt.Sprintf("t%d", installations.Add(1)), gateways: make(map[identity.GatewayID]*Bus)}
	for _, s := range servers {
		s.addUsers(i.prefix)
	}
	i.control = open(t, l.url(i.prefix+controlUser), i.prefix)
	for _, gateway := range gatewayUsers {
		i.gateways[gateway] = open(t, l.url(i.prefix+userOf(gateway)), i.prefix)
	}
	return i
}

func open(t testing.TB, url, prefix string) *Bus {
	t.Helper()
	b, err := Open(url, Options{Prefix: prefix, MaxMessages: capacity})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// gateway is that of an id, or any.
func (i *installation) gateway(id identity.GatewayID) *Bus {
	if b, found := i.gateways[id]; found {
		return b
	}
	return i.gateways[gatewayUsers[0]]
}

func (i *installation) Publish(ctx context.Context, messages ...bus.Outgoing) error {
	return i.gateway("").Publish(ctx, messages...)
}

func (i *installation) Read(ctx context.Context, partition int, after bus.Position, limit int) (bus.Batch, error) {
	return i.control.Read(ctx, partition, after, limit)
}

func (i *installation) Trim(ctx context.Context, partition int, upTo bus.Position) error {
	return i.control.Trim(ctx, partition, upTo)
}

func (i *installation) Send(ctx context.Context, gateway identity.GatewayID, ttl time.Duration, payloads ...[]byte) error {
	return i.control.Send(ctx, gateway, ttl, payloads...)
}

func (i *installation) Receive(ctx context.Context, gateway identity.GatewayID, after bus.Position, limit int) (bus.Batch, error) {
	return i.gateway(gateway).Receive(ctx, gateway, after, limit)
}

// Set: control writes mail, a gateway all else.
func (i *installation) Set(ctx context.Context, shelf bus.Shelf, ttl time.Duration, registers ...bus.Register) error {
	if shelf == bus.Mail {
		return i.control.Set(ctx, shelf, ttl, registers...)
	}
	return i.owner(shelf).Set(ctx, shelf, ttl, registers...)
}

// Get: control reads marks, a gateway all else.
func (i *installation) Get(ctx context.Context, shelf bus.Shelf, names ...string) ([][]byte, error) {
	if strings.HasPrefix(string(shelf), "marks/") {
		return i.control.Get(ctx, shelf, names...)
	}
	return i.gateway("").Get(ctx, shelf, names...)
}

func (i *installation) owner(shelf bus.Shelf) *Bus {
	id, _ := strings.CutPrefix(string(shelf), "marks/")
	return i.gateway(identity.GatewayID(id))
}

func (i *installation) Close() error {
	for _, b := range i.gateways {
		_ = b.Close()
	}
	return i.control.Close()
}

var _ bus.Bus = (*installation)(nil)

func TestConformance(t *testing.T) {
	t.Run("without persistence", func(t *testing.T) { conformance(t, startServer(t)) })
	t.Run("with persistence", func(t *testing.T) {
		conformance(t, startServer(t, "--appendonly", "yes", "--appendfsync", "always"))
	})
	t.Run("with a replica", func(t *testing.T) { conformanceOfPair(t, startPair(t)) })
}

func conformance(t *testing.T, s *server) {
	bustest.Run(t, func(t *testing.T) bustest.Harness {
		l := newLink(t, s)
		i := install(t, l, s)
		return bustest.Harness{
			Bus:      i,
			Capacity: capacity,
			Advance:  time.Sleep,
			Restart: func(testing.TB) bus.Bus {
				s.kill()
				l.cut()
				s.start()
				return i
			},
			Flush: func(testing.TB) { s.do("FLUSHALL") },
			LoseTail: func(_ testing.TB, n int) {
				s.loseTail(n)
				l.cut()
			},
			Stall: func(testing.TB) func() {
				l.stall()
				return l.resume
			},
		}
	})
}

func conformanceOfPair(t *testing.T, p *pair) {
	bustest.Run(t, func(t *testing.T) bustest.Harness {
		p.link = newLink(t, p.primary)
		return bustest.Harness{
			Bus:      install(t, p.link, p.primary, p.replica),
			Capacity: capacity,
			Advance:  time.Sleep,
			Flush:    func(testing.TB) { p.primary.do("FLUSHALL") },
			LoseTail: func(_ testing.TB, n int) {
				p.promote(func() { p.replica.dropTails(n) })
				p.rejoin()
			},
		}
	})
}

// loseTail leaves the server as a promoted replica is that lacked the last n entries of
// each stream: with a new history, and streams that go on from where they ended for it.
func (s *server) loseTail(n int) {
	s.t.Helper()
	s.do("REPLICAOF", "127.0.0.1", "1")
	s.do("REPLICAOF", "NO", "ONE")
	s.dropTails(n)
}

func (s *server) dropTails(n int) {
	s.t.Helper()
	ctx := context.Background()
	keys := s.admin.ScanType(ctx, 0, "*", 1<<20, "stream").Iterator()
	for keys.Next(ctx) {
		entries := s.admin.XRange(ctx, keys.Val(), "-", "+").Val()
		pipe := s.admin.TxPipeline()
		pipe.Del(ctx, keys.Val())
		for _, e := range entries[:max(0, len(entries)-n)] {
			arguments := []any{"XADD", keys.Val(), e.ID}
			for name, value := range e.Values {
				arguments = append(arguments, name, value)
			}
			pipe.Do(ctx, arguments...)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := keys.Err(); err != nil {
		s.t.Fatal(err)
	}
}

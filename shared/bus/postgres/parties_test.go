// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/bus/postgres"
	"gitlab.com/ampora/ampora/shared/identity"
)

// parties is a bus whose every call is made by the party that makes it in an
// installation: the control plane, or a gateway with a login of its own. So the
// contract is kept by who may do no more than they must.
type parties struct {
	database *database
	via      string // host and port to connect to in place of the server's, if any

	mu       sync.Mutex
	closed   bool
	control  *postgres.Bus
	gateways map[identity.GatewayID]*postgres.Bus
}

var _ bus.Bus = (*parties)(nil)

// publisher is the gateway that publishes.
const publisher = "gateway"

func newParties(t testing.TB, d *database, via string) *parties {
	t.Helper()
	p := &parties{database: d, via: via, gateways: map[identity.GatewayID]*postgres.Bus{}}
	p.control = p.open(t, d.url(controlLogin), postgres.Options{})
	t.Cleanup(func() { _ = p.Close() })
	p.gateway(publisher)
	return p
}

func (p *parties) open(t testing.TB, address string, options postgres.Options) *postgres.Bus {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if p.via != "" {
		parsed.Host = p.via
	}
	b, err := postgres.Open(context.WithoutCancel(t.Context()), parsed.String(), options)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return b
}

// gateway is the bus of a gateway, which is opened when it is first asked for.
func (p *parties) gateway(id identity.GatewayID) bus.Bus {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gateways[id] == nil && !p.closed {
		p.gateways[id] = p.open(p.database.t, p.database.admit(string(id)), postgres.Options{Gateway: id})
	}
	if p.gateways[id] == nil {
		return p.control // which is closed
	}
	return p.gateways[id]
}

func (p *parties) Publish(ctx context.Context, messages ...bus.Outgoing) error {
	return p.gateway(publisher).Publish(ctx, messages...)
}

func (p *parties) Read(ctx context.Context, partition int, after bus.Position, limit int) (bus.Batch, error) {
	return p.control.Read(ctx, partition, after, limit)
}

func (p *parties) Trim(ctx context.Context, partition int, upTo bus.Position) error {
	return p.control.Trim(ctx, partition, upTo)
}

func (p *parties) Send(ctx context.Context, gateway identity.GatewayID, ttl time.Duration, payloads ...[]byte) error {
	return p.control.Send(ctx, gateway, ttl, payloads...)
}

func (p *parties) Receive(ctx context.Context, gateway identity.GatewayID, after bus.Position, limit int) (bus.Batch, error) {
	if gateway == "" {
		return p.control.Receive(ctx, gateway, after, limit)
	}
	return p.gateway(gateway).Receive(ctx, gateway, after, limit)
}

func (p *parties) Set(ctx context.Context, shelf bus.Shelf, ttl time.Duration, registers ...bus.Register) error {
	return p.writer(shelf).Set(ctx, shelf, ttl, registers...)
}

func (p *parties) Get(ctx context.Context, shelf bus.Shelf, names ...string) ([][]byte, error) {
	if shelf == bus.Polls || shelf == bus.Mail {
		return p.gateway(publisher).Get(ctx, shelf, names...)
	}
	return p.control.Get(ctx, shelf, names...)
}

func (p *parties) writer(shelf bus.Shelf) bus.Bus {
	if gateway, isMarks := strings.CutPrefix(string(shelf), "marks/"); isMarks {
		return p.gateway(identity.GatewayID(gateway))
	}
	if shelf == bus.Polls {
		return p.gateway(publisher)
	}
	return p.control
}

func (p *parties) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, b := range append(slices.Collect(maps.Values(p.gateways)), p.control) {
		if err := b.Close(); err != nil {
			return err
		}
	}
	return nil
}

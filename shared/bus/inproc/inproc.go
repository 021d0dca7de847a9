// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package inproc is the bus of a single process: bounded queues and registers in
// memory.
//
// It keeps the contract of package bus. It never answers ErrUnavailable, and it
// loses everything, visibly, when the process ends: each stream has a life of its
// own, which its positions name, so a position kept from an earlier process reads
// as a loss. Publish is atomic per message; an error leaves the messages before
// the one that met it accepted.
package inproc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Bounds of one stream that apply where [Options] are silent. All uplinks
// together hold at most 64 times as much: 256 MiB of payload.
const (
	DefaultMaxMessages = 8192
	DefaultMaxBytes    = 4 * bus.MaxPayload
)

// Options of a Bus. The zero value means the defaults.
type Options struct {
	MaxMessages int              // per stream; 0 means DefaultMaxMessages
	MaxBytes    int              // of payload, per stream, at least MaxPayload; 0 means DefaultMaxBytes
	Now         func() time.Time // the clock of ttls; nil means time.Now
}

// Bus is a [bus.Bus] in memory. Make one with [New].
type Bus struct {
	limits limits
	now    func() time.Time

	closing sync.Once
	closed  chan struct{}

	uplinks   [bus.Partitions]*stream
	mu        sync.Mutex
	downlinks map[identity.GatewayID]*stream // as many as gateways were ever sent to
	registers registers
}

var _ bus.Bus = (*Bus)(nil)

// New makes an empty bus.
func New(options Options) *Bus {
	b := &Bus{
		limits:    limits{messages: DefaultMaxMessages, bytes: DefaultMaxBytes},
		now:       time.Now,
		closed:    make(chan struct{}),
		downlinks: make(map[identity.GatewayID]*stream),
		registers: registers{values: make(map[place]value)},
	}
	if options.MaxMessages > 0 {
		b.limits.messages = options.MaxMessages
	}
	if options.MaxBytes > 0 {
		b.limits.bytes = max(options.MaxBytes, bus.MaxPayload)
	}
	if options.Now != nil {
		b.now = options.Now
	}
	for i := range b.uplinks {
		b.uplinks[i] = newStream()
	}
	return b
}

// Publish implements [bus.Uplinks].
func (b *Bus) Publish(ctx context.Context, messages ...bus.Outgoing) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	for _, message := range messages {
		if err := bus.CheckPartition(message.Partition); err != nil {
			return err
		}
		if err := bus.CheckPayload(message.Payload); err != nil {
			return err
		}
	}
	for _, message := range messages {
		if err := b.uplinks[message.Partition].append(b.limits, entry{payload: message.Payload}); err != nil {
			return err
		}
	}
	return nil
}

// Read implements [bus.Uplinks].
func (b *Bus) Read(ctx context.Context, partition int, after bus.Position, limit int) (bus.Batch, error) {
	if err := bus.CheckPartition(partition); err != nil {
		return bus.Batch{}, err
	}
	s := b.uplinks[partition]
	return b.await(ctx, s, func() (bus.Batch, bool) { return s.read(after, limit) })
}

// Trim implements [bus.Uplinks].
func (b *Bus) Trim(ctx context.Context, partition int, upTo bus.Position) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	if err := bus.CheckPartition(partition); err != nil {
		return err
	}
	b.uplinks[partition].trim(upTo)
	return nil
}

// Send implements [bus.Downlinks].
func (b *Bus) Send(ctx context.Context, gateway identity.GatewayID, ttl time.Duration, payloads ...[]byte) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	if gateway == "" || ttl <= 0 {
		return fmt.Errorf("%w: no gateway or a ttl of %v", bus.ErrInvalid, ttl)
	}
	for _, payload := range payloads {
		if err := bus.CheckPayload(payload); err != nil {
			return err
		}
	}
	s, now := b.downlink(gateway), b.now()
	s.expire(now)
	for _, payload := range payloads {
		if err := s.append(b.limits, entry{payload: payload, expires: now.Add(ttl)}); err != nil {
			return err
		}
	}
	return nil
}

// Receive implements [bus.Downlinks].
func (b *Bus) Receive(ctx context.Context, gateway identity.GatewayID, after bus.Position, limit int) (bus.Batch, error) {
	if gateway == "" {
		return bus.Batch{}, fmt.Errorf("%w: no gateway", bus.ErrInvalid)
	}
	s := b.downlink(gateway)
	s.trim(after)
	return b.await(ctx, s, func() (bus.Batch, bool) {
		s.expire(b.now())
		return s.read(after, limit)
	})
}

// Close implements [bus.Bus].
func (b *Bus) Close() error {
	b.closing.Do(func() { close(b.closed) })
	return nil
}

// await repeats a read until it has something to report. The signal is taken
// before the read, so that nothing appended in between is slept through.
func (b *Bus) await(ctx context.Context, s *stream, read func() (bus.Batch, bool)) (bus.Batch, error) {
	for {
		if err := b.usable(ctx); err != nil {
			return bus.Batch{}, err
		}
		changed := s.signal()
		if batch, reports := read(); reports {
			return batch, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-b.closed:
		}
	}
}

func (b *Bus) usable(ctx context.Context) error {
	select {
	case <-b.closed:
		return bus.ErrClosed
	default:
		return ctx.Err()
	}
}

func (b *Bus) downlink(gateway identity.GatewayID) *stream {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, found := b.downlinks[gateway]
	if !found {
		s = newStream()
		b.downlinks[gateway] = s
	}
	return s
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package measured is a bus that measures another one: how long its calls take, what becomes of them and how many
// messages pass. It changes nothing else: what it returns is what the other returned.
package measured

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/instrument"
)

// Bus is a measured [bus.Bus]. Make one with [New].
type Bus struct {
	bus.Bus
	took     instrument.Histogram
	reads    instrument.Counter
	messages instrument.Counter
}

var _ bus.Bus = (*Bus)(nil)

// The values of the labels.
const (
	publish = "publish"
	read    = "read"
	trim    = "trim"
	send    = "send"
	receive = "receive"
	set     = "set"
	get     = "get"

	ok          = "ok"
	lost        = "lost"
	full        = "full"
	unavailable = "unavailable"
	tooLarge    = "too_large"
	ended       = "ended"
	failed      = "failed"
)

// New measures a bus on the meter.
func New(b bus.Bus, meter metric.Meter) (*Bus, error) {
	made := instrument.On(meter)
	return &Bus{
		Bus: b,
		took: made.Histogram("ampora_bus_call_duration", "s", "Calls of the bus that do not wait for messages.", instrument.Seconds,
			instrument.By("operation", publish, trim, send, set, get), instrument.By("outcome", ok, full, unavailable, tooLarge, ended, failed)),
		reads: made.Counter("ampora_bus_reads", "{read}", "Reads of the bus, which wait for messages: lost are those that told of a loss, ended those that nobody waited for any more.",
			instrument.By("operation", read, receive), instrument.By("outcome", ok, lost, unavailable, ended, failed)),
		messages: made.Counter("ampora_bus_messages", "{message}", "Messages that the bus took, and messages that it gave out.",
			instrument.By("operation", publish, read, send, receive)),
	}, made.Err()
}

// outcomeOf is what became of a call.
func outcomeOf(err error) string {
	switch {
	case err == nil:
		return ok
	case errors.Is(err, bus.ErrFull):
		return full
	case errors.Is(err, bus.ErrUnavailable):
		return unavailable
	case errors.Is(err, bus.ErrTooLarge):
		return tooLarge
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, bus.ErrClosed):
		return ended
	default:
		return failed
	}
}

// timed measures a call about a number of messages.
func (b *Bus) timed(ctx context.Context, operation string, messages int, call func() error) error {
	began := time.Now()
	err := call()
	b.took.Took(ctx, time.Since(began), operation, outcomeOf(err))
	if err == nil && messages > 0 {
		b.messages.Add(ctx, int64(messages), operation)
	}
	return err
}

// waited counts a read. Without a position nothing can be lost, whatever the batch says.
func (b *Bus) waited(ctx context.Context, operation string, after bus.Position, batch bus.Batch, err error) (bus.Batch, error) {
	outcome := outcomeOf(err)
	if err == nil && batch.Lost && after != "" {
		outcome = lost
	}
	b.reads.Add(ctx, 1, operation, outcome)
	if n := len(batch.Messages); n > 0 {
		b.messages.Add(ctx, int64(n), operation)
	}
	return batch, err
}

// Publish implements [bus.Uplinks].
func (b *Bus) Publish(ctx context.Context, messages ...bus.Outgoing) error {
	return b.timed(ctx, publish, len(messages), func() error { return b.Bus.Publish(ctx, messages...) })
}

// Read implements [bus.Uplinks].
func (b *Bus) Read(ctx context.Context, partition int, after bus.Position, limit int) (bus.Batch, error) {
	batch, err := b.Bus.Read(ctx, partition, after, limit)
	return b.waited(ctx, read, after, batch, err)
}

// Trim implements [bus.Uplinks].
func (b *Bus) Trim(ctx context.Context, partition int, upTo bus.Position) error {
	return b.timed(ctx, trim, 0, func() error { return b.Bus.Trim(ctx, partition, upTo) })
}

// Send implements [bus.Downlinks].
func (b *Bus) Send(ctx context.Context, gateway identity.GatewayID, ttl time.Duration, payloads ...[]byte) error {
	return b.timed(ctx, send, len(payloads), func() error { return b.Bus.Send(ctx, gateway, ttl, payloads...) })
}

// Receive implements [bus.Downlinks].
func (b *Bus) Receive(ctx context.Context, gateway identity.GatewayID, after bus.Position, limit int) (bus.Batch, error) {
	batch, err := b.Bus.Receive(ctx, gateway, after, limit)
	return b.waited(ctx, receive, after, batch, err)
}

// Set implements [bus.Registers].
func (b *Bus) Set(ctx context.Context, shelf bus.Shelf, ttl time.Duration, registers ...bus.Register) error {
	return b.timed(ctx, set, 0, func() error { return b.Bus.Set(ctx, shelf, ttl, registers...) })
}

// Get implements [bus.Registers].
func (b *Bus) Get(ctx context.Context, shelf bus.Shelf, names ...string) (values [][]byte, err error) {
	err = b.timed(ctx, get, 0, func() error { values, err = b.Bus.Get(ctx, shelf, names...); return err })
	return values, err
}

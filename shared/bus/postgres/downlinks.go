// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Send implements [bus.Downlinks].
func (b *Bus) Send(ctx context.Context, gateway identity.GatewayID, ttl time.Duration, payloads ...[]byte) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	if gateway == "" || ttl <= 0 {
		return fmt.Errorf("%w: no gateway or a ttl of %v", bus.ErrInvalid, ttl)
	}
	rest := slices.Clone(payloads)
	for i, payload := range rest {
		if err := bus.CheckPayload(payload); err != nil {
			return err
		}
		rest[i] = present(payload)
	}
	for len(rest) > 0 {
		n := portion(rest)
		if err := b.append(ctx, "send", "SELECT ampora_bus.send($1, $2, $3)", string(gateway), microseconds(ttl), rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// Receive implements [bus.Downlinks].
func (b *Bus) Receive(ctx context.Context, gateway identity.GatewayID, after bus.Position, limit int) (bus.Batch, error) {
	if gateway == "" {
		return bus.Batch{}, fmt.Errorf("%w: no gateway", bus.ErrInvalid)
	}
	return b.await(ctx, "", func() (bus.Batch, bool, error) {
		return b.page(ctx, "receive", "SELECT id, lost, next, numbers, payloads FROM ampora_bus.receive($1, $2, $3, $4)", string(gateway), after, limit)
	})
}

// microseconds is a ttl as the database counts it, never less than it was.
func microseconds(ttl time.Duration) int64 {
	return int64((ttl-1)/time.Microsecond) + 1
}

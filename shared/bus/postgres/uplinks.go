// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"strconv"

	"gitlab.com/ampora/ampora/shared/bus"
)

// Publish implements [bus.Uplinks].
func (b *Bus) Publish(ctx context.Context, messages ...bus.Outgoing) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	partitions, payloads := make([]int, len(messages)), make([][]byte, len(messages))
	for i, message := range messages {
		if err := bus.CheckPartition(message.Partition); err != nil {
			return err
		}
		if err := bus.CheckPayload(message.Payload); err != nil {
			return err
		}
		partitions[i], payloads[i] = message.Partition, present(message.Payload)
	}
	for len(payloads) > 0 {
		n := portion(payloads)
		if err := b.append(ctx, "publish", "SELECT ampora_bus.publish($1, $2)", partitions[:n], payloads[:n]); err != nil {
			return err
		}
		partitions, payloads = partitions[n:], payloads[n:]
	}
	return nil
}

// Read implements [bus.Uplinks].
func (b *Bus) Read(ctx context.Context, partition int, after bus.Position, limit int) (bus.Batch, error) {
	if err := bus.CheckPartition(partition); err != nil {
		return bus.Batch{}, err
	}
	return b.await(ctx, strconv.Itoa(partition), func() (bus.Batch, bool, error) {
		return b.page(ctx, "read", "SELECT id, lost, next, numbers, payloads FROM ampora_bus.read($1, $2, $3, $4)", partition, after, limit)
	})
}

// Trim implements [bus.Uplinks].
func (b *Bus) Trim(ctx context.Context, partition int, upTo bus.Position) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	if err := bus.CheckPartition(partition); err != nil {
		return err
	}
	p := parse(upTo)
	return b.call(ctx, "trim", func(ctx context.Context) error {
		_, err := b.pool.Exec(ctx, "SELECT ampora_bus.trim($1, $2, $3)", partition, p.stream, p.number)
		return err
	})
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"

	"gitlab.com/ampora/ampora/shared/bus"
)

// Publish implements [bus.Uplinks].
func (b *Bus) Publish(ctx context.Context, messages ...bus.Outgoing) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	records := make([]record, len(messages))
	for i, message := range messages {
		if err := bus.CheckPartition(message.Partition); err != nil {
			return err
		}
		if err := bus.CheckPayload(message.Payload); err != nil {
			return err
		}
		records[i] = record{stream: b.names.uplink(message.Partition), payload: message.Payload}
	}
	n, err := b.room(ctx, records)
	if err != nil {
		return err
	}
	if err := b.append(ctx, records[:n], uplinkHint(messages[:n])); err != nil {
		return err
	}
	if n < len(records) {
		return bus.ErrFull
	}
	return nil
}

// Read implements [bus.Uplinks].
func (b *Bus) Read(ctx context.Context, partition int, after bus.Position, limit int) (bus.Batch, error) {
	if err := bus.CheckPartition(partition); err != nil {
		return bus.Batch{}, err
	}
	return b.reader(b.names.uplink(partition), after, limit).await(ctx)
}

// Trim implements [bus.Uplinks].
func (b *Bus) Trim(ctx context.Context, partition int, upTo bus.Position) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	if err := bus.CheckPartition(partition); err != nil {
		return err
	}
	return b.reader(b.names.uplink(partition), upTo, 1).trim(ctx)
}

// trim forgets what lies before the reader's place, and keeps the place as the anchor.
// Should the stream change between looking and trimming, then other messages go than
// were meant: a loss, but no silent one, for whoever is behind finds its place gone.
func (r *reader) trim(ctx context.Context) error {
	if !r.known {
		return nil
	}
	p, err := r.bus.page(ctx, r.stream, id(r.at.number), 0)
	if err != nil || !p.beginsAt(r.at) {
		return err
	}
	return r.bus.trimBefore(ctx, r.stream, r.at.number)
}

func (b *Bus) trimBefore(ctx context.Context, s stream, number uint64) error {
	return b.do(ctx, trip{queue: func(c call) { c.XTrimMinID(ctx, s.key, id(number)) }})
}

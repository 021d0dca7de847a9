// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"slices"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"gitlab.com/ampora/ampora/shared/bus"
)

// registersAtOnce bounds the registers of one round trip.
const registersAtOnce = 1024

// Set implements [bus.Registers].
func (b *Bus) Set(ctx context.Context, shelf bus.Shelf, ttl time.Duration, registers ...bus.Register) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	if err := bus.CheckRegisters(shelf, ttl, registers...); err != nil {
		return err
	}
	for some := range slices.Chunk(registers, registersAtOnce) {
		err := b.do(ctx, trip{queue: func(c call) {
			for _, r := range some {
				c.Do(ctx, "SET", b.names.register(shelf, r.Name), r.Value, "PX", max(ttl.Milliseconds(), 1))
			}
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// Get implements [bus.Registers].
func (b *Bus) Get(ctx context.Context, shelf bus.Shelf, names ...string) ([][]byte, error) {
	if err := b.usable(ctx); err != nil {
		return nil, err
	}
	if err := bus.CheckNames(shelf, names...); err != nil {
		return nil, err
	}
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = b.names.register(shelf, name)
	}
	values := make([][]byte, 0, len(names))
	for some := range slices.Chunk(keys, registersAtOnce) {
		var found *goredis.SliceCmd
		if err := b.do(ctx, trip{queue: func(c call) { found = c.MGet(ctx, some...) }}); err != nil {
			return nil, err
		}
		values = append(values, valuesOf(found, len(some))...)
	}
	return values, nil
}

// valuesOf is the answer to an MGET of that many keys, whatever the server answered.
func valuesOf(found *goredis.SliceCmd, count int) [][]byte {
	values := make([][]byte, count)
	for i, value := range found.Val() {
		if text, set := value.(string); set && i < count && len(text) <= bus.MaxRegister {
			values[i] = []byte(text)
		}
	}
	return values
}

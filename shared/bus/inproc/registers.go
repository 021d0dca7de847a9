// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package inproc

import (
	"context"
	"sync"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
)

// registers holds values until they expire. What is out of time is swept when the
// map has doubled since the last sweep, so memory follows what lives.
type registers struct {
	mu      sync.Mutex
	values  map[place]value
	sweepAt int
}

type place struct {
	shelf bus.Shelf
	name  string
}

type value struct {
	bytes   []byte
	expires time.Time
}

const leastSweep = 1024

// Set implements [bus.Registers].
func (b *Bus) Set(ctx context.Context, shelf bus.Shelf, ttl time.Duration, list ...bus.Register) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	if err := bus.CheckRegisters(shelf, ttl, list...); err != nil {
		return err
	}
	now := b.now()
	b.registers.mu.Lock()
	defer b.registers.mu.Unlock()
	for _, r := range list {
		b.registers.values[place{shelf, r.Name}] = value{bytes: r.Value, expires: now.Add(ttl)}
	}
	b.registers.sweep(now)
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
	now := b.now()
	b.registers.mu.Lock()
	defer b.registers.mu.Unlock()
	found := make([][]byte, len(names))
	for i, name := range names {
		if v, set := b.registers.values[place{shelf, name}]; set && now.Before(v.expires) {
			found[i] = append([]byte{}, v.bytes...)
		}
	}
	return found, nil
}

func (r *registers) sweep(now time.Time) {
	if len(r.values) < max(leastSweep, r.sweepAt) {
		return
	}
	for at, v := range r.values {
		if !now.Before(v.expires) {
			delete(r.values, at)
		}
	}
	r.sweepAt = 2 * len(r.values)
}

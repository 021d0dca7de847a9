// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
)

// Set implements [bus.Registers].
func (b *Bus) Set(ctx context.Context, shelf bus.Shelf, ttl time.Duration, registers ...bus.Register) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	if err := bus.CheckRegisters(shelf, ttl, registers...); err != nil {
		return err
	}
	names, values := make([]string, len(registers)), make([][]byte, len(registers))
	for i, r := range registers {
		names[i], values[i] = r.Name, present(r.Value)
	}
	query := "SELECT ampora_bus.post($1, $2, $3, $4)"
	if b.gateway != "" {
		query = "SELECT ampora_bus.note($1, $2, $3, $4)"
	}
	for len(names) > 0 {
		n := portion(values)
		if err := b.call(ctx, "set registers", func(ctx context.Context) error {
			_, err := b.pool.Exec(ctx, query, string(shelf), microseconds(ttl), names[:n], values[:n])
			return err
		}); err != nil {
			return err
		}
		names, values = names[n:], values[n:]
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
	if len(names) == 0 {
		return [][]byte{}, nil
	}
	query := "SELECT ampora_bus.look_up($1, $2)"
	if b.gateway != "" {
		query = "SELECT ampora_bus.consult($1, $2)"
	}
	var values [][]byte
	err := b.call(ctx, "get registers", func(ctx context.Context) error {
		return b.pool.QueryRow(ctx, query, string(shelf), names).Scan(&values)
	})
	return values, err
}

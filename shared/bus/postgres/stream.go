// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
)

// place is a position in parts: the stream's own id, which no other stream ever had,
// and the number of a message in it. Text that is no position is of no stream.
type place struct {
	stream string
	number int64
}

func parse(position bus.Position) place {
	stream, text, _ := strings.Cut(string(position), ".")
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || number < 0 || len(stream) != len("00000000-0000-0000-0000-000000000000") || strings.Trim(stream, "0123456789abcdef-") != "" {
		return place{}
	}
	return place{stream, number}
}

func (p place) position() bus.Position {
	return bus.Position(p.stream + "." + strconv.FormatInt(p.number, 10))
}

// append runs a query that says whether all it was given was accepted.
func (b *Bus) append(ctx context.Context, what, query string, args ...any) error {
	var all bool
	err := b.call(ctx, what, func(ctx context.Context) error {
		return b.pool.QueryRow(ctx, query, args...).Scan(&all)
	})
	if err == nil && !all {
		return bus.ErrFull
	}
	return err
}

// page runs a query that reads a stream once; false says that there is nothing to
// report.
func (b *Bus) page(ctx context.Context, what, query string, stream any, after bus.Position, limit int) (bus.Batch, bool, error) {
	p, most := parse(after), min(max(limit, 1), math.MaxInt32)
	var id string
	var lost *bool
	var next *int64
	var numbers []int64
	var payloads [][]byte
	err := b.call(ctx, what, func(ctx context.Context) error {
		return b.pool.QueryRow(ctx, query, stream, p.stream, p.number, most).Scan(&id, &lost, &next, &numbers, &payloads)
	})
	if err != nil || lost == nil {
		return bus.Batch{}, false, err
	}
	batch := bus.Batch{Lost: *lost, Next: place{id, *next}.position(), Messages: make([]bus.Message, len(numbers))}
	for i, number := range numbers {
		batch.Messages[i] = bus.Message{Position: place{id, number}.position(), Payload: payloads[i]}
	}
	return batch, true, nil
}

// await repeats a read until it has something to report. The signal is taken before
// the read, so that nothing appended in between is slept through.
func (b *Bus) await(ctx context.Context, topic string, read func() (bus.Batch, bool, error)) (bus.Batch, error) {
	glances := time.NewTicker(glance)
	defer glances.Stop()
	for {
		if err := b.usable(ctx); err != nil {
			return bus.Batch{}, err
		}
		rung := b.bell.signal(topic)
		if batch, reports, err := read(); reports || err != nil {
			return batch, err
		}
		select {
		case <-rung:
		case <-glances.C:
		case <-ctx.Done():
		case <-b.life.Done():
		}
	}
}

// portion is how many of the payloads go into one statement, 1 at least.
func portion(payloads [][]byte) int {
	const messages, bytes = 1000, 4 << 20
	size := 0
	for i, payload := range payloads {
		if size += len(payload); i == messages || i > 0 && size > bytes {
			return i
		}
	}
	return len(payloads)
}

// present makes of a nil payload, which would be null, an empty one.
func present(payload []byte) []byte {
	if payload == nil {
		return []byte{}
	}
	return payload
}

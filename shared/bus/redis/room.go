// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"

	goredis "github.com/redis/go-redis/v9"
)

// limits are the bounds of one stream.
type limits struct{ messages, bytes int }

// size is how much a stream holds: messages, and bytes of Redis's memory.
type size struct{ messages, bytes int }

// overhead is about what an entry takes in memory beside its payload.
const overhead = 64

// fitting counts the records, from the first on, that have room, and adds these to the
// sizes of their streams.
func (l limits) fitting(sizes map[string]size, records []record) int {
	for i, r := range records {
		s := sizes[r.stream.key]
		s.messages++
		s.bytes += len(r.payload) + overhead
		if s.messages > l.messages || s.bytes > l.bytes {
			return i
		}
		sizes[r.stream.key] = s
	}
	return len(records)
}

// measure is what was asked about the size of a stream.
type measure struct {
	stream         stream
	length, memory *goredis.IntCmd
}

// samples is from how many blocks of a stream Redis estimates its memory: enough to be
// right about messages of unlike sizes, and few enough to cost microseconds.
const samples = 32

func (c call) measure(ctx context.Context, streams []stream) []measure {
	measures := make([]measure, len(streams))
	for i, s := range streams {
		measures[i] = measure{s, c.XLen(ctx, s.key), c.MemoryUsage(ctx, s.key, samples)}
	}
	return measures
}

// size does not count the anchor as a message, only as memory.
func (m measure) size() size {
	return size{messages: int(max(m.length.Val()-1, 0)), bytes: int(m.memory.Val())}
}

// learn remembers the sizes of uplink streams.
func (b *Bus) learn(measures []measure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range measures {
		if m.stream.idle == 0 {
			b.sizes[m.stream.key] = m.size()
		}
	}
}

// room counts the records that fit into uplink streams. What is remembered is believed,
// unless it says that something does not fit: then the streams are measured.
func (b *Bus) room(ctx context.Context, records []record) (int, error) {
	if n := b.remembered(records); n == len(records) {
		return n, nil
	}
	var measures []measure
	streams := streamsOf(records)
	if err := b.do(ctx, trip{queue: func(c call) { measures = c.measure(ctx, streams) }}); err != nil {
		return 0, err
	}
	b.learn(measures)
	return b.remembered(records), nil
}

func (b *Bus) remembered(records []record) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limits.fitting(b.sizes, records)
}

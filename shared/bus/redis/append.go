// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"slices"

	goredis "github.com/redis/go-redis/v9"

	"gitlab.com/ampora/ampora/shared/bus"
)

// errRestless: each time a stream was made it was gone again.
var errRestless = bus.ErrUnavailable.WithCause(errors.New("a stream does not last"))

// append appends records, all of them or none, except to streams that were not there:
// these are begun, and theirs follow. It tells the channel of the records, with a hint.
// The ids are entries of the first stream that make room: they go when the records come,
// because the hole before these is what shows a reader that something is gone.
func (b *Bus) append(ctx context.Context, records []record, hint string, ids ...string) error {
	const tries = 4
	for range tries {
		absent, err := b.appendOnce(ctx, records, hint, ids)
		if err != nil || len(absent) == 0 {
			return err
		}
		if err := b.begin(ctx, false, streamsOf(absent)...); err != nil {
			return err
		}
		records = absent
	}
	return errRestless
}

// appendOnce returns the records whose stream does not exist. A stream must not begin
// with a message, and its numbers must go on; so no append may bring it into being.
func (b *Bus) appendOnce(ctx context.Context, records []record, hint string, ids []string) (absent []record, err error) {
	if len(records) == 0 {
		return nil, nil
	}
	var (
		c        call
		adds     = make([]*goredis.Cmd, len(records))
		measures []measure
		info     *goredis.StringCmd
		nonce    = newNonce()
		streams  = streamsOf(records)
	)
	err = b.do(ctx, trip{atomic: true, queue: func(on call) {
		c = on
		if len(ids) > 0 {
			c.XDel(ctx, records[0].stream.key, ids...)
		}
		for i, r := range records {
			adds[i] = c.Do(ctx, r.arguments(c.line.stamp(nonce+uint64(i)))...)
		}
		measures = c.measure(ctx, streams)
		c.prolong(ctx, streams, "GT")
		c.Publish(ctx, records[0].stream.channel, hint)
		info = c.Info(ctx, "replication")
	}})
	if err != nil {
		return nil, err
	}
	b.learn(measures)
	for i, r := range records {
		if errors.Is(adds[i].Err(), goredis.Nil) {
			absent = append(absent, r)
		}
	}
	_, _ = b.compare(c.line, info.Val()) // all was accepted, whatever comes now
	return absent, nil
}

// begin makes the streams that do not exist, with nothing but an anchor. Anew makes them
// whether they exist or not: what they hold is lost, visibly, as no place in them is left.
func (b *Bus) begin(ctx context.Context, anew bool, streams ...stream) error {
	err := b.do(ctx, trip{
		atomic: true,
		pardon: answerJammed, // by a stream that has had any number
		queue: func(c call) {
			for _, s := range streams {
				if anew {
					c.Del(ctx, s.key)
				}
				c.Do(ctx, "XADD", s.key, idFirst, fieldStamp, c.line.stamp(newNonce()))
			}
			c.prolong(ctx, streams, "NX")
		},
	})
	for _, s := range streams {
		b.bell.ring(s.key) // readers of this process are to find their place gone at once
	}
	return err
}

// prolong sets how long streams outlast this use of them, if they do not last for ever.
func (c call) prolong(ctx context.Context, streams []stream, condition string) {
	for _, s := range streams {
		if s.idle > 0 {
			c.Do(ctx, "PEXPIRE", s.key, s.idle.Milliseconds(), condition)
		}
	}
}

// streamsOf lists the streams of records, each once.
func streamsOf(records []record) []stream {
	var streams []stream
	for _, r := range records {
		if !slices.Contains(streams, r.stream) {
			streams = append(streams, r.stream)
		}
	}
	return streams
}

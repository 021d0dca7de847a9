// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"fmt"
	"maps"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// longestTTL stands for all longer ones.
const longestTTL = 10 * 365 * 24 * time.Hour

// Send implements [bus.Downlinks]. Times to live are measured by Redis's clock.
func (b *Bus) Send(ctx context.Context, gateway identity.GatewayID, ttl time.Duration, payloads ...[]byte) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	if gateway == "" || ttl <= 0 {
		return fmt.Errorf("%w: no gateway or a ttl of %v", bus.ErrInvalid, ttl)
	}
	ttl = min(ttl, longestTTL)
	records := make([]record, len(payloads))
	s := b.names.downlink(gateway)
	s.idle += ttl
	for i, payload := range payloads {
		if err := bus.CheckPayload(payload); err != nil {
			return err
		}
		records[i] = record{stream: s, payload: payload}
	}
	return b.send(ctx, s, ttl, records)
}

func (b *Bus) send(ctx context.Context, s stream, ttl time.Duration, records []record) error {
	var measures []measure
	var clock *goredis.TimeCmd
	err := b.do(ctx, trip{queue: func(c call) { measures, clock = c.measure(ctx, []stream{s}), c.Time(ctx) }})
	if err != nil {
		return err
	}
	now, held := clock.Val().UnixMilli(), measures[0].size()
	n := b.fitting(s, held, records)
	var gone expired
	if n < len(records) {
		if gone, err = b.expired(ctx, s, now); err != nil {
			return err
		}
		n = b.fitting(s, size{held.messages - len(gone.ids), held.bytes - gone.bytes}, records)
	}
	for i := range records {
		records[i].expires = now + max(ttl.Milliseconds(), 1)
	}
	if err := b.append(ctx, records[:n], "", gone.ids...); err != nil {
		return err
	}
	if n < len(records) {
		return bus.ErrFull
	}
	return nil
}

func (b *Bus) fitting(s stream, held size, records []record) int {
	return b.limits.fitting(map[string]size{s.key: held}, records)
}

// expired are the messages of a stream that are out of time.
type expired struct {
	ids   []string
	bytes int
}

// searchAgain is the least time between two searches of a full stream.
const searchAgain = time.Second

// expired finds them. That reads the whole stream, so it is done only once in a while. The
// first entry never counts: it is the anchor.
func (b *Bus) expired(ctx context.Context, s stream, now int64) (gone expired, err error) {
	if !b.search(s, now) {
		return expired{}, nil
	}
	from, pages := "-", 2*b.limits.messages/maxPage+2
	for range pages {
		p, err := b.page(ctx, s, from, maxPage)
		if err != nil {
			return expired{}, err
		}
		for i, e := range p.entries {
			if (from != "-" || i > 0) && !e.foreign && e.expires != 0 && e.expires <= now {
				gone.ids, gone.bytes = append(gone.ids, id(e.number)), gone.bytes+len(e.payload)+overhead
			}
		}
		if p.last {
			break
		}
		from = "(" + id(p.entries[maxPage].number)
	}
	return gone, nil
}

// search says whether a stream may be searched now, and notes that it was.
func (b *Bus) search(s stream, now int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.searched, func(_ string, at int64) bool {
		return now < at || at+searchAgain.Milliseconds() <= now
	})
	if _, lately := b.searched[s.key]; lately {
		return false
	}
	b.searched[s.key] = now
	return true
}

// Receive implements [bus.Downlinks].
func (b *Bus) Receive(ctx context.Context, gateway identity.GatewayID, after bus.Position, limit int) (bus.Batch, error) {
	if gateway == "" {
		return bus.Batch{}, fmt.Errorf("%w: no gateway", bus.ErrInvalid)
	}
	r := b.reader(b.names.downlink(gateway), after, limit)
	r.receipt = r.known
	return r.await(ctx)
}

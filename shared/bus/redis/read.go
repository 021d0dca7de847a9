// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"gitlab.com/ampora/ampora/shared/bus"
)

// recheck is how long a waiting reader trusts that it would have heard of something.
const recheck = 2 * time.Second

// reader is one call of Read or Receive.
type reader struct {
	bus    *Bus
	stream stream
	limit  int

	fresh bool // it has never stood anywhere
	known bool // it stands at a place that may be one of the stream
	at    place
	lost  bool // there was a loss on the way there, which is not reported yet
	// receipt: that it stands at its place says that it has read all before, which goes.
	receipt bool
}

func (b *Bus) reader(s stream, after bus.Position, limit int) *reader {
	at, known := parsePosition(after)
	return &reader{bus: b, stream: s, limit: min(max(limit, 1), maxPage), at: at, known: known, fresh: after == ""}
}

// await looks until there is something to report. The bell is taken before each look,
// so that nothing appended in between is slept through.
func (r *reader) await(ctx context.Context) (bus.Batch, error) {
	for idle := false; ; {
		rung := r.bus.bell.next(r.stream.key)
		batch, reports, err := r.look(ctx)
		if err == nil && !reports && idle {
			batch, reports, err = r.lookAtEnd(ctx)
		}
		if err != nil || reports {
			return batch, err
		}
		r.bus.hear(r.stream.channel)
		if err := r.bus.deafness(); err != nil {
			return bus.Batch{}, err
		}
		select {
		case <-rung:
			idle = false
		case <-time.After(recheck):
			idle = true
		case <-ctx.Done():
			return bus.Batch{}, ctx.Err()
		case <-r.bus.life.Done():
			return bus.Batch{}, bus.ErrClosed
		}
	}
}

// look reads once and says whether that is worth reporting. A loss is reported with the
// messages that follow it; by itself only where nothing follows.
func (r *reader) look(ctx context.Context) (batch bus.Batch, reports bool, err error) {
	p, err := r.page(ctx)
	if err != nil {
		return bus.Batch{}, false, err
	}
	if r.fresh {
		batch, r.at = p.all()
	} else {
		batch, r.at = p.after(r.at)
	}
	r.fresh, r.lost = false, r.lost || batch.Lost
	batch.Lost = r.lost
	if len(batch.Messages) == 0 && !p.last {
		r.bus.bell.ring(r.stream.key) // look further at once
		return bus.Batch{}, false, nil
	}
	return batch, batch.Lost || len(batch.Messages) > 0, nil
}

// page reads from where the reader stands. A reader whose place is not in the stream is
// put to its anchor, and has lost.
func (r *reader) page(ctx context.Context) (page, error) {
	if r.known {
		p, err := r.bus.page(ctx, r.stream, id(r.at.number), r.limit)
		if err != nil {
			return page{}, err
		}
		if p.beginsAt(r.at) {
			if !p.jammed() {
				return p, r.receive(ctx)
			}
			if err := r.bus.begin(ctx, true, r.stream); err != nil {
				return page{}, err
			}
		}
	}
	p, err := r.oldest(ctx)
	if err != nil {
		return page{}, err
	}
	r.at, r.known, r.lost, r.receipt = p.entries[0].place(), true, true, false
	return p, nil
}

// receive makes good the receipt that a place is.
func (r *reader) receive(ctx context.Context) error {
	if !r.receipt {
		return nil
	}
	r.receipt = false
	return r.bus.trimBefore(ctx, r.stream, r.at.number)
}

// oldest reads from the anchor on, and sees to it that there is one.
func (r *reader) oldest(ctx context.Context) (page, error) {
	const tries = 4
	for try := range tries {
		p, err := r.bus.page(ctx, r.stream, "-", r.limit)
		if err != nil {
			return page{}, err
		}
		if len(p.entries) > 0 && !p.entries[0].foreign {
			return p, nil
		}
		// A stream that exists and holds nothing is begun anew at the second try: the first
		// did not help.
		if err := r.bus.begin(ctx, try > 0 || len(p.entries) > 0, r.stream); err != nil {
			return page{}, err
		}
	}
	return page{}, errRestless
}

// lookAtEnd finds entries that were deleted from the end of the stream, of which nothing
// else tells before the next one is appended.
func (r *reader) lookAtEnd(ctx context.Context) (batch bus.Batch, reports bool, err error) {
	var info *goredis.Cmd
	err = r.bus.do(ctx, trip{
		queue:  func(c call) { info = c.Do(ctx, "XINFO", "STREAM", r.stream.key) },
		pardon: answerNoKey, // the next look meets it
	})
	if err != nil {
		return bus.Batch{}, false, err
	}
	end, given := parseEnd(info)
	switch {
	case end.foreign:
		return bus.Batch{}, false, r.bus.begin(ctx, true, r.stream)
	case end.number != r.at.number || given <= r.at.past:
		return bus.Batch{}, false, nil
	}
	r.at.past = given
	return bus.Batch{Lost: true, Next: r.at.position()}, true, nil
}

// parseEnd reads from a reply of XINFO STREAM the last entry and the last number that was
// given out. The entry is foreign if either is.
func parseEnd(info *goredis.Cmd) (end entry, given uint64) {
	fields := make(map[string]any)
	switch reply := info.Val().(type) {
	case map[any]any: // RESP3
		for name, value := range reply {
			text, _ := name.(string)
			fields[text] = value
		}
	case []any:
		for i := 0; i+1 < len(reply); i += 2 {
			text, _ := reply[i].(string)
			fields[text] = reply[i+1]
		}
	}
	last := parseEntry([]any{fields["last-generated-id"], nil})
	if fields["last-entry"] == nil {
		return entry{foreign: last.foreign}, last.number
	}
	end = parseEntry(fields["last-entry"])
	end.foreign = end.foreign || last.foreign
	return end, last.number
}

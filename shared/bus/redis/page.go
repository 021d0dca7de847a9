// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"

	goredis "github.com/redis/go-redis/v9"

	"gitlab.com/ampora/ampora/shared/bus"
)

// page is a part of a stream, oldest first, as it was when the server told its history
// and its time, or before.
type page struct {
	entries []entry
	last    bool // nothing follows
	history uint64
	now     int64 // in milliseconds; 0 if nothing in the stream expires
}

// maxPage bounds the messages of one read, whatever the caller's limit is.
const maxPage = 1024

// page reads the entries from an id on: the one of that id and up to limit that follow.
//
// The history is asked for after the entries, never before: so it is the one of the
// entries or a later one.
func (b *Bus) page(ctx context.Context, s stream, from string, limit int) (page, error) {
	var (
		c       call
		entries *goredis.Cmd
		info    *goredis.StringCmd
		now     *goredis.TimeCmd
	)
	err := b.do(ctx, trip{queue: func(on call) {
		c, entries = on, on.Do(ctx, "XRANGE", s.key, from, "+", "COUNT", limit+1)
		info = c.Info(ctx, "replication")
		if s.idle > 0 {
			now = c.Time(ctx)
			c.Do(ctx, "PEXPIRE", s.key, s.idle.Milliseconds(), "GT")
		}
	}})
	if err != nil {
		return page{}, err
	}
	p := page{entries: parseEntries(entries.Val(), limit+1)}
	p.last = len(p.entries) <= limit
	if s.idle > 0 {
		p.now = now.Val().UnixMilli()
	}
	p.history, err = b.compare(c.line, info.Val())
	return p, err
}

// parseEntries reads at most limit entries out of a reply.
func parseEntries(reply any, limit int) []entry {
	list, _ := reply.([]any)
	entries := make([]entry, min(len(list), limit))
	for i := range entries {
		entries[i] = parseEntry(list[i])
	}
	return entries
}

// beginsAt: the page begins with the very entry that a reader stands at.
func (p page) beginsAt(at place) bool {
	return len(p.entries) > 0 && !p.entries[0].foreign &&
		p.entries[0].number == at.number && p.entries[0].nonce == at.nonce
}

// jammed: what follows the first entry is of another form, and nothing can be appended.
func (p page) jammed() bool { return len(p.entries) > 1 && p.entries[1].foreign }

// after reads on behind a place at which the page begins, and returns where it came to.
// It ends before a loss, so that the next batch begins with it, unless there are no
// messages before.
func (p page) after(at place) (bus.Batch, place) {
	var batch bus.Batch
	for _, e := range p.entries[1:] {
		lost := p.lostAt(at, e)
		if e.foreign || lost && len(batch.Messages) > 0 {
			break
		}
		batch.Lost = batch.Lost || lost
		at = p.take(&batch, at, e)
	}
	if p.last && len(batch.Messages) == 0 {
		batch.Lost = batch.Lost || at.history != p.history
		at.history = p.history
	}
	batch.Next = at.position()
	return batch, at
}

// all reads everything behind the first entry as one batch, losses or not: for readers
// that have no position, who learn from its Lost that they know nothing.
func (p page) all() (bus.Batch, place) {
	at, batch := p.entries[0].place(), bus.Batch{Lost: true}
	for _, e := range p.entries[1:] {
		if e.foreign {
			break
		}
		at = p.take(&batch, at, e)
	}
	if p.last {
		at.history = p.history
	}
	batch.Next = at.position()
	return batch, at
}

// lostAt: something is gone between a place and the entry that comes next, or with it.
func (p page) lostAt(at place, e entry) bool {
	return e.number != at.past+1 || !p.readable(e) || e.history != at.history
}

func (p page) readable(e entry) bool { return !e.broken && (e.expires == 0 || p.now < e.expires) }

// take adds an entry to a batch, if it is a message to read, and returns its place. A
// broken entry tells nothing of its history.
func (p page) take(batch *bus.Batch, at place, e entry) place {
	history := at.history
	at = e.place()
	switch {
	case e.broken:
		at.history = history
	case e.message && p.readable(e):
		batch.Messages = append(batch.Messages, bus.Message{Position: at.position(), Payload: e.payload})
	}
	return at
}

func (e entry) place() place {
	return place{number: e.number, nonce: e.nonce, past: e.number, history: e.history}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package inproc

import (
	"crypto/rand"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
)

type limits struct{ messages, bytes int }

// entry is a retained message; the zero expires means never.
type entry struct {
	number  uint64
	payload []byte
	expires time.Time
}

// stream is one bounded queue. Its messages are numbered from 1 for as long as it
// lives, and forgotten is the highest number that was ever dropped: whoever reads
// after a lower one may have missed something. That single number covers trims,
// receipts and expiry, in whatever order they drop.
type stream struct {
	life string // unlike that of any stream before or beside it

	mu        sync.Mutex
	entries   []entry // ascending numbers, with gaps where messages expired
	bytes     int
	last      uint64
	forgotten uint64
	changed   chan struct{} // closed by the next append or loss; nil while nobody waits
}

func newStream() *stream { return &stream{life: rand.Text()} }

// signal returns a channel that the next change of the stream closes.
func (s *stream) signal() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

func (s *stream) append(limits limits, e entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.entries) >= limits.messages || s.bytes+len(e.payload) > limits.bytes {
		return bus.ErrFull
	}
	s.last++
	e.number = s.last
	s.entries = append(s.entries, e)
	s.bytes += len(e.payload)
	s.wake()
	return nil
}

// read returns the batch after a position, and whether it reports anything.
func (s *stream) read(after bus.Position, limit int) (bus.Batch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	number, known := s.number(after)
	lost := !known || number < s.forgotten
	rest := s.entries[s.index(number):]
	taken := rest[:min(max(limit, 1), len(rest))]
	if len(taken) == 0 && !lost {
		return bus.Batch{}, false
	}
	batch := bus.Batch{Lost: lost, Messages: make([]bus.Message, len(taken))}
	next := number
	for i, e := range taken {
		batch.Messages[i] = bus.Message{Position: s.position(e.number), Payload: e.payload}
		next = e.number
	}
	// Past a loss that was reported: nothing retained lies between the last
	// message taken and the highest forgotten one.
	if s.index(s.forgotten) <= s.index(next) {
		next = max(next, s.forgotten)
	}
	batch.Next = s.position(next)
	return batch, true
}

// trim forgets what a position proves to be read.
func (s *stream) trim(upTo bus.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number, known := s.number(upTo); known {
		s.drop(func(e entry) bool { return e.number <= number })
	}
}

// expire forgets what is out of time.
func (s *stream) expire(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(func(e entry) bool { return !e.expires.IsZero() && !now.Before(e.expires) })
}

func (s *stream) drop(gone func(entry) bool) {
	s.entries = slices.DeleteFunc(s.entries, func(e entry) bool {
		if !gone(e) {
			return false
		}
		s.bytes -= len(e.payload)
		s.forgotten = max(s.forgotten, e.number)
		return true
	})
}

func (s *stream) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// index is that of the first retained message after number.
func (s *stream) index(number uint64) int {
	return sort.Search(len(s.entries), func(i int) bool { return s.entries[i].number > number })
}

func (s *stream) position(number uint64) bus.Position {
	return bus.Position(s.life + "." + strconv.FormatUint(number, 10))
}

// number reads a position of this stream's life; any other is before everything.
func (s *stream) number(position bus.Position) (number uint64, known bool) {
	life, text, _ := strings.Cut(string(position), ".")
	number, err := strconv.ParseUint(text, 10, 64)
	if life != s.life || err != nil || number > s.last {
		return 0, false
	}
	return number, true
}

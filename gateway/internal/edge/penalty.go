// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"container/list"
	"math/rand/v2"
	"sync"
	"time"
)

// Bounds of the penalty box.
const (
	firstPenalty   = 5 * time.Second
	longestPenalty = 10 * time.Minute
	boxSize        = 65536
)

// Box is the penalty box: whoever was closed for something it did waits before it is
// admitted again, twice as long each time, because agents reconnect at once after a
// connection that was accepted. It is bounded: the entries longest untouched are
// forgotten first.
type Box struct {
	mu      sync.Mutex
	entries map[string]*list.Element
	order   *list.List // most recently touched first
}

type penalty struct {
	key     string
	strikes int
	until   time.Time
}

// NewBox makes an empty box.
func NewBox() *Box {
	return &Box{entries: make(map[string]*list.Element), order: list.New()}
}

// Punish adds a strike to a key: an identity, the hash of a token or a peer. A key
// that stayed out of the box as long as its last penalty begins anew.
func (b *Box) Punish(key string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	element := b.entries[key]
	if element == nil {
		element = b.order.PushFront(&penalty{key: key})
		b.entries[key] = element
		b.evict()
	}
	b.order.MoveToFront(element)
	p := element.Value.(*penalty)
	if length := duration(p.strikes); now.Sub(p.until) > length {
		p.strikes = 0
	}
	p.strikes++
	p.until = now.Add(duration(p.strikes))
}

// Remaining is how long the key still has to wait; 0 if it need not.
func (b *Box) Remaining(key string, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	element := b.entries[key]
	if element == nil {
		return 0
	}
	return max(0, element.Value.(*penalty).until.Sub(now))
}

func (b *Box) evict() {
	for len(b.entries) > boxSize {
		oldest := b.order.Back()
		b.order.Remove(oldest)
		delete(b.entries, oldest.Value.(*penalty).key)
	}
}

func duration(strikes int) time.Duration {
	if strikes < 1 {
		return 0
	}
	return min(longestPenalty, firstPenalty<<min(strikes-1, 16))
}

// RetryAfter spreads a wait: real agents obey Retry-After to the millisecond and add
// no jitter of their own. The result is whole seconds, at least one.
func RetryAfter(wait time.Duration) time.Duration {
	spread := wait + rand.N(wait/2+time.Second)
	return max(time.Second, spread.Truncate(time.Second))
}

// Overload is the wait asked of those who could not be served: 30 to 60 s.
func Overload() time.Duration {
	return 30*time.Second + rand.N(31*time.Second).Truncate(time.Second)
}

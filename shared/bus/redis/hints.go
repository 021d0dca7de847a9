// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/run"
)

// bell wakes readers that wait for a stream.
type bell struct {
	mu      sync.Mutex
	waiting map[string]chan struct{} // by key; closed and removed by the next ring
}

// next returns a channel that the next ring for the stream closes.
func (b *bell) next(key string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	rung, found := b.waiting[key]
	if !found {
		rung = make(chan struct{})
		b.waiting[key] = rung
	}
	return rung
}

func (b *bell) ring(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if rung, found := b.waiting[key]; found {
		close(rung)
		delete(b.waiting, key)
	}
}

func (b *bell) ringAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, rung := range b.waiting {
		close(rung)
	}
	clear(b.waiting)
}

// Timing of a subscription.
const (
	pingAfter  = 10 * time.Second
	pongWithin = 5 * time.Second
	hearAgain  = 200 * time.Millisecond
)

// hear begins to listen to a channel, unless that was done before, and listens until the
// bus is closed.
func (b *Bus) hear(channel string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hearing[channel] || b.life.Err() != nil {
		return
	}
	b.hearing[channel] = true
	b.finished.Go(func() {
		for b.life.Err() == nil {
			err := b.listen(channel)
			if errors.Is(err, ErrForbidden) {
				b.deaf.Store(&err)
			}
			b.bell.ringAll()
			_ = run.Sleep(b.life, hearAgain)
		}
	})
}

// deafness is the reason for which no hint will come, for readers to return instead of
// being slow for ever.
func (b *Bus) deafness() error {
	if reason := b.deaf.Load(); reason != nil {
		return *reason
	}
	return nil
}

// listen rings for the hints of a channel until the connection fails. Whoever waits is
// woken as soon as hints can be heard: what was appended before gave none.
func (b *Bus) listen(channel string) (err error) {
	// The client library takes a server's word for the shape of what it pushes.
	defer func() {
		if shape := recover(); shape != nil {
			err = fmt.Errorf("a hint cannot be read: %v", shape)
		}
	}()
	l := b.line.Load()
	subscription := l.client.Subscribe(b.life, channel)
	defer context.AfterFunc(b.life, func() { _ = subscription.Close() })()
	defer func() { _ = subscription.Close() }()
	for patience, pinged := pingAfter, false; ; {
		heard, err := subscription.ReceiveTimeout(b.life, patience)
		if err != nil && !pinged && isTimeout(err) {
			patience, pinged = pongWithin, true
			err = subscription.Ping(b.life)
		} else {
			patience, pinged = pingAfter, false
		}
		if err != nil {
			return b.explain(l, err)
		}
		b.heard(heard)
	}
}

func (b *Bus) heard(what any) {
	switch what := what.(type) {
	case *goredis.Subscription:
		b.deaf.Store(nil)
		b.bell.ringAll()
	case *goredis.Message:
		b.ringFor(what.Channel, what.Payload)
	}
}

// ringFor wakes those that a hint concerns. Uplinks share a channel, and their hints are
// sets of partitions; one that cannot be read concerns all.
func (b *Bus) ringFor(channel, payload string) {
	if channel != b.names.uplinks() {
		b.bell.ring(channel) // the key and the channel of a downlink are the same
		return
	}
	partitions, err := strconv.ParseUint(payload, 16, bus.Partitions)
	if err != nil {
		b.bell.ringAll()
		return
	}
	for partition := range bus.Partitions {
		if partitions>>partition&1 != 0 {
			b.bell.ring(b.names.uplink(partition).key)
		}
	}
}

// uplinkHint names the partitions that messages were appended to.
func uplinkHint(messages []bus.Outgoing) string {
	var partitions uint64
	for _, message := range messages {
		partitions |= 1 << message.Partition
	}
	return strconv.FormatUint(partitions, 16)
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

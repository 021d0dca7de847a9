// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package redis is the bus over Redis Streams, for gateways and control replicas
// that are processes of their own. It wants Redis 7.0 or newer, one primary behind
// one address, and no consumer groups or scripts.
//
// It keeps the contract of package bus. Publish and Send are atomic as far as they
// fit: of a call that meets the bound, the messages before the one that met it are
// accepted. The bounds are watched by those who append, who learn the size of a
// stream from each append; so a stream may exceed them by what one call of each
// publisher carries, and by nothing else.
//
// # Why no loss is silent
//
// The entries of a stream have the ids 1-0, 1-1, 1-2 and so on. Redis gives them out
// (XADD with the id "1-*"), so they are dense in the order of appending, whoever
// appends. Each carries a random nonce, and the history in which it was appended: the
// id under which the primary keeps its replication log, and which it draws anew
// whenever it starts and whenever it is promoted. The first entry is never a message:
// it is the anchor, at which a reader stands that has read all there was before.
// Trimming to a position keeps the entry of that position, as the new anchor.
//
// A position is the number, the nonce and the history of the entry it stands at. A read
// fetches that entry along with those that follow:
//
//   - If it is not there, or has another nonce, then it was trimmed, flushed or rolled
//     back, or the position is of another stream: the position is unknown.
//   - If a number is missing among those that follow, an entry was deleted. If one is out
//     of time, it has expired.
//   - If one that follows is of another history, then there was a restart or a failover
//     in between, and others may have stood there before: no number and no nonce would
//     tell. Likewise if nothing follows, and the server tells of another history.
//
// In each case the batch says Lost; messages before the loss come in a batch before. The
// price is that a restart that lost nothing says it too.
//
// Publishers know the history because they ask for it on each connection they make. A
// server that changes it under a connection (a primary that was made a replica and a
// primary again, without ending its connections) gets a last call with the old stamp
// from each publisher; the loss then shows with the message after, or at the end.
//
// What a primary accepts after another was promoted in its place (a split brain) is
// beyond this: it was accepted by another bus. Redis prevents it where it is told to
// (min-replicas-to-write).
//
// # Waiting
//
// Those who append also publish a hint on a channel. A process has one connection for
// each channel that it waits on: one for all partitions, and one for a gateway's
// downlinks. A hint only wakes readers, which then look for themselves; a reader that
// hears nothing looks every few seconds, so a hint that is lost costs time alone.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"sync/atomic"

	goredis "github.com/redis/go-redis/v9"

	"gitlab.com/ampora/ampora/shared/bus"
)

// What applies where [Options] are silent. All uplinks together hold at most 64 times
// the bounds of one stream: 256 MiB.
const (
	DefaultPrefix      = "ampora"
	DefaultMaxMessages = 8192
	DefaultMaxBytes    = 4 * bus.MaxPayload
	DefaultConnections = 16
)

// Options of a Bus. The zero value means the defaults. All programs of an installation
// must have the same prefix, and should have the same bounds.
type Options struct {
	// Prefix begins the names of all keys and channels: 1 to 64 letters, digits, '.', '_',
	// ':' and '-'. "" means DefaultPrefix. Installations that share a Redis differ in it.
	Prefix      string
	MaxMessages int // per stream; 0 means DefaultMaxMessages
	MaxBytes    int // of Redis's memory per stream, at least DefaultMaxBytes; 0 means that
	Connections int // at most, beside those that wait for hints; 0 means DefaultConnections
	// TLS is for rediss:// URLs: authorities, the client's certificate. nil means the
	// system's authorities and no certificate. The name to verify is that of the URL
	// unless it is set here.
	TLS *tls.Config
}

// Bus is a [bus.Bus] over Redis. Make one with [Open].
type Bus struct {
	names   names
	limits  limits
	options *goredis.Options

	line     atomic.Pointer[line]
	life     context.Context
	end      context.CancelFunc
	finished sync.WaitGroup // what life keeps running

	mu       sync.Mutex // of closing, of exchanging the line, and of what follows
	hearing  map[string]bool
	searched map[string]int64 // streams that were searched for what has expired, and when
	sizes    map[string]size  // of uplink streams, as the last append saw them

	bell bell
	deaf atomic.Pointer[error] // why hints cannot be heard, if they cannot
}

var _ bus.Bus = (*Bus)(nil)

// Open makes a bus from a URL: redis:// or rediss:// (TLS), user and password if the
// server wants them, host, and a port unless it is 6379. It does not connect yet; a bus
// whose Redis is away comes to life when that does, and [Bus.Check] tells. An error is a
// sentence about the URL or the options that quotes neither.
func Open(url string, options Options) (*Bus, error) {
	names, err := newNames(options.Prefix)
	if err != nil {
		return nil, err
	}
	client, err := clientOptions(url, options)
	if err != nil {
		return nil, err
	}
	b := &Bus{
		names: names, options: client,
		limits:   limits{messages: DefaultMaxMessages, bytes: max(DefaultMaxBytes, options.MaxBytes)},
		hearing:  make(map[string]bool),
		searched: make(map[string]int64),
		sizes:    make(map[string]size),
		bell:     bell{waiting: make(map[string]chan struct{})},
	}
	if options.MaxMessages > 0 {
		b.limits.messages = options.MaxMessages
	}
	b.life, b.end = context.WithCancel(context.Background())
	b.line.Store(newLine(*client))
	return b, nil
}

// Close implements [bus.Bus].
func (b *Bus) Close() error {
	b.mu.Lock()
	b.end()
	_ = b.line.Load().client.Close() // twice is no harm
	b.mu.Unlock()
	b.finished.Wait()
	return nil
}

// usable is the error of a call that must not begin.
func (b *Bus) usable(ctx context.Context) error {
	if b.life.Err() != nil {
		return bus.ErrClosed
	}
	return ctx.Err()
}

// ErrOld says that the server is older than Redis 7.0, or does not tell what it is.
var ErrOld = errors.New("the bus needs Redis 7.0 or newer")

// Check says whether the bus can be used now: the server answers, lets this user in, is
// new enough and is a primary. It does not look at every permission.
func (b *Bus) Check(ctx context.Context) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	var server *goredis.StringCmd
	err := b.do(ctx, trip{queue: func(c call) { server = c.Info(ctx, "server") }})
	if err == nil && !newEnough(server.Val()) {
		err = ErrOld
	}
	return err
}

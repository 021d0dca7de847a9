// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gitlab.com/ampora/ampora/shared/run"
)

// quiet is how long the bell may be silent before the server is asked whether it is
// still there.
const quiet = 30 * time.Second

// bell wakes reads that wait: each for one topic, a partition's number or, for the
// downlinks of a gateway, "".
type bell struct {
	mu      sync.Mutex
	waiting map[string]chan struct{} // closed by the next ring
}

func newBell() bell { return bell{waiting: make(map[string]chan struct{})} }

// signal returns a channel that the next ring for the topic closes.
func (b *bell) signal(topic string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting[topic] == nil {
		b.waiting[topic] = make(chan struct{})
	}
	return b.waiting[topic]
}

// ring wakes who waits for one of the topics, once however often it rang before.
func (b *bell) ring(topics ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, topic := range topics {
		if waiting := b.waiting[topic]; waiting != nil {
			close(waiting)
			delete(b.waiting, topic)
		}
	}
}

func (b *bell) ringAll() {
	b.mu.Lock()
	topics := slices.Collect(maps.Keys(b.waiting))
	b.mu.Unlock()
	b.ring(topics...)
}

// listen keeps a connection on which the server rings. While there is none, reads
// glance.
func (b *Bus) listen() {
	for pause := 100 * time.Millisecond; b.life.Err() == nil; pause = min(2*pause, 5*time.Second) {
		since := time.Now()
		err := b.hear(b.life)
		if b.life.Err() != nil {
			return
		}
		if time.Since(since) > time.Minute {
			pause = 100 * time.Millisecond
		}
		b.log.WarnContext(b.life, "the bus does not ring, reads are late until it does", "error", fail("listen", err))
		_ = run.Sleep(b.life, pause+rand.N(pause))
	}
}

// hear passes on what rings, until the connection fails.
func (b *Bus) hear(ctx context.Context) error {
	conn, err := b.subscribe(ctx)
	if err != nil {
		return err
	}
	defer leave(ctx, conn)
	b.bell.ringAll() // for what was appended while nobody heard
	for {
		heard, err := next(ctx, conn)
		if err != nil {
			return err
		}
		if heard != nil {
			b.bell.ring(strings.Split(heard.Payload, ",")...)
		}
	}
}

func (b *Bus) subscribe(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, b.pool.Config().ConnConfig)
	if err != nil {
		return nil, err
	}
	channel, err := b.enter(ctx, conn)
	if err == nil {
		_, err = conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize())
	}
	if err != nil {
		leave(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// next waits for a notification. When none comes for a while it sees whether the
// server still answers, and returns nil.
func next(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	waiting, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	heard, err := conn.WaitForNotification(waiting)
	if err == nil || ctx.Err() != nil || waiting.Err() == nil {
		return heard, err
	}
	asking, done := context.WithTimeout(ctx, callTime)
	defer done()
	return nil, conn.Ping(asking)
}

func leave(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

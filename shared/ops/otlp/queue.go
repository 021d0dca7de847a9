// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a queue.
const (
	queueSize  = 4096
	batchSize  = 512
	batchDelay = time.Second
)

// queue keeps items until they are sent, in batches. Whoever puts one in never waits for a send.
type queue[T any] struct {
	send    func(context.Context, []T)
	dropped *atomic.Int64

	mu      sync.Mutex
	waiting []T
	closed  bool

	sending sync.Mutex      // one batch at a time, in order
	batch   chan struct{}   // enough for one waits
	ctx     context.Context // of what run sends
	cancel  context.CancelFunc
	stop    chan struct{}
	done    chan struct{}
}

// newQueue starts a queue; dropped counts what did not fit.
func newQueue[T any](dropped *atomic.Int64, send func(context.Context, []T)) *queue[T] {
	q := &queue[T]{send: send, dropped: dropped, batch: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	q.ctx, q.cancel = context.WithCancel(context.Background()) //nolint:gosec // close calls it
	go q.run()
	return q
}

// put adds an item, or drops it if too many wait or the queue is closed.
func (q *queue[T]) put(item T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || len(q.waiting) >= queueSize {
		q.dropped.Add(1)
		return
	}
	q.waiting = append(q.waiting, item)
	if len(q.waiting) >= batchSize {
		select {
		case q.batch <- struct{}{}:
		default:
		}
	}
}

// take removes the next batch.
func (q *queue[T]) take() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch := q.waiting[:min(len(q.waiting), batchSize)]
	if q.waiting = q.waiting[len(batch):]; len(q.waiting) == 0 {
		q.waiting = nil
	}
	return batch
}

// run sends once in a moment, and as soon as there is a whole batch, until the queue is closed.
func (q *queue[T]) run() {
	defer close(q.done)
	moment := time.NewTicker(batchDelay)
	defer moment.Stop()
	for {
		select {
		case <-q.batch:
		case <-moment.C:
		case <-q.stop:
			return
		}
		q.flush(q.ctx)
	}
}

// flush sends what waits. What waits when ctx is done is left.
func (q *queue[T]) flush(ctx context.Context) {
	q.sending.Lock()
	defer q.sending.Unlock()
	for ctx.Err() == nil {
		batch := q.take()
		if len(batch) == 0 {
			return
		}
		q.send(ctx, batch)
	}
}

// close sends what waits for as long as ctx lasts and drops the rest. Only the first call counts.
func (q *queue[T]) close(ctx context.Context) {
	q.mu.Lock()
	again := q.closed
	q.closed = true
	q.mu.Unlock()
	if again {
		return
	}
	defer q.cancel()
	defer context.AfterFunc(ctx, q.cancel)()
	close(q.stop)
	<-q.done
	q.flush(ctx)
	for batch := q.take(); len(batch) > 0; batch = q.take() {
		q.dropped.Add(int64(len(batch)))
	}
}

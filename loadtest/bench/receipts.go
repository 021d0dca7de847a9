// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"
)

// receipts notes when which agent received the configuration that is expected.
type receipts struct {
	mu       sync.Mutex
	hash     []byte
	at       []time.Time // by agent; zero: not yet
	missing  int
	complete chan struct{}
}

func newReceipts(agents int) *receipts { return &receipts{at: make([]time.Time, agents)} }

func (r *receipts) expect(hash []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.at)
	r.hash, r.missing, r.complete = hash, len(r.at), make(chan struct{})
}

func (r *receipts) note(agent int, hash []byte, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hash == nil || !bytes.Equal(hash, r.hash) || !r.at[agent].IsZero() {
		return
	}
	r.at[agent] = at
	if r.missing--; r.missing == 0 {
		close(r.complete)
	}
}

// all waits until every agent has it, and returns how long each took, in seconds.
func (r *receipts) all(ctx context.Context, since time.Time) ([]float64, error) {
	select {
	case <-r.complete:
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		return nil, fmt.Errorf("%d of %d agents have not received the configuration", r.missing, len(r.at))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	seconds := make([]float64, len(r.at))
	for i, at := range r.at {
		seconds[i] = at.Sub(since).Seconds()
	}
	return seconds, nil
}

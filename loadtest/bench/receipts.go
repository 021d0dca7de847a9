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

// missingError is that some agents, named by their index, have not received it.
type missingError []int

// Error says how many.
func (e missingError) Error() string {
	return fmt.Sprintf("%d agents have not received the configuration", len(e))
}

// all waits until every agent has it, and returns how long each took, in seconds. The
// error is a missingError.
func (r *receipts) all(ctx context.Context, since time.Time) ([]float64, error) {
	select {
	case <-r.complete:
	case <-ctx.Done():
		return nil, r.who()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	seconds := make([]float64, len(r.at))
	for i, at := range r.at {
		seconds[i] = at.Sub(since).Seconds()
	}
	return seconds, nil
}

func (r *receipts) who() (missing missingError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, at := range r.at {
		if at.IsZero() {
			missing = append(missing, i)
		}
	}
	return missing
}

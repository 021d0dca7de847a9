// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"sync"
	"time"
)

// Way lets urgent work go before other work that competes with it for the same machine. Urgent work says that it is under
// way; other work waits before it begins, until nothing urgent was said for a moment, and never for long: once it has
// waited, urgent work must rest for as long before anybody waits for it again. So neither can starve the other. It is a
// hint within one process: nothing depends on it but how soon things are done.
type Way struct {
	// Moment is how soon after it was last said urgent work is over; Longest is how long others wait for it.
	Moment, Longest time.Duration

	mu          sync.Mutex
	began, last time.Time // of the urgent work under way, or that was
}

// Hold says that urgent work is under way. To hold no way (nil) does nothing.
func (w *Way) Hold() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if now.Sub(w.last) > w.Longest {
		w.began = now
	}
	w.last = now
}

// Wait waits for urgent work and says whether it did. Its error is that of ctx. For no way (nil) nobody waits.
func (w *Way) Wait(ctx context.Context) (waited bool, err error) {
	for rest := w.rest(); rest > 0; rest = w.rest() {
		if err := Sleep(ctx, rest); err != nil {
			return true, err
		}
		waited = true
	}
	return waited, nil
}

// rest is how long to wait before asking again.
func (w *Way) rest() time.Duration {
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return min(time.Until(w.last.Add(w.Moment)), time.Until(w.began.Add(w.Longest)))
}

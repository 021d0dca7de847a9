// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package run

import (
	"context"
	"sync"
	"time"
)

// Way lets urgent work go before other work that competes with it for the same machine. Urgent work holds it; other work
// waits before it begins, until nothing urgent was under way for a moment, and never for long: once others have waited
// their longest, urgent work must rest for as long before anybody waits for it again. So neither can starve the other. It
// is a hint within one process: nothing depends on it but how soon things are done.
type Way struct {
	// Crowd is from how many on work is urgent.
	Crowd int
	// Moment is how long after its end urgent work may go on; Longest is how long others wait for it.
	Moment, Longest time.Duration

	mu          sync.Mutex
	holders     int
	began, last time.Time // of the urgent work under way, or that was: its begin, and when it was last seen
}

// Hold says that work for so many is under way until release is called. If they are no crowd, or there is no way (nil), it
// does nothing.
func (w *Way) Hold(many int) (release func()) {
	if w == nil || many < w.Crowd {
		return func() {}
	}
	w.mark(1)
	return func() { w.mark(-1) }
}

func (w *Way) mark(change int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.holders == 0 && now.Sub(w.last) > w.Longest {
		w.began = now
	}
	w.holders += change
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
	if w.holders > 0 {
		w.last = time.Now()
	}
	return min(time.Until(w.last.Add(w.Moment)), time.Until(w.began.Add(w.Longest)))
}

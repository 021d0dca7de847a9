// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/ampora/ampora/shared/uplink"
)

// Registration is what the control plane has told this process: the key that it seals
// with, and what time it is. Whatever several processes compare (deadlines, when an
// agent was last heard) is by control's clock; what happens in here is by the host's,
// which may be wrong and still runs evenly.
type Registration struct {
	clock  func() time.Time
	key    atomic.Pointer[uplink.Key]
	said   atomic.Pointer[reading]
	known  chan struct{}
	keying sync.Once
}

// reading is one moment by two clocks.
type reading struct{ here, there time.Time }

// NewRegistration makes one that knows nothing yet. The clock is the host's.
func NewRegistration(clock func() time.Time) *Registration {
	return &Registration{clock: clock, known: make(chan struct{})}
}

// Await waits until the key is known, and says whether it is: false if the context ended
// before. Until then there are no sessions, because nothing can be claimed, and so nothing
// to say.
func (r *Registration) Await(ctx context.Context) bool {
	select {
	case <-r.known:
	case <-ctx.Done():
	}
	return r.key.Load() != nil
}

// Key returns the key, which is the same for the whole life of the process. It is called
// after [Registration.Await].
func (r *Registration) Key() uplink.Key { return *r.key.Load() }

// Use takes the key.
func (r *Registration) Use(key uplink.Key) {
	r.key.Store(&key)
	r.keying.Do(func() { close(r.known) })
}

// Set takes the time that an answer tells: it was told about halfway between the
// question and the answer.
func (r *Registration) Set(asked, answered, told time.Time) {
	r.said.Store(&reading{here: asked.Add(answered.Sub(asked) / 2), there: told})
}

// Now is the time by control's clock; by the host's, as long as control has not told.
func (r *Registration) Now() time.Time { return r.There(r.clock()) }

// There turns a moment of the host's clock into one of control's.
func (r *Registration) There(here time.Time) time.Time {
	said := r.said.Load()
	if said == nil {
		return here
	}
	return said.there.Add(here.Sub(said.here)) // by the monotonic clock
}

// Here turns a moment of control's clock into one of the host's.
func (r *Registration) Here(there time.Time) time.Time {
	said := r.said.Load()
	if said == nil {
		return there
	}
	return said.here.Add(there.Sub(said.there))
}

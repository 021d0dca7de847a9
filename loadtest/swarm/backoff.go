// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"errors"
	"math/rand/v2"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
)

// backoff is the pause between attempts to connect, as opamp-go makes it: half a second,
// then half as long again each time up to a minute, each somewhere in the middle half of
// that, and never less than a Retry-After.
type backoff struct{ last time.Duration }

// Bounds of a back-off.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = time.Minute
)

func (b *backoff) next(err error) time.Duration {
	if b.last == 0 {
		b.last = firstPause
	} else {
		b.last = min(longestPause, b.last*3/2)
	}
	pause := b.last/2 + rand.N(b.last)
	if wait, busy := busyFor(err); busy {
		return max(pause, wait)
	}
	return pause
}

// refused says that the server answered a request, in place of speaking OpAMP.
func refused(err error) bool {
	_, status := errors.AsType[*rawopamp.StatusError](err)
	return status
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxReplays is how many downlinks are remembered. They live for seconds, and each is
// for up to a thousand agents: a fleet of a hundred thousand brings a few thousand.
const maxReplays = 1 << 16

// replays remembers signed bytes until their deadline, so that whoever controls the bus
// cannot say them again. Beyond its bound it forgets those first that came first.
type replays struct {
	mu    sync.Mutex
	seen  map[[sha256.Size]byte]struct{}
	order []remembered // as they came, which is nearly as they expire
}

type remembered struct {
	sum   [sha256.Size]byte
	until time.Time
}

func newReplays() *replays { return &replays{seen: make(map[[sha256.Size]byte]struct{})} }

// take says whether the bytes come for the first time. now and until are by one clock.
func (r *replays) take(signed []byte, until, now time.Time) bool {
	sum := sha256.Sum256(signed)
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.order) > 0 && (len(r.order) >= maxReplays || !now.Before(r.order[0].until)) {
		delete(r.seen, r.order[0].sum)
		r.order = r.order[1:]
	}
	if _, again := r.seen[sum]; again {
		return false
	}
	r.seen[sum] = struct{}{}
	r.order = append(r.order, remembered{sum, until})
	return true
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"time"
)

// Flood lets every connected agent send a heartbeat as soon as the last one was answered,
// at most perAgent in a second, until ctx ends. Messages that are under way then are
// still answered.
func (s *Swarm) Flood(ctx context.Context, perAgent float64) {
	rest := time.Duration(float64(time.Second) / perAgent)
	s.flood.Store(int64(rest))
	for _, a := range s.agents {
		a.heartbeat()
	}
	<-ctx.Done()
	s.flood.Store(0)
}

// again sends the next heartbeat of a flood, at once or when it is due.
func (a *agent) again(now time.Time) {
	rest := time.Duration(a.swarm.flood.Load())
	if rest == 0 || a.waiting > 0 {
		return
	}
	if left := rest - now.Sub(a.asked); left > 0 {
		a.beat.Reset(left)
		return
	}
	a.flush()
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"time"

	"gitlab.com/ampora/ampora/shared/fault"
)

// Times and bounds of streams.
const (
	// pollInterval is how often a stream looks for something new when nobody tells it of events, idleInterval when somebody
	// does: other replicas commit events too.
	pollInterval = 500 * time.Millisecond
	idleInterval = 2 * time.Second
	// keepAlive is the longest silence of a stream.
	keepAlive = 20 * time.Second
	// maxStreams is how many streams one process serves.
	maxStreams = 256
)

// ReasonTooManyStreams says that this process serves as many streams as it may.
const ReasonTooManyStreams = "TOO_MANY_STREAMS"

// streams is what all streams of a process share.
type streams struct {
	now      func() time.Time
	changed  func() <-chan struct{}
	stopping <-chan struct{}
	slots    chan struct{} // one element per stream
}

func newStreams(d Deps) *streams {
	return &streams{now: d.Now, changed: d.Changed, stopping: d.Stopping, slots: make(chan struct{}, maxStreams)}
}

// enter takes a place for a stream; leave gives it back.
func (s *streams) enter() (leave func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	default:
		return nil, fault.New(fault.ResourceExhausted, ReasonTooManyStreams, "too many streams are open; try again later")
	}
}

// stops says that the process is about to stop.
func (s *streams) stops() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

func (s *streams) wake() <-chan struct{} {
	if s.changed == nil {
		return nil
	}
	return s.changed()
}

// wait returns when it is worth looking again.
func (s *streams) wait(ctx context.Context, changed <-chan struct{}) {
	interval := pollInterval
	if changed != nil {
		interval = idleInterval
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-s.stopping:
	case <-changed:
	case <-timer.C:
	}
}

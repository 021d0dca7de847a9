// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"sync"
	"time"
)

// Progress is how far an agent was heard over its connection.
type Progress struct {
	Epoch    uint64
	Sequence uint64 // of the agent's last message, relayed or not
	// Whole: everything that the agent has said up to there was passed on, or said again in a full report.
	Whole    bool
	LastSeen time.Time
}

// Progress returns how far the agent was heard, and false if that is not to be told: the session has ended, nothing
// has come yet, or a message is on its way into the queue (then the session is among the changes again).
func (s *Session) Progress() (Progress, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = false
	if s.ended || !s.sequence.begun {
		return Progress{}, false
	}
	if s.onItsWay {
		s.changed()
		return Progress{}, false
	}
	return Progress{Epoch: s.epoch, Sequence: s.sequence.last, Whole: !s.sequence.doubtful, LastSeen: s.lastSeen}, true
}

// Settled says that an arrival that was to be relayed is queued, or never will be.
func (s *Session) Settled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onItsWay = false
}

// Remind puts the session among the changes although nothing has changed.
func (s *Session) Remind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed()
}

// changed puts the session among the changes, once. The lock is held.
func (s *Session) changed() {
	if s.changes != nil && !s.listed {
		s.listed = true
		s.changes.add(s)
	}
}

// changes lists sessions, so that nobody has to look at those that are idle.
type changes struct {
	mu       sync.Mutex
	sessions []*Session
}

func (c *changes) add(s *Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions = append(c.sessions, s)
}

func (c *changes) take() []*Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.sessions
	c.sessions = make([]*Session, 0, len(taken))
	return taken
}

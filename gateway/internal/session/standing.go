// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"crypto/sha256"
	"time"
)

// Standing is how far an agent that polls has come, as gateways tell each other: its next message may come to any of
// them.
type Standing struct {
	Epoch    uint64
	Sequence uint64 // of the agent's last message
	// Doubtful: something the agent said is lost.
	Doubtful bool
	// AskedAt is when its full state was last asked for.
	AskedAt      time.Time
	LastSeen     time.Time
	Capabilities uint64
	// Components is the SHA-256 of the hash of components last listed or asked for.
	Components [sha256.Size]byte
	// SentHash and SentGeneration are of the offer that was last handed out; the hash is nil if there was none.
	SentHash       []byte
	SentGeneration int64
	// Restarted is the restart command that was last handed out.
	Restarted int64
}

// Standing returns how far the agent has come here.
func (s *Session) Standing() Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Standing{
		Epoch: s.epoch, Sequence: s.sequence.last, Doubtful: s.sequence.doubtful, AskedAt: s.sequence.asked, LastSeen: s.lastSeen,
		Capabilities: s.capabilities, Components: s.components, SentHash: s.sent.hash, SentGeneration: s.sent.generation, Restarted: s.restarted,
	}
}

// Join begins at this gateway what has begun at others. Where the agent stands there is nil if nobody knows: then
// something of it may be lost, and only the number of its last report on record says whether it began to count anew.
func (s *Session) Join(there *Standing) {
	s.mu.Lock()
	s.sequence = Sequence{last: s.sequence.last, begun: true, doubtful: true}
	s.mu.Unlock()
	if there != nil {
		s.follow(*there, true)
	}
}

// Follow takes over what other gateways have heard of the agent since, if it is under the same epoch and at least as
// far. Of what is known of the same message here nothing is lost.
func (s *Session) Follow(there Standing) { s.follow(there, false) }

func (s *Session) follow(there Standing, whatever bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	further := whatever || there.Sequence > s.sequence.last
	if there.Epoch != s.epoch || !further && there.Sequence < s.sequence.last {
		return
	}
	here := s.sequence
	s.sequence = Sequence{last: there.Sequence, begun: true, doubtful: there.Doubtful, asked: there.AskedAt}
	if !further {
		s.sequence.doubtful = here.doubtful || there.Doubtful
		s.sequence.asked = later(here.asked, there.AskedAt)
	}
	s.relayed = s.relayed && !further
	s.capabilities, s.components = there.Capabilities, there.Components
	s.followSent(there)
	s.restarted = max(s.restarted, there.Restarted)
	s.greeted = true
}

// followSent takes over which offer was handed out last: at the latest with the answer to the last message.
func (s *Session) followSent(there Standing) {
	sent := offerMark{hash: there.SentHash, generation: there.SentGeneration, with: there.Sequence}
	switch {
	case sent.hash == nil, s.sent.hash != nil && sent.generation < s.sent.generation:
	case sent.generation == s.sent.generation && bytes.Equal(sent.hash, s.sent.hash):
	default:
		s.sent = sent
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Repeated is told the number of a message before it arrives. If the agent repeats its last one, our answer to that was
// lost: what it asked counts as not asked, and an offer in it as not made. It says whether there was one.
func (s *Session) Repeated(number uint64) (lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sequence.begun || number != s.sequence.last {
		return false
	}
	s.sequence.asked = time.Time{}
	if lost = s.sent.hash != nil && s.sent.with == number; lost {
		s.sent = offerMark{}
	}
	return lost
}

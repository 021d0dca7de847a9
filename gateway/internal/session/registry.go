// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"hash/maphash"
	"iter"
	"sync"

	"gitlab.com/ampora/ampora/shared/identity"
)

const shards = 64

// Registry holds the live sessions of a gateway by agent. It is split by hash, so
// that the sessions of one agent never wait for those of another for long.
type Registry struct {
	seed    maphash.Seed
	shards  [shards]shard
	polls   polls
	changes changes
	onEnd   func(*Session, EndReason)
}

type shard struct {
	mu       sync.RWMutex
	sessions map[Key]*Session
}

// NewRegistry makes an empty registry. onEnd is called once for each session that
// ended, after it has left the registry, and must not block.
func NewRegistry(onEnd func(*Session, EndReason)) *Registry {
	r := &Registry{seed: maphash.MakeSeed(), onEnd: onEnd}
	for i := range r.shards {
		r.shards[i].sessions = make(map[Key]*Session)
	}
	r.polls.sessions, r.polls.pollers = make(map[Poller]*Session), make(map[*Session]Poller)
	return r
}

// Start adds a session over a connection. Of two of the same agent the one with the
// lower epoch has lost it to the other, whichever comes here first: it ends as
// superseded and its link is closed.
func (r *Registry) Start(s *Session) {
	s.mu.Lock()
	s.changes = &r.changes
	s.mu.Unlock()
	r.add(s)
}

func (r *Registry) add(s *Session) {
	shard := r.shard(s.Key)
	shard.mu.Lock()
	older := shard.sessions[s.Key]
	if older != nil && older.Epoch() > s.Epoch() {
		older, s = s, older
	}
	shard.sessions[s.Key] = s
	shard.mu.Unlock()
	if older != nil && older != s {
		r.End(older, Superseded)
		older.Link.Close(older, Superseded)
	}
}

// Get returns the live session of an agent, or nil.
func (r *Registry) Get(key Key) *Session {
	shard := r.shard(key)
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	return shard.sessions[key]
}

// End ends a session with the reason. Only the first call for a session counts.
func (r *Registry) End(s *Session, reason EndReason) {
	if r.remove(s) {
		r.onEnd(s, reason)
	}
}

// Forget takes a session off this gateway that goes on at others: nobody is told of an
// end.
func (r *Registry) Forget(s *Session) { r.remove(s) }

// remove says whether the session was live.
func (r *Registry) remove(s *Session) bool {
	if !s.end() {
		return false
	}
	shard := r.shard(s.Key)
	shard.mu.Lock()
	if shard.sessions[s.Key] == s {
		delete(shard.sessions, s.Key)
	}
	shard.mu.Unlock()
	r.polls.forget(s)
	return true
}

// Changed returns the sessions over connections of which something has changed since
// the last call.
func (r *Registry) Changed() []*Session { return r.changes.take() }

// All yields the sessions that were live when their shard was visited.
func (r *Registry) All() iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		for i := range r.shards {
			for _, s := range r.shards[i].snapshot() {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// Len is the number of live sessions.
func (r *Registry) Len() int {
	n := 0
	for i := range r.shards {
		r.shards[i].mu.RLock()
		n += len(r.shards[i].sessions)
		r.shards[i].mu.RUnlock()
	}
	return n
}

func (r *Registry) shard(key Key) *shard {
	return &r.shards[maphash.Comparable(r.seed, key)%shards]
}

func (s *shard) snapshot() []*Session {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sessions := make([]*Session, 0, len(s.sessions))
	for _, session := range s.sessions {
		sessions = append(sessions, session)
	}
	return sessions
}

// Poller names a polling agent before its session is known: the identity that its
// certificate proves and the uid it claims.
type Poller struct {
	Identity Key
	UID      identity.InstanceUID
}

// polls finds the sessions of polling agents, which no connection remembers.
type polls struct {
	mu       sync.Mutex
	sessions map[Poller]*Session
	pollers  map[*Session]Poller
}

// StartPolling adds a session that is found again by its poller.
func (r *Registry) StartPolling(p Poller, s *Session) {
	r.polls.remember(p, s) // before anything can end it, which forgets it
	r.add(s)
}

// Polling returns the live session of a poller, or nil.
func (r *Registry) Polling(p Poller) *Session {
	r.polls.mu.Lock()
	defer r.polls.mu.Unlock()
	return r.polls.sessions[p]
}

// LenPolling is the number of live sessions that live by polls.
func (r *Registry) LenPolling() int {
	r.polls.mu.Lock()
	defer r.polls.mu.Unlock()
	return len(r.polls.pollers)
}

// AllPolling returns the sessions that live by polls: those that no read deadline
// ends.
func (r *Registry) AllPolling() []*Session {
	r.polls.mu.Lock()
	defer r.polls.mu.Unlock()
	sessions := make([]*Session, 0, len(r.polls.pollers))
	for s := range r.polls.pollers {
		sessions = append(sessions, s)
	}
	return sessions
}

func (p *polls) remember(poller Poller, s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions[poller] = s
	p.pollers[s] = poller
}

func (p *polls) forget(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	poller, found := p.pollers[s]
	if !found {
		return
	}
	delete(p.pollers, s)
	if p.sessions[poller] == s {
		delete(p.sessions, poller)
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package session knows which agents this gateway holds and what it owes them.
//
// A session is one agent's presence, named by the epoch that the control plane gave
// out when it was claimed: at one gateway if it came over a connection, at every
// gateway that its polls come to if it polls. The package guarantees that a session
// ends exactly once here, or is forgotten and ends elsewhere; that whoever posts to
// one never waits for the agent; that of each kind of mail only the latest is kept;
// and that a session which changes is found without looking at the others. It knows
// nothing of OpAMP's messages and nothing of sockets: what an agent says arrives as an
// [Arrival], what it shall hear leaves as [Mail].
package session

import (
	"bytes"
	"crypto/sha256"
	"sync"
	"time"
	"unique"

	"gitlab.com/ampora/ampora/shared/identity"
)

// Key names an agent: what sessions, grants and reports are about. A connection is
// no key, because one connection may carry many agents.
type Key struct {
	Tenant identity.TenantID
	Agent  identity.AgentID
}

// EndReason says why a session ended; it travels in relay.v1.SessionEnded.
type EndReason string

// The reasons.
const (
	AgentDisconnect EndReason = "AGENT_DISCONNECT"    // the agent said so
	Closed          EndReason = "CLOSED"              // the peer closed the connection or it broke
	Idle            EndReason = "IDLE"                // silent for longer than the idle timeout
	SlowConsumer    EndReason = "SLOW_CONSUMER"       // it did not read what was written to it
	Superseded      EndReason = "SUPERSEDED"          // another session of the identity took over
	Drained         EndReason = "DRAINED"             // the gateway is stopping, or its sessions are to go elsewhere
	ProtocolError   EndReason = "PROTOCOL_ERROR"      // it broke WebSocket's or OpAMP's rules
	Requested       EndReason = "REQUESTED"           // the control plane asked for it
	Revoked         EndReason = "REVOKED"             // its certificate was revoked
	KeyRetired      EndReason = "SIGNING_KEY_RETIRED" // the key that signed its certificate was retired
	Expired         EndReason = "EXPIRED"             // its certificate expired
)

// Distrust says that the connection itself is not trusted any more, whatever else it carries.
func (r EndReason) Distrust() bool { return r == Revoked || r == KeyRetired }

// EndReasons are all of them.
func EndReasons() []string {
	return []string{
		string(AgentDisconnect), string(Closed), string(Idle), string(SlowConsumer), string(Superseded), string(Drained),
		string(ProtocolError), string(Requested), string(Revoked), string(KeyRetired), string(Expired),
	}
}

// Link is how a session reaches its agent: a WebSocket that may carry several
// sessions, or the answers to polls. No method blocks, each may be called from any
// goroutine and after the link has ended.
type Link interface {
	// Wake says that mail waits for the session. A link that can write takes it
	// soon; one that waits for polls leaves it until the next one.
	Wake(*Session)
	// Ping asks the peer for a sign of life, if the transport has such a thing.
	Ping()
	// Renew makes an offer of a certificate of a new key, by its number, and posts it to the session when it is made.
	Renew(*Session, int64)
	// Close ends the session with the reason, and the link with it unless the link
	// carries other agents.
	Close(*Session, EndReason)
}

// Claimed is what a session begins with: the outcome of its claim.
type Claimed struct {
	Key          Key
	UID          identity.InstanceUID
	Serial       identity.Serial
	Issuer       unique.Handle[identity.Fingerprint] // of its certificate
	Epoch        uint64
	LastSequence uint64
	// StateKnown says that the control plane has this agent's state up to LastSequence.
	StateKnown bool
	// AfterOwnOffer says that the agent comes back from an offer of connection
	// settings that this gateway made.
	AfterOwnOffer bool
}

// Session is one live session. Its methods may be called from many goroutines,
// except that arrivals come one at a time.
type Session struct {
	Key    Key
	UID    identity.InstanceUID
	Serial identity.Serial
	Issuer unique.Handle[identity.Fingerprint]
	Link   Link

	mu           sync.Mutex
	epoch        uint64
	sequence     Sequence
	lastRelayed  uint64   // the number of the last message for the control plane, if relayed
	changes      *changes // where the session says that it changed; nil for one that polls
	bucket       Bucket
	capabilities uint64
	lastSeen     time.Time
	mail         Mail
	sent         offerMark
	offered      asked
	renewal      renewal
	restarted    int64 // the generation of the restart command that was last taken
	generations  map[string]int64
	components   [sha256.Size]byte // of the hash last listed or asked for
	told         Parts             // what the agent has told of, here or, as far as that is on record, before
	relayed      bool
	onItsWay     bool // an arrival that is to be relayed is not queued yet
	listed       bool // among the changes
	afterOffer   bool
	greeted      bool
	ended        bool
}

// New begins a session at now.
func New(claimed Claimed, link Link, now time.Time) *Session {
	var told Parts
	if claimed.StateKnown {
		told = Description | Health | EffectiveConfig
	}
	return &Session{
		told: told,
		Key:  claimed.Key, UID: claimed.UID, Serial: claimed.Serial, Issuer: claimed.Issuer, Link: link,
		epoch:      claimed.Epoch,
		sequence:   Begin(claimed.LastSequence, claimed.StateKnown),
		bucket:     FullBucket(now),
		lastSeen:   now,
		afterOffer: claimed.AfterOwnOffer,
	}
}

// Parts are the parts of an agent's state that tell a full report from one of what has changed.
type Parts uint8

// The parts.
const (
	Description Parts = 1 << iota
	Health
	EffectiveConfig
	ConfigStatus
)

// Arrival is what matters here of an AgentToServer message.
type Arrival struct {
	Sequence     uint64
	Capabilities uint64
	// Tells is what it tells of; Reports what the agent's capabilities say that it can tell of.
	Tells, Reports Parts
	// News: it says anything but that the agent lives.
	News bool
}

// Verdict says what to do with an arrival. All of them are answered.
type Verdict struct {
	Step
	// Limited: over the rate limit. Shed it and say so; the session is in doubt now.
	Limited bool
	// InDoubt: something that the agent said before is lost, and full state has not come since.
	InDoubt bool
}

// Arrive records an arrival and decides about it. Heartbeats end here: what says nothing new is answered and counted,
// not relayed. What is to be relayed is [Session.Settled] afterwards.
func (s *Session) Arrive(arrival Arrival, now time.Time) Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := arrival.News || arrival.Capabilities != s.capabilities
	s.lastSeen = now
	s.capabilities = arrival.Capabilities
	s.changed()
	var taken bool
	if s.bucket, taken = s.bucket.Take(now); !taken {
		s.sequence = s.sequence.Shed(arrival.Sequence)
		return Verdict{Limited: true}
	}
	next, step := s.sequence.Next(arrival.Sequence, s.extent(arrival), now)
	s.sequence = next
	if step.Restart {
		s.told = 0
	}
	if step.Relay {
		s.told |= arrival.Tells
	}
	step.Relay = step.Relay && news
	if step.Relay {
		s.lastRelayed, s.relayed, s.onItsWay = arrival.Sequence, true, true
	}
	return Verdict{Step: step, InDoubt: next.doubtful}
}

// extent says how much an arrival tells. What an agent begins to count with is whole: it has told of nothing before.
func (s *Session) extent(arrival Arrival) Extent {
	missing := s.told & arrival.Reports &^ arrival.Tells
	switch {
	case arrival.Tells&Description == 0:
		return Partly
	case arrival.Sequence == 0, missing == 0:
		return Whole
	default:
		return Described
	}
}

// Doubt makes the session ask for the agent's full state: something of it was lost.
func (s *Session) Doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sequence = s.sequence.Doubt()
	s.changed()
}

// Rebind puts the session under a new epoch: after a restart of the agent on the
// same session, or after the gateway's lease was lost and everything claimed anew. An
// offer for the old epoch is thrown away. Of two claims that overtook each other the
// later counts. It says whether the session still lives; if it ended meanwhile, its end
// was told for an epoch that counts no more.
func (s *Session) Rebind(epoch uint64) (live bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rebind(epoch)
}

func (s *Session) rebind(epoch uint64) (live bool) {
	if epoch > s.epoch {
		s.epoch = epoch
		s.generations = nil
		s.sent = offerMark{}
		s.mail.Config = nil
		s.mail.Settings.Wipe()
		s.mail.Settings, s.renewal = nil, renewal{}
		s.greeted = false
		s.changed()
	}
	return !s.ended
}

// Reclaim puts the session under a new epoch after the gateway's lease was lost, as
// [Session.Rebind] does. last is the number of the agent's last report on record and
// known says that its state is: whatever was relayed and is not on record by then is
// lost, because it carries the old epoch.
func (s *Session) Reclaim(epoch, last uint64, known bool) (live bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	live = s.rebind(epoch)
	if !known || s.relayed && last != s.lastRelayed {
		s.sequence = s.sequence.Doubt()
	}
	s.relayed = false // nothing yet under this epoch
	s.changed()
	return live
}

// Touch records a sign of life that is no message, such as a pong.
func (s *Session) Touch(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastSeen = now
	s.changed()
}

// Left is what to remember of the session when it ends: the number of the agent's last message, relayed or not, and
// whether something of it is lost.
func (s *Session) Left() (sequence uint64, inDoubt bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sequence.last, s.sequence.doubtful || !s.sequence.begun
}

// Epoch is the epoch the session is claimed under.
func (s *Session) Epoch() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// LastSeen is when the agent gave its last sign of life.
func (s *Session) LastSeen() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastSeen
}

// Capabilities is the bit mask of the agent's last message. The agent may change
// it with any message, so it is read at the moment of each offer.
func (s *Session) Capabilities() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.capabilities
}

// AfterOwnOffer says whether an empty health report is to be expected, because a
// client made for new connection settings knows no health yet. The first health
// that says something ends it.
func (s *Session) AfterOwnOffer(healthKnown bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if healthKnown {
		s.afterOffer = false
	}
	return s.afterOffer
}

// Greet says once for each epoch that the agent is to be told what the server can do.
func (s *Session) Greet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	greet := !s.greeted
	s.greeted = true
	return greet
}

// AskComponents says whether to ask for the list of the agent's components. Agents name
// the hash of the list and send the list itself only when asked (specification,
// "AvailableComponents"). It is asked for once for each hash in a session.
func (s *Session) AskComponents(hash []byte, listed bool) bool {
	named := sha256.Sum256(hash) // the agent's hash has any length
	s.mu.Lock()
	defer s.mu.Unlock()
	ask := !listed && s.components != named
	s.components = named
	return ask
}

// Ended says whether the session has ended.
func (s *Session) Ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// end says true once. Nobody gets the mail of a session that is over.
func (s *Session) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.ended
	s.ended = true
	s.mail.Settings.Wipe()
	s.mail = Mail{}
	return first
}

// offerMark is an offer that was written.
type offerMark struct {
	hash       []byte
	generation int64
	with       uint64 // the number of the agent's last message then
}

// asked is an offer that the agent is to answer, in a trace.
type asked struct {
	mark  offerMark
	trace string
}

func (m offerMark) is(offer *ConfigOffer) bool {
	return m.hash != nil && m.generation == offer.Generation && bytes.Equal(m.hash, offer.Hash)
}

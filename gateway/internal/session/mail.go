// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"time"
)

// ConfigOffer is a remote configuration on its way to an agent.
type ConfigOffer struct {
	// Hash is what the agent reports back.
	Hash []byte
	// Generation is that of the grant the offer stands on.
	Generation int64
	// Epoch is that of the session it was made for.
	Epoch uint64
	// Wire is the offer as the agent receives it, made once for all its targets.
	// It is shared: nobody changes it.
	Wire []byte
	// Trace is where it came from, as a W3C traceparent, if that is recorded; At is when
	// it came.
	Trace string
	At    time.Time
	// End is to be called when it is written.
	End func()
}

// Mail is what waits for an agent: the latest of each kind, so a session that
// nobody reads costs one of each and no more. OpAMP itself asks for no more (only
// the newest offer of a kind counts).
type Mail struct {
	Config    *ConfigOffer
	Settings  *SettingsOffer
	FullState bool
	Restart   *RestartCommand
}

// RestartCommand asks an agent to restart.
type RestartCommand struct {
	Epoch      uint64
	Generation int64
	// Until is when nobody wants it any more.
	Until time.Time
}

// Empty says that nothing waits.
func (m Mail) Empty() bool {
	return m.Config == nil && m.Settings == nil && !m.FullState && m.Restart == nil
}

// Posting says what became of a piece of mail.
type Posting int

// The outcomes of a post.
const (
	Posted      Posting = iota // it waits; the link was woken
	AlreadySent                // the same offer of the same generation was written in this session
	Outdated                   // a higher generation of its kind was seen
	OtherEpoch                 // it is for another session than this one
)

// Address is what a piece of mail must match: the epoch it was meant for, and the
// generation, of which a lower one than already seen for the kind is void.
type Address struct {
	Kind       string
	Epoch      uint64
	Generation int64
}

// Expects says what posting an offer would give, before anything is fetched for it.
func (s *Session) Expects(to Address, offer *ConfigOffer) Posting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.weigh(to, offer)
}

// PostConfig puts an offer into the mailbox in place of any earlier one.
func (s *Session) PostConfig(to Address, offer *ConfigOffer) Posting {
	s.mu.Lock()
	posting := s.weigh(to, offer)
	if posting == Posted || posting == AlreadySent {
		s.remember(to)
	}
	if posting == Posted {
		s.mail.Config = offer
	}
	s.mu.Unlock()
	if posting == Posted {
		s.Link.Wake(s)
	}
	return posting
}

// PostFullState asks for the agent's full state with the next thing written to it.
func (s *Session) PostFullState(to Address) Posting {
	s.mu.Lock()
	posting := s.admit(to)
	if posting == Posted {
		s.mail.FullState = true
	}
	s.mu.Unlock()
	if posting == Posted {
		s.Link.Wake(s)
	}
	return posting
}

// PostDoubt is [Session.PostFullState] for an agent that polls: the next answer asks, unless some gateway has asked
// lately. So a request that all of them read is made once.
func (s *Session) PostDoubt(to Address, now time.Time) Posting {
	s.mu.Lock()
	defer s.mu.Unlock()
	posting := s.admit(to)
	if posting == Posted && !s.sequence.asked.IsZero() && now.Sub(s.sequence.asked) < AskAgainAfter {
		return AlreadySent
	}
	if posting == Posted {
		s.sequence = s.sequence.Doubt()
	}
	return posting
}

// PostPing asks the peer of the session for a sign of life.
func (s *Session) PostPing(to Address) Posting {
	s.mu.Lock()
	posting := s.check(to)
	s.mu.Unlock()
	if posting == Posted {
		s.Link.Ping()
	}
	return posting
}

// PostClose ends the session's link because the control plane asked for it, for the reason.
func (s *Session) PostClose(to Address, reason EndReason) Posting {
	s.mu.Lock()
	posting := s.admit(to)
	s.mu.Unlock()
	if posting == Posted {
		s.Link.Close(s, reason)
	}
	return posting
}

// PostRestart asks the agent to restart, once for each generation, wherever it was taken out of a mailbox.
func (s *Session) PostRestart(to Address, until time.Time) Posting {
	s.mu.Lock()
	posting := s.admit(to)
	if posting == Posted && to.Generation <= s.restarted {
		posting = AlreadySent
	}
	if posting == Posted {
		s.mail.Restart = &RestartCommand{Epoch: to.Epoch, Generation: to.Generation, Until: until}
	}
	s.mu.Unlock()
	if posting == Posted {
		s.Link.Wake(s)
	}
	return posting
}

// TakeRestart takes the restart command, if there is one: it travels alone (specification, "ServerToAgentCommand"). It is
// not sent again, whatever becomes of it.
func (s *Session) TakeRestart(now time.Time) *RestartCommand {
	s.mu.Lock()
	defer s.mu.Unlock()
	command := s.mail.Restart
	s.mail.Restart = nil
	if command == nil || command.Epoch != s.epoch || command.Generation <= s.restarted || !now.Before(command.Until) {
		return nil
	}
	s.restarted = command.Generation
	return command
}

// TakeMail empties the mailbox. The taker writes what it took, or ends the session;
// an offer that was written is recorded with [Session.Sent].
func (s *Session) TakeMail() Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	mail := s.mail
	s.mail = Mail{Restart: mail.Restart} // which is taken by itself
	mail.Restart = nil
	return mail
}

// Sent records that an offer was written, so that the same one is not written again
// under its epoch.
func (s *Session) Sent(offer *ConfigOffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if offer.Epoch != s.epoch {
		return
	}
	s.sent = offerMark{hash: offer.Hash, generation: offer.Generation, with: s.sequence.last}
}

// Offering records the trace of an offer that is about to be written: the agent may
// answer before the writer knows that it was.
func (s *Session) Offering(offer *ConfigOffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offered = asked{mark: offerMark{hash: offer.Hash, generation: offer.Generation}, trace: offer.Trace}
}

// Offered records the trace of an offer that was written already, for an agent that polls
// and may answer here what another gateway offered. Of one that was made here it changes
// nothing.
func (s *Session) Offered(offer *ConfigOffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.offered.mark.is(offer) {
		s.offered = asked{mark: offerMark{hash: offer.Hash, generation: offer.Generation}, trace: offer.Trace}
	}
}

// Answers returns the trace of the offer that was made last, if the agent's word on the
// hash is about it and it has one. The last word ends it: what the agent says later of
// the same hash, it says by itself.
func (s *Session) Answers(hash []byte, last bool) (trace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offered.trace == "" || !bytes.Equal(s.offered.mark.hash, hash) {
		return ""
	}
	trace = s.offered.trace
	if last {
		s.offered.trace = ""
	}
	return trace
}

// The lock is held in what follows.

// admit checks an address and remembers its generation.
func (s *Session) admit(to Address) Posting {
	posting := s.check(to)
	if posting == Posted {
		s.remember(to)
	}
	return posting
}

func (s *Session) check(to Address) Posting {
	if s.ended || to.Epoch != s.epoch {
		return OtherEpoch
	}
	if seen, known := s.generations[to.Kind]; known && to.Generation < seen {
		return Outdated
	}
	return Posted
}

func (s *Session) remember(to Address) {
	if s.generations == nil {
		s.generations = make(map[string]int64, 1)
	}
	s.generations[to.Kind] = to.Generation
}

// weigh checks an offer's address, and whether it or a later one was written already.
func (s *Session) weigh(to Address, offer *ConfigOffer) Posting {
	posting := s.check(to)
	switch {
	case posting != Posted:
		return posting
	case s.sent.is(offer):
		return AlreadySent
	case s.sent.hash != nil && offer.Generation < s.sent.generation:
		return Outdated
	}
	return Posted
}

// HasMail says whether the mailbox holds anything.
func (s *Session) HasMail() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.mail.Empty()
}

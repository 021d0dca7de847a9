// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

// SettingsOffer is a certificate of a new key on its way to an agent, with the connection settings it is for.
type SettingsOffer struct {
	// Number is the offer's, as the control plane counts them; Epoch that of the session it was made for.
	Number int64
	Epoch  uint64
	// Hash is what the agent reports back.
	Hash []byte
	// Wire is the offer as the agent receives it. It holds the private key: whoever writes it, or throws it away, wipes it.
	Wire []byte
}

// Wipe forgets the private key.
func (o *SettingsOffer) Wipe() {
	if o != nil {
		clear(o.Wire)
	}
}

// renewal is how far the offer that was asked for last has come.
type renewal struct {
	number int64
	done   bool // it was made, or is not to be made
	hash   []byte
}

// PostRenew lets the link make an offer of a certificate, once for each number: an offer that is being made, or was, is
// not made again. Of one that was written it returns the hash, so that its being so can be told again.
func (s *Session) PostRenew(to Address) (posting Posting, written []byte) {
	s.mu.Lock()
	posting = s.admit(to)
	if posting == Posted && s.renewal.number == to.Generation {
		posting, written = AlreadySent, s.renewal.hash
	}
	if posting == Posted {
		s.renewal = renewal{number: to.Generation}
	}
	s.mu.Unlock()
	if posting == Posted {
		s.Link.Renew(s, to.Generation)
	}
	return posting, written
}

// PostSettings puts the offer that was asked for last into the mailbox. It says whether that is still to be made.
func (s *Session) PostSettings(offer *SettingsOffer) bool {
	s.mu.Lock()
	wanted := !s.ended && offer.Epoch == s.epoch && offer.Number == s.renewal.number && !s.renewal.done
	if wanted {
		s.mail.Settings.Wipe()
		s.mail.Settings = offer
	}
	s.mu.Unlock()
	if wanted {
		s.Link.Wake(s)
	}
	return wanted
}

// Renewed settles an offer: it was written, or will not be made. hash is nil then.
func (s *Session) Renewed(number int64, hash []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.renewal.number == number {
		s.renewal.done, s.renewal.hash = true, hash
	}
}

// GiveUpRenewal forgets an offer that could not be made: it is made when it is asked for again.
func (s *Session) GiveUpRenewal(number int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.renewal.number == number && !s.renewal.done {
		s.renewal = renewal{}
	}
}

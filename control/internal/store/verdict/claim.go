// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package verdict is what the stores of both backends decide alike: who becomes a gateway and who gets a session, and
// what of the gateways' messages counts. A store reads the rows that a decision needs, locked until it commits, asks
// here, and writes what the answer says; so two backends cannot come to differ in what they admit. What is told of it is
// composed in trail.
//
// It is pure: no clock, no I/O, and an answer depends on nothing but the arguments.
package verdict

import (
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Seat is the row of an agent as far as a claim looks at it.
type Seat struct {
	Agent         fleet.AgentID
	Method        fleet.EnrolmentMethod
	Parent        fleet.AgentID
	MaxChildren   int
	UID           fleet.InstanceUID
	QuarantinedAt time.Time
	Takeovers     []time.Time
	Attention     []fleet.Attention
	Epoch         fleet.Epoch
	Gateway       fleet.GatewayID
	BootID        uint64
	Transport     fleet.Transport
	LastSequence  fleet.Sequence
	StateKnown    bool
	FirstSeenAt   time.Time
	// Serial is of the certificate that was shown last, Given of the one that was made to be offered last.
	Serial, Given fleet.Serial
	// Open says that its session has not ended.
	Open bool
	// Telling bounds what is told of it.
	Telling Telling
	// LeaseUntil is the latest lease of the gateway boots that serve the session; zero if there are none any more.
	LeaseUntil time.Time
}

// alive reports whether the agent has a session at a gateway that has its lease at the time.
func (s *Seat) alive(at time.Time) bool { return s.Open && s.LeaseUntil.After(at) }

// heard returns how far the agent was heard in its session: as the holder noted, or as the last report on record says.
func (s *Seat) heard(h fleet.Heard) (sequence fleet.Sequence, whole bool) {
	noted := h.Epoch == s.Epoch && h.Epoch > 0 && s.Open &&
		(s.Transport == fleet.TransportHTTP || h.Gateway == s.Gateway && h.BootID == s.BootID)
	if noted && h.Sequence >= s.LastSequence {
		return h.Sequence, h.Whole
	}
	return s.LastSequence, s.StateKnown
}

// Claimed is what is on record about a claim.
type Claimed struct {
	// Certificate is nil if the serial is not recorded.
	Certificate *fleet.Certificate
	// Identity is the agent the certificate belongs to; nil if there is none.
	Identity *Seat
	// Owner is the agent the uid is bound to, nil if it is new. It may be Identity. Of a stranger no more than the two ids
	// need be known.
	Owner *Seat
	// Children is how many agents the identity speaks for by now.
	Children int
}

// Seating is the answer to a claim: what to write.
type Seating struct {
	Outcome fleet.ClaimOutcome
	Reason  string // of a refusal
	// Seat is the agent the claim is for; nil if it was refused before that was clear, or if the agent is a NewChild.
	Seat     *Seat
	NewChild bool
	// Sequence is how far the agent was heard before, Whole whether its state is known up to there. What it said in the
	// session before this one still counts if it comes in up to the sequence.
	Sequence fleet.Sequence
	Whole    bool
	// Shared says that the session goes on as it is, with one gateway more that serves it.
	Shared bool
	// Bind says that the uid is new and belongs to the agent from now on.
	Bind bool
	// Takeovers replaces the agent's list of takeovers by clones; nil leaves it.
	Takeovers []time.Time
	// Quarantine says that the agent is quarantined now; the claim is refused with it.
	Quarantine bool
}

// Result is what the gateway gets to hear. A NewChild has its Seat by now.
func (s Seating) Result() fleet.ClaimResult {
	result := fleet.ClaimResult{Outcome: s.Outcome, Reason: s.Reason}
	if s.Seat != nil {
		result.Agent, result.Method = s.Seat.Agent, s.Seat.Method
		result.LastSequence, result.StateKnown = s.Sequence, s.Whole
	}
	switch s.Outcome {
	case fleet.ClaimHeld:
		result.HolderGateway, result.HolderEpoch = s.Seat.Gateway, s.Seat.Epoch
	case fleet.ClaimClaimed:
		result.Epoch, result.Shared = s.Seat.Epoch+1, s.Shared
		if s.Shared {
			result.Epoch = s.Seat.Epoch
		}
	case fleet.ClaimRefused: // the reason says it all
	}
	return result
}

// OfClaim decides a claim (product specification, section 4). The gateway's own lease is the caller's to check.
func OfClaim(c fleet.Claim, on Claimed) Seating {
	if reason := credential(c.Identity, c.Fingerprint, on.Certificate, on.Identity); reason != "" {
		return Seating{Outcome: fleet.ClaimRefused, Reason: reason}
	}
	s := seat(on)
	if s.Outcome == fleet.ClaimRefused || s.NewChild {
		return s
	}
	s.Sequence, s.Whole = s.Seat.heard(c.Heard)
	if c.Contested != s.Seat.Epoch {
		c.Takeover = fleet.TakeoverNone
	}
	switch {
	case !s.Seat.QuarantinedAt.IsZero():
		return Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedQuarantined, Seat: s.Seat}
	case s.Seat.alive(c.At) && c.Takeover == fleet.TakeoverNone && s.goesOn(c):
		// With another certificate it goes on as well, but everybody must know: that is the one to refuse from now on.
		s.Shared = s.Seat.Serial == c.Serial
		return s
	case s.Seat.alive(c.At) && c.Takeover == fleet.TakeoverNone:
		return Seating{Outcome: fleet.ClaimHeld, Seat: s.Seat}
	case s.Seat.alive(c.At) && c.Takeover == fleet.TakeoverClone:
		return takeover(c, s)
	default:
		return s
	}
}

// goesOn says whether the claim is that of the agent which polls in the session that is open: its next message may come
// to any gateway, and none of them has to give way.
func (s Seating) goesOn(c fleet.Claim) bool {
	polls := c.Transport == fleet.TransportHTTP && s.Seat.Transport == fleet.TransportHTTP
	return polls && !s.Bind && s.Seat.UID == c.UID
}

// credential returns why the certificate admits nobody, "" if it does. The fingerprint counts besides the serial, because
// a serial is unique only together with its issuer.
func credential(agent fleet.AgentID, fingerprint fleet.Fingerprint, certificate *fleet.Certificate, identity *Seat) string {
	switch {
	case certificate == nil, identity == nil, certificate.Agent != agent, certificate.Fingerprint != fingerprint:
		return fleet.RefusedNotRecorded
	case !certificate.RevokedAt.IsZero():
		return fleet.RefusedRevoked
	case certificate.KeyRetired:
		return fleet.RefusedKeyRetired
	case !identity.QuarantinedAt.IsZero():
		return fleet.RefusedQuarantined
	default:
		return ""
	}
}

// seat finds the agent that speaks as the uid: the identity itself, one of its children, or a new child.
func seat(on Claimed) Seating {
	self := on.Identity
	switch {
	case on.Owner != nil && (on.Owner.Agent == self.Agent || on.Owner.Parent == self.Agent):
		return Seating{Outcome: fleet.ClaimClaimed, Seat: on.Owner}
	case on.Owner != nil:
		return Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedForeignUID}
	case self.UID.IsZero(), self.MaxChildren == 0:
		// The first uid is the identity's own. One that speaks for nobody else may change it: agents that do not keep
		// theirs make a new one at each start.
		return Seating{Outcome: fleet.ClaimClaimed, Seat: self, Bind: true}
	case on.Children < self.MaxChildren:
		return Seating{Outcome: fleet.ClaimClaimed, NewChild: true, Bind: true}
	default:
		return Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedChildrenExhausted}
	}
}

// takeover counts a takeover by a clone and quarantines the agent when there were too many of late.
func takeover(c fleet.Claim, s Seating) Seating {
	s.Takeovers = append(recent(s.Seat.Takeovers, c.At), c.At)
	if len(s.Takeovers) >= fleet.CloneTakeovers {
		return Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedQuarantined, Seat: s.Seat, Takeovers: s.Takeovers, Quarantine: true}
	}
	return s
}

func recent(takeovers []time.Time, now time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(takeovers), func(t time.Time) bool {
		return !t.After(now.Add(-fleet.CloneTakeoverWindow))
	})
}

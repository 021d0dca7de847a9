// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

var now = time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)

const self, child, stranger = fleet.AgentID("self"), fleet.AgentID("child"), fleet.AgentID("stranger")

// How far the agent was heard comes from whoever held its session, for that session alone.
func TestHeard(t *testing.T) {
	held := verdict.Seat{
		Agent: self, UID: fleet.InstanceUID{1}, Epoch: 5, Gateway: "g", BootID: 7, Transport: fleet.TransportWebSocket,
		LastSequence: 10, StateKnown: true, Open: true,
	}
	note := fleet.Heard{Gateway: "g", BootID: 7, Epoch: 5, Sequence: 20, Whole: true}
	for name, c := range map[string]struct {
		change   func(*verdict.Seat, *fleet.Heard)
		sequence fleet.Sequence
		whole    bool
	}{
		"the holder's note":              {func(*verdict.Seat, *fleet.Heard) {}, 20, true},
		"of an agent in doubt":           {func(_ *verdict.Seat, h *fleet.Heard) { h.Whole = false }, 20, false},
		"older than the record":          {func(_ *verdict.Seat, h *fleet.Heard) { h.Sequence = 9; h.Whole = false }, 10, true},
		"of a state that is on its way":  {func(s *verdict.Seat, _ *fleet.Heard) { s.StateKnown = false }, 20, true},
		"of another session":             {func(_ *verdict.Seat, h *fleet.Heard) { h.Epoch = 4 }, 10, true},
		"of another gateway":             {func(_ *verdict.Seat, h *fleet.Heard) { h.Gateway = "h" }, 10, true},
		"of another boot":                {func(_ *verdict.Seat, h *fleet.Heard) { h.BootID = 8 }, 10, true},
		"of a session that has ended":    {func(s *verdict.Seat, _ *fleet.Heard) { s.Open = false }, 10, true},
		"of a polling agent, by anybody": {func(s *verdict.Seat, h *fleet.Heard) { s.Transport, h.Gateway = fleet.TransportHTTP, "" }, 20, true},
		"none":                           {func(_ *verdict.Seat, h *fleet.Heard) { *h = fleet.Heard{} }, 10, true},
	} {
		s, h := held, note
		c.change(&s, &h)
		claim := fleet.Claim{Identity: self, UID: s.UID, Fingerprint: "f", Takeover: fleet.TakeoverRestart, Contested: s.Epoch, Heard: h, At: now}
		got := verdict.OfClaim(claim, verdict.Claimed{Certificate: &fleet.Certificate{Agent: self, Fingerprint: "f"}, Identity: &s, Owner: &s}).Result()
		if got.LastSequence != c.sequence || got.StateKnown != c.whole || got.Epoch != 6 {
			t.Errorf("%s: %+v, want sequence %d, whole %v", name, got, c.sequence, c.whole)
		}
	}
}

// The next message of an agent that polls may come to any gateway.
func TestPollsAreShared(t *testing.T) {
	uid := fleet.InstanceUID{1}
	polling := verdict.Seat{Agent: self, UID: uid, Epoch: 5, Gateway: "g", BootID: 7, Transport: fleet.TransportHTTP, Open: true, Alive: true}
	for name, c := range map[string]struct {
		change func(*verdict.Seat, *fleet.Claim, *verdict.Claimed)
		want   fleet.ClaimResult
	}{
		"at another gateway": {func(*verdict.Seat, *fleet.Claim, *verdict.Claimed) {}, fleet.ClaimResult{Outcome: fleet.ClaimClaimed, Epoch: 5, Shared: true}},
		"after a restart": {
			func(_ *verdict.Seat, c *fleet.Claim, _ *verdict.Claimed) {
				c.Takeover, c.Contested = fleet.TakeoverRestart, 5
			},
			fleet.ClaimResult{Outcome: fleet.ClaimClaimed, Epoch: 6},
		},
		"once nobody serves it": {func(s *verdict.Seat, _ *fleet.Claim, _ *verdict.Claimed) { s.Alive = false }, fleet.ClaimResult{Outcome: fleet.ClaimClaimed, Epoch: 6}},
		"under another uid": {
			func(_ *verdict.Seat, c *fleet.Claim, on *verdict.Claimed) {
				c.UID, on.Owner = fleet.InstanceUID{2}, nil
			},
			fleet.ClaimResult{Outcome: fleet.ClaimHeld, HolderGateway: "g", HolderEpoch: 5},
		},
		"over a WebSocket": {
			func(_ *verdict.Seat, c *fleet.Claim, _ *verdict.Claimed) { c.Transport = fleet.TransportWebSocket },
			fleet.ClaimResult{Outcome: fleet.ClaimHeld, HolderGateway: "g", HolderEpoch: 5},
		},
		"while a WebSocket is open": {
			func(s *verdict.Seat, _ *fleet.Claim, _ *verdict.Claimed) { s.Transport = fleet.TransportWebSocket },
			fleet.ClaimResult{Outcome: fleet.ClaimHeld, HolderGateway: "g", HolderEpoch: 5},
		},
		"in quarantine": {
			func(s *verdict.Seat, _ *fleet.Claim, _ *verdict.Claimed) { s.QuarantinedAt = now },
			fleet.ClaimResult{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedQuarantined},
		},
	} {
		s := polling
		claim := fleet.Claim{Identity: self, UID: uid, Fingerprint: "f", Gateway: "h", BootID: 1, Transport: fleet.TransportHTTP, At: now}
		on := verdict.Claimed{Certificate: &fleet.Certificate{Agent: self, Fingerprint: "f"}, Identity: &s, Owner: &s}
		c.change(&s, &claim, &on)
		got := verdict.OfClaim(claim, on).Result()
		got.Agent = ""
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestOfClaim(t *testing.T) {
	one, other := fleet.InstanceUID{1}, fleet.InstanceUID{2}
	for name, c := range map[string]struct {
		change func(*fleet.Claim, *verdict.Claimed)
		want   verdict.Seating // less the seat
		seat   fleet.AgentID
	}{
		"the first uid is its own": {
			func(_ *fleet.Claim, on *verdict.Claimed) { on.Identity.UID, on.Owner = fleet.InstanceUID{}, nil },
			verdict.Seating{Outcome: fleet.ClaimClaimed, Bind: true},
			self,
		},
		"its uid": {
			func(*fleet.Claim, *verdict.Claimed) {},
			verdict.Seating{Outcome: fleet.ClaimClaimed},
			self,
		},
		"a new uid": {
			func(c *fleet.Claim, on *verdict.Claimed) { c.UID, on.Owner = other, nil },
			verdict.Seating{Outcome: fleet.ClaimClaimed, Bind: true},
			self,
		},
		"the first uid of a parent is its own": {func(_ *fleet.Claim, on *verdict.Claimed) {
			on.Identity.UID, on.Owner, on.Identity.MaxChildren = fleet.InstanceUID{}, nil, 3
		}, verdict.Seating{Outcome: fleet.ClaimClaimed, Bind: true}, self},
		"a new uid at a parent": {func(c *fleet.Claim, on *verdict.Claimed) {
			c.UID, on.Owner, on.Identity.MaxChildren, on.Children = other, nil, 3, 2
		}, verdict.Seating{Outcome: fleet.ClaimClaimed, NewChild: true, Bind: true}, ""},
		"a new uid at a parent with all its children": {func(c *fleet.Claim, on *verdict.Claimed) {
			c.UID, on.Owner, on.Identity.MaxChildren, on.Children = other, nil, 3, 3
		}, verdict.Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedChildrenExhausted}, ""},
		"a child's uid": {
			func(c *fleet.Claim, on *verdict.Claimed) {
				c.UID, on.Owner = other, &verdict.Seat{Agent: child, Parent: self}
			},
			verdict.Seating{Outcome: fleet.ClaimClaimed},
			child,
		},
		"a stranger's uid": {
			func(c *fleet.Claim, on *verdict.Claimed) { c.UID, on.Owner = other, &verdict.Seat{Agent: stranger} },
			verdict.Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedForeignUID},
			"",
		},
		"the uid of a stranger's child": {func(c *fleet.Claim, on *verdict.Claimed) {
			c.UID, on.Owner = other, &verdict.Seat{Agent: child, Parent: stranger}
		}, verdict.Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedForeignUID}, ""},
		"no certificate": {
			func(_ *fleet.Claim, on *verdict.Claimed) { on.Certificate = nil },
			verdict.Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedNotRecorded},
			"",
		},
		"another's certificate": {
			func(_ *fleet.Claim, on *verdict.Claimed) { on.Certificate.Agent = stranger },
			verdict.Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedNotRecorded},
			"",
		},
		"another issuer's serial": {
			func(_ *fleet.Claim, on *verdict.Claimed) { on.Certificate.Fingerprint = "ff" },
			verdict.Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedNotRecorded},
			"",
		},
		"a revoked certificate": {
			func(_ *fleet.Claim, on *verdict.Claimed) { on.Certificate.RevokedAt = now },
			verdict.Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedRevoked},
			"",
		},
		"a quarantined identity": {
			func(_ *fleet.Claim, on *verdict.Claimed) { on.Identity.QuarantinedAt = now },
			verdict.Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedQuarantined},
			"",
		},
		"a quarantined child": {func(c *fleet.Claim, on *verdict.Claimed) {
			c.UID, on.Owner = other, &verdict.Seat{Agent: child, Parent: self, QuarantinedAt: now}
		}, verdict.Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedQuarantined}, child},
		"a living session": {
			func(_ *fleet.Claim, on *verdict.Claimed) { on.Owner.Open, on.Owner.Alive = true, true },
			verdict.Seating{Outcome: fleet.ClaimHeld},
			self,
		},
		"a session whose gateway is gone": {
			func(_ *fleet.Claim, on *verdict.Claimed) { on.Owner.Open = true },
			verdict.Seating{Outcome: fleet.ClaimClaimed},
			self,
		},
		"takeover after a restart": {func(c *fleet.Claim, on *verdict.Claimed) {
			c.Takeover, on.Owner.Open, on.Owner.Alive = fleet.TakeoverRestart, true, true
		}, verdict.Seating{Outcome: fleet.ClaimClaimed}, self},
		"takeover of a session that another has followed": {func(c *fleet.Claim, on *verdict.Claimed) {
			c.Takeover, c.Contested = fleet.TakeoverRestart, 4
			on.Owner.Epoch, on.Owner.Open, on.Owner.Alive = 5, true, true
		}, verdict.Seating{Outcome: fleet.ClaimHeld}, self},
		"takeover from a clone that left": {
			func(c *fleet.Claim, _ *verdict.Claimed) { c.Takeover = fleet.TakeoverClone },
			verdict.Seating{Outcome: fleet.ClaimClaimed},
			self,
		},
	} {
		claim := fleet.Claim{Identity: self, Fingerprint: "aa", UID: one, At: now}
		identity := &verdict.Seat{Agent: self, UID: one}
		on := verdict.Claimed{Certificate: &fleet.Certificate{Agent: self, Fingerprint: "aa"}, Identity: identity, Owner: identity}
		c.change(&claim, &on)
		got := verdict.OfClaim(claim, on)
		var seat fleet.AgentID
		if got.Seat != nil {
			seat = got.Seat.Agent
		}
		if seat != c.seat || got.Outcome != c.want.Outcome || got.Reason != c.want.Reason || got.NewChild != c.want.NewChild ||
			got.Bind != c.want.Bind || got.Quarantine || got.Takeovers != nil {
			t.Errorf("%s: %+v for %q, want %+v for %q", name, got, seat, c.want, c.seat)
		}
	}
}

func TestTakeoversByClones(t *testing.T) {
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, c := range map[string]struct {
		before     []time.Time
		quarantine bool
		kept       int
	}{
		"the first":                        {nil, false, 1},
		"the second":                       {[]time.Time{ago(time.Minute)}, false, 2},
		"the third":                        {[]time.Time{ago(time.Hour), ago(2 * time.Minute), ago(time.Minute)}, true, 3},
		"two of them at the window's edge": {[]time.Time{ago(fleet.CloneTakeoverWindow), ago(fleet.CloneTakeoverWindow - 1)}, false, 2},
	} {
		identity := &verdict.Seat{Agent: self, UID: fleet.InstanceUID{1}, Open: true, Alive: true, Takeovers: c.before}
		got := verdict.OfClaim(
			fleet.Claim{Identity: self, UID: identity.UID, At: now, Takeover: fleet.TakeoverClone},
			verdict.Claimed{Certificate: &fleet.Certificate{Agent: self}, Identity: identity, Owner: identity},
		)
		if got.Quarantine != c.quarantine || len(got.Takeovers) != c.kept || (got.Outcome == fleet.ClaimRefused) != c.quarantine {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestResult(t *testing.T) {
	at := verdict.Seat{
		Agent: self, Method: fleet.EnrolledAsChild, Epoch: 7, Gateway: "gw", LastSequence: 9, StateKnown: true,
	}
	known := fleet.ClaimResult{Agent: self, Method: fleet.EnrolledAsChild, LastSequence: 12, StateKnown: true}
	for name, c := range map[string]struct {
		of   verdict.Seating
		want func(*fleet.ClaimResult)
	}{
		"claimed": {
			verdict.Seating{Outcome: fleet.ClaimClaimed, Seat: &at},
			func(r *fleet.ClaimResult) { r.Outcome, r.Epoch = fleet.ClaimClaimed, 8 },
		},
		"held": {
			verdict.Seating{Outcome: fleet.ClaimHeld, Seat: &at},
			func(r *fleet.ClaimResult) { r.Outcome, r.HolderGateway, r.HolderEpoch = fleet.ClaimHeld, "gw", 7 },
		},
		"refused": {
			verdict.Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedQuarantined, Seat: &at},
			func(r *fleet.ClaimResult) { r.Outcome, r.Reason = fleet.ClaimRefused, fleet.RefusedQuarantined },
		},
		"refused before it was clear whom": {
			verdict.Seating{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedRevoked},
			func(r *fleet.ClaimResult) {
				*r = fleet.ClaimResult{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedRevoked}
			},
		},
	} {
		want := known
		c.want(&want)
		c.of.Sequence, c.of.Whole = 12, true
		if got := c.of.Result(); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

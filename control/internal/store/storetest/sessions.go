// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// sessions is store.Sessions.
var sessions = suite{
	"a lease is moved for exactly its boot while it lasts":    renewLease,
	"a lease says whether the bus is lost, of a new boot not": renewBusLost,
	"a new boot leaves the sessions of earlier ones open":     registerAgain,
	"sessions of a gateway that is gone for long end":         endLost,
	"what was on its way at a claim still counts":             formerReports,
	"an agent that polls is served by several gateways":       shared,
	"standings are of whom the claims are about":              standings,
	"the first claim makes the agent seen":                    firstClaim,
	"the epoch grows with every claim":                        epochGrows,
	"a claim needs a gateway with a lease":                    claimWithoutLease,
	"a claim needs a recorded certificate of the identity":    claimUnrecorded,
	"a uid belongs to one agent for good":                     foreignUID,
	"what was lost makes the state unknown":                   doubt,
	"an agent may change its uid":                             changedUID,
	"an open session is held":                                 held,
	"a session without a living gateway is not held":          notHeld,
	"the quarantined come back when released":                 released,
	"takeovers by clones quarantine":                          clones,
	"takeovers by clones long ago are forgotten":              clonesLongAgo,
	"a parent speaks for as many children as it is allowed":   children,
	"a claim says which sequence was last":                    lastSequence,
	"a claim lets unsent dispatches fall due and wakes":       claimFallsDue,
	"a claim of another tenant's certificate is not recorded": claimElsewhere,
	"claims made together are as if made one by one":          claimsTogether,
	"claims made together are of all tenants":                 claimsOfTenants,
	"a claim without lease spoils those made with it":         claimsWithoutLease,
}

// renew moves a gateway's lease to what g says.
func (w *world) renew(g fleet.Gateway, busLost bool) error {
	return w.RenewLease(w.Context(), store.Renewal{Gateway: g.ID, BootID: g.BootID, Now: w.now, Until: g.LeaseUntil, BusLost: busLost})
}

func renewLease(w *world) {
	g := w.gateway("gw", 1)
	for name, c := range map[string]struct {
		id   fleet.GatewayID
		boot uint64
		now  time.Time
		want error
	}{
		"another boot":   {g.ID, 2, w.now, store.ErrLeaseLost},
		"nobody":         {"gw-none", 1, w.now, store.ErrLeaseLost},
		"after it ended": {g.ID, 1, g.LeaseUntil, store.ErrLeaseLost},
		"in time":        {g.ID, 1, w.now, nil},
	} {
		r := store.Renewal{Gateway: c.id, BootID: c.boot, Now: c.now, Until: c.now.Add(time.Minute)}
		if err := w.RenewLease(w.Context(), r); !errors.Is(err, c.want) {
			w.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	s := w.connect(w.enrol(), g)
	w.pass(30 * time.Second)
	g.LeaseUntil = w.now.Add(time.Minute)
	w.must(w.renew(g, false))
	if got := w.agent(s.id).Session.GatewayLeaseUntil; !got.Equal(g.LeaseUntil) {
		w.Errorf("the lease lasts until %v, want %v", got, g.LeaseUntil)
	}
}

func renewBusLost(w *world) {
	g := w.gateway("gw", 1)
	s := w.connect(w.enrol(), g)
	for _, lost := range []bool{true, false, true} {
		w.must(w.renew(g, lost))
		if got := w.agent(s.id).Session.GatewayBusLost; got != lost {
			w.Errorf("renewed with its bus lost: %v, it is %v", lost, got)
		}
	}
	w.gateway(g.ID, g.BootID)
	if w.agent(s.id).Session.GatewayBusLost {
		w.Error("registered anew, its bus is lost")
	}
}

func registerAgain(w *world) {
	s := w.connected()
	w.pass(time.Second)
	again := w.gateway(s.gateway.ID, 8)
	got := w.agent(s.id).Session
	if !got.EndedAt.IsZero() || got.Presence(w.now) != fleet.PresenceUnknown {
		w.Errorf("the session of the earlier boot: %+v, %v", got, got.Presence(w.now))
	}
	w.connect(s.agent, again)
	w.gateway(again.ID, again.BootID)
	if got := w.agent(s.id).Session; got.Presence(w.now) != fleet.PresenceOnline {
		w.Errorf("claimed at the new boot: %+v", got)
	}
}

// endLost ends what a process held that is gone, by its lease or because another runs as its gateway since.
func endLost(w *world) {
	gone, replaced, alive := w.connected(), w.connect(w.enrol(), w.gateway("gw-2", 5)), w.connect(w.enrol(), w.gateway("gw-3", 5))
	w.pass(time.Minute) // the leases end, and another boot begins
	w.gateway(replaced.gateway.ID, 6)
	w.gateway(alive.gateway.ID, alive.gateway.BootID)
	end := func(since time.Time) int {
		ended, err := w.EndLost(w.Context(), since, w.now)
		w.must(err)
		return ended
	}
	if ended := end(w.now.Add(-time.Microsecond)); ended != 0 {
		w.Errorf("%d sessions ended before their time", ended)
	}
	if ended := end(w.now); ended != 2 {
		w.Errorf("%d sessions ended, want 2", ended)
	}
	for _, s := range []session{gone, replaced} {
		got := w.agent(s.id).Session
		kinds := w.kinds(s.id)
		if !got.EndedAt.Equal(w.now) || got.EndReason != "GATEWAY_LOST" || kinds[len(kinds)-1] != fleet.EventAgentDisconnected {
			w.Errorf("the session of a process that is gone: %+v; %v", got, kinds)
		}
	}
	if got := w.agent(alive.id).Session; !got.EndedAt.IsZero() {
		w.Errorf("the session of a gateway that lives was ended: %+v", got)
	}
}

func formerReports(w *world) {
	s := w.connected()
	w.said(w.report(s, 3, "before", fleet.PartDescription))
	c := w.takeover(w.claimOf(s.agent, w.gateway("gw-2", 5)), fleet.TakeoverRestart)
	c.Heard = fleet.Heard{Gateway: s.gateway.ID, BootID: s.gateway.BootID, Epoch: s.epoch, Sequence: 7, Whole: true}
	if got := w.claim(c); got.LastSequence != 7 || !got.StateKnown {
		w.Fatalf("the claim goes on from %+v", got)
	}
	for sequence, want := range map[fleet.Sequence]int{7: 1, 8: 0} {
		if got := w.said(w.report(s, sequence, fmt.Sprint(sequence), fleet.PartHealth)); got.Applied != want {
			w.Errorf("a report of the former session, sequence %d: %+v", sequence, got)
		}
	}
}

func shared(w *world) {
	a, first, second := w.enrol(), w.gateway("gw-1", 1), w.gateway("gw-2", 2)
	polling := func(g fleet.Gateway) fleet.ClaimResult {
		c := w.claimOf(a, g)
		c.Transport = fleet.TransportHTTP
		return w.claim(c)
	}
	got := polling(first)
	if again := polling(second); !again.Shared || again.Outcome != fleet.ClaimClaimed || again.Epoch != got.Epoch {
		w.Fatalf("the claim at another gateway: %+v", again)
	}
	s := session{a, second, got.Epoch}
	if got := w.said(w.report(s, 1, "x", fleet.PartHealth)); got.Applied != 1 {
		w.Errorf("a report over the second gateway: %+v", got)
	}
	w.ask(s)
	w.pass(time.Minute + store.LeaseGrace)
	if due := w.dispatches(); len(due) != 0 { // nobody can send it
		w.Errorf("due is %+v", due)
	}
	w.gateway(second.ID, second.BootID) // which alone has a lease now
	if ended, err := w.EndLost(w.Context(), w.now, w.now); err != nil || ended != 0 {
		w.Errorf("%d sessions ended, %v", ended, err)
	}
	if got := w.agent(a.id).Session; got.Gateway != second.ID || got.Presence(w.now) != fleet.PresenceOnline {
		w.Errorf("the session went to %+v", got)
	}
	if due := w.dispatches(); len(due) != 1 || due[0].Gateway != second.ID || due[0].Transport != fleet.TransportHTTP {
		w.Errorf("due is %+v, want what was put off", due)
	}
	c := w.takeover(w.claimOf(a, w.gateway("gw-3", 3)), fleet.TakeoverRestart)
	w.claim(c)
	if got := w.said(w.report(s, 2, "y", fleet.PartHealth)); got.Applied != 0 {
		w.Errorf("a report over a gateway that served the former session: %+v", got)
	}
}

func standings(w *world) {
	s := w.connected()
	other := w.enrol()
	g := w.gateway("gw-2", 2)
	stranger := w.claimOf(other, g)
	stranger.Identity = "0b7d1d9f-3f1e-4b59-9a4e-2f4c5a3b7d10"
	borrowed := w.claimOf(other, g)
	borrowed.UID = s.uid
	got, err := w.Standings(w.Context(), []fleet.Claim{w.claimOf(other, g), borrowed, stranger})
	w.must(err)
	want := []fleet.Standing{
		{Agent: other.id},
		{Agent: s.id, Transport: fleet.TransportWebSocket, Gateway: s.gateway.ID, BootID: s.gateway.BootID, Epoch: s.epoch, Open: true},
		{},
	}
	if !slices.Equal(got, want) {
		w.Errorf("standings are %+v, want %+v", got, want)
	}
}

func firstClaim(w *world) {
	a, g := w.enrol(), w.gateway("gw", 1<<63+1)
	if got := w.agent(a.id); !got.FirstSeenAt.IsZero() || got.Session.Presence(w.now) != fleet.PresenceOffline {
		w.Fatalf("before the claim: %+v", got)
	}
	w.work() // what enrolling woke
	w.pass(time.Minute / 2)
	c := w.claimOf(a, g)
	got := w.claim(c)
	want := fleet.ClaimResult{Outcome: fleet.ClaimClaimed, Agent: a.id, Epoch: 1, Method: fleet.EnrolledByAgentCSR}
	if got != want {
		w.Errorf("the claim's result is %+v, want %+v", got, want)
	}
	row := w.agent(a.id)
	if session := (fleet.Session{
		Epoch: 1, Gateway: g.ID, BootID: g.BootID, Transport: c.Transport, Peer: c.Peer, ConnectedAt: w.now, LastSeenAt: w.now,
		GatewayLeaseUntil: g.LeaseUntil,
	}); row.Session != session {
		w.Errorf("the session is %+v, want %+v", row.Session, session)
	}
	if row.Session.Presence(w.now) != fleet.PresenceOnline || !row.FirstSeenAt.Equal(w.now) || row.InstanceUID != a.uid || row.Serial != a.serial {
		w.Errorf("the agent is %+v", row)
	}
	if kinds := w.kinds(a.id); !slices.Equal(kinds, []fleet.EventKind{fleet.EventAgentEnrolled, fleet.EventAgentConnected}) {
		w.Errorf("events are %v", kinds)
	}
	if item := w.item(); item.Agent != a.id {
		w.Errorf("%+v is due", item)
	}
}

func epochGrows(w *world) {
	s := w.connected()
	first := w.now
	for epoch := fleet.Epoch(2); epoch < 5; epoch++ {
		w.pass(time.Second)
		w.record(fleet.Uplink{Ended: w.end(s, "closed")})
		if s = w.connect(s.agent, s.gateway); s.epoch != epoch {
			w.Errorf("the epoch is %d, want %d", s.epoch, epoch)
		}
	}
	if got := w.agent(s.id); !got.FirstSeenAt.Equal(first) || !got.Session.EndedAt.IsZero() || got.Session.EndReason != "" {
		w.Errorf("after reconnecting: %+v", got)
	}
}

// end is the session's end.
func (w *world) end(s session, reason string) *fleet.SessionEnd {
	return &fleet.SessionEnd{
		Tenant: w.tenant, Agent: s.id, Gateway: s.gateway.ID, BootID: s.gateway.BootID, Epoch: s.epoch,
		At: w.now, Reason: reason, LastSeenAt: w.now,
	}
}

func claimWithoutLease(w *world) {
	a, g := w.enrol(), w.gateway("gw", 1)
	for name, change := range map[string]func(*fleet.Claim){
		"another gateway": func(c *fleet.Claim) { c.Gateway = "gw-none" },
		"another boot":    func(c *fleet.Claim) { c.BootID = 2 },
		"its end":         func(c *fleet.Claim) { c.At = g.LeaseUntil },
	} {
		c := w.claimOf(a, g)
		change(&c)
		if _, err := w.claimAlone(c); err == nil {
			w.Errorf("%s: claimed", name)
		} else {
			w.want(err, store.ErrLeaseLost)
		}
	}
	if got := w.agent(a.id); got.Session.Epoch != 0 || !got.FirstSeenAt.IsZero() {
		w.Errorf("something was written: %+v", got)
	}
}

func claimUnrecorded(w *world) {
	a, other, g := w.enrol(), w.enrol(), w.gateway("gw", 1)
	for name, change := range map[string]func(*fleet.Claim){
		"a serial nobody has":         func(c *fleet.Claim) { c.Serial = "abcdef" },
		"another certificate":         func(c *fleet.Claim) { c.Fingerprint = other.fingerprint },
		"another's certificate":       func(c *fleet.Claim) { c.Serial, c.Fingerprint = other.serial, other.fingerprint },
		"an identity nobody has":      func(c *fleet.Claim) { c.Identity = "0190aaaa-0000-7000-8000-000000000000" },
		"an identity that is no uuid": func(c *fleet.Claim) { c.Identity = "nobody" },
	} {
		c := w.claimOf(a, g)
		change(&c)
		if got := w.claim(c); got != (fleet.ClaimResult{Outcome: fleet.ClaimRefused, Reason: fleet.RefusedNotRecorded}) {
			w.Errorf("%s: %+v", name, got)
		}
	}
	if got := w.agent(a.id); got.Session.Epoch != 0 || !got.InstanceUID.IsZero() {
		w.Errorf("something was written: %+v", got)
	}
}

func claimElsewhere(w *world) {
	a, g := w.enrol(), w.gateway("gw", 1)
	c := w.claimOf(a, g)
	c.Tenant = w.in("umbrella").tenant
	if got := w.claim(c); got.Reason != fleet.RefusedNotRecorded {
		w.Errorf("claimed over tenants: %+v", got)
	}
}

func foreignUID(w *world) {
	s, thief := w.connected(), w.enrol()
	thief.uid = s.uid
	if got := w.claim(w.claimOf(thief, s.gateway)); got.Outcome != fleet.ClaimRefused || got.Reason != fleet.RefusedForeignUID {
		w.Errorf("the claim of another's uid: %+v", got)
	}
	if words := w.audited(string(thief.id)); !slices.Contains(words, "agent.claim "+fleet.RefusedForeignUID) {
		w.Errorf("audited is %q", words)
	}
	if got := w.agent(s.id).Session; got.Epoch != s.epoch || !got.EndedAt.IsZero() {
		w.Errorf("the owner's session: %+v", got)
	}
	other := w.in("umbrella")
	theirs := other.enrol()
	theirs.uid = s.uid
	other.connect(theirs, s.gateway) // a uid means nothing outside its tenant
}

func changedUID(w *world) {
	s := w.connected()
	former := s.uid
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	s.uid = newUID()
	s = w.connect(s.agent, s.gateway)
	if got := w.agent(s.id).InstanceUID; got != s.uid {
		w.Errorf("the agent is known by %v, want %v", got, s.uid)
	}
	thief := w.enrol()
	for _, uid := range []fleet.InstanceUID{former, s.uid} {
		thief.uid = uid
		if got := w.claim(w.claimOf(thief, s.gateway)); got.Reason != fleet.RefusedForeignUID {
			w.Errorf("uid %v went to another: %+v", uid, got)
		}
	}
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	s.uid = former
	w.connect(s.agent, s.gateway)
	if got := w.agent(s.id).InstanceUID; got != former {
		w.Errorf("an agent that went back to its former uid is known by %v, want %v", got, former)
	}
}

func held(w *world) {
	s, g := w.connected(), w.gateway("gw-2", 3)
	holder := fleet.ClaimResult{
		Outcome: fleet.ClaimHeld, Agent: s.id, HolderGateway: s.gateway.ID, HolderEpoch: s.epoch, Method: fleet.EnrolledByAgentCSR,
	}
	for name, c := range map[string]struct {
		at  fleet.Gateway
		uid fleet.InstanceUID
	}{"at another gateway": {g, s.uid}, "at the same gateway": {s.gateway, s.uid}, "by another uid": {g, newUID()}} {
		claim := w.claimOf(s.agent, c.at)
		claim.UID = c.uid
		if got := w.claim(claim); got != holder {
			w.Errorf("%s: %+v, want %+v", name, got, holder)
		}
	}
	if got := w.agent(s.id); got.Session.Epoch != s.epoch || got.InstanceUID != s.uid {
		w.Errorf("a held claim wrote something: %+v", got)
	}
	claim := w.takeover(w.claimOf(s.agent, g), fleet.TakeoverRestart)
	if got := w.claim(claim); got.Outcome != fleet.ClaimClaimed || got.Epoch != s.epoch+1 {
		w.Errorf("takeover after a restart: %+v", got)
	}
}

func notHeld(w *world) {
	s := w.connected()
	w.pass(time.Minute) // the lease has run out
	if got := w.agent(s.id).Session.Presence(w.now); got != fleet.PresenceUnknown {
		w.Errorf("presence is %v", got)
	}
	if again := w.connect(s.agent, w.gateway("gw-2", 3)); again.epoch != s.epoch+1 {
		w.Errorf("the epoch is %d", again.epoch)
	}
}

// clone takes the session over from a living one.
func (w *world) clone(a agent, g fleet.Gateway) fleet.ClaimResult {
	w.Helper()
	c := w.takeover(w.claimOf(a, g), fleet.TakeoverClone)
	return w.claim(c)
}

func clones(w *world) {
	s := w.connected()
	for range fleet.CloneTakeovers - 1 {
		w.pass(time.Second)
		if got := w.clone(s.agent, s.gateway); got.Outcome != fleet.ClaimClaimed {
			w.Fatalf("an early takeover: %+v", got)
		}
	}
	w.pass(time.Second)
	if got := w.clone(s.agent, s.gateway); got.Outcome != fleet.ClaimRefused || got.Reason != fleet.RefusedQuarantined {
		w.Fatalf("the last takeover: %+v", got)
	}
	got := w.agent(s.id)
	if !got.QuarantinedAt.Equal(w.now) || len(got.Attention) != 1 || got.Attention[0].Reason != fleet.AttentionQuarantined || !got.Attention[0].Since.Equal(w.now) {
		w.Errorf("the agent is %+v", got)
	}
	if kinds := w.kinds(s.id); !slices.Contains(kinds, fleet.EventAgentQuarantined) {
		w.Errorf("events are %v", kinds)
	}
	words := w.audited(string(s.id))
	for _, want := range []string{"agent.quarantine", "agent.claim " + fleet.RefusedQuarantined} {
		if !slices.Contains(words, want) {
			w.Errorf("audited is %q, want %q in it", words, want)
		}
	}
	due := w.dispatches()
	if len(due) != 1 || due[0].Kind != fleet.DispatchClose || due[0].Reason != fleet.RefusedQuarantined || due[0].Epoch != got.Session.Epoch {
		w.Errorf("due is %+v, want the open session's close", due)
	}
	w.record(fleet.Uplink{Ended: w.end(session{s.agent, s.gateway, got.Session.Epoch}, "closed")})
	if got := w.claim(w.claimOf(s.agent, s.gateway)); got.Reason != fleet.RefusedQuarantined {
		w.Errorf("a claim of the quarantined: %+v", got)
	}
}

func released(w *world) {
	s := w.connected()
	_, err := w.ReleaseQuarantine(w.Context(), w.by(), s.id)
	w.want(err, store.ErrState)
	_, err = w.in("umbrella").ReleaseQuarantine(w.Context(), w.in("umbrella").by(), s.id)
	w.want(err, store.ErrNotFound)
	for range fleet.CloneTakeovers {
		w.pass(time.Second)
		w.clone(s.agent, s.gateway)
	}
	w.record(fleet.Uplink{Ended: w.end(session{s.agent, s.gateway, w.agent(s.id).Session.Epoch}, "closed")})
	got, err := w.ReleaseQuarantine(w.Context(), w.by(), s.id)
	if err != nil || !got.QuarantinedAt.IsZero() || len(got.Attention) != 0 {
		w.Errorf("released: %+v, %v", got, err)
	}
	if words := w.audited(string(s.id)); !slices.Contains(words, "agent.release_quarantine") {
		w.Errorf("audited is %q", words)
	}
	w.connect(s.agent, s.gateway)
	w.pass(time.Second)
	if got := w.clone(s.agent, s.gateway); got.Outcome != fleet.ClaimClaimed {
		w.Errorf("former takeovers still count: %+v", got)
	}
}

func clonesLongAgo(w *world) {
	s := w.connected()
	for range 2 * fleet.CloneTakeovers {
		w.pass(fleet.CloneTakeoverWindow / (fleet.CloneTakeovers - 1))
		g := w.gateway(s.gateway.ID, s.gateway.BootID) // with a lease
		if got := w.clone(s.agent, g); got.Outcome != fleet.ClaimClaimed {
			w.Fatalf("takeover: %+v", got)
		}
	}
}

func children(w *world) {
	s := w.connected()
	if _, err := w.AllowChildren(w.Context(), w.by(), s.id, 2); err != nil {
		w.Fatal(err)
	}
	var ids []fleet.AgentID
	uids := []fleet.InstanceUID{newUID(), newUID()}
	for _, uid := range uids {
		c := w.claimOf(s.agent, s.gateway)
		c.UID = uid
		got := w.claim(c)
		if got.Outcome != fleet.ClaimClaimed || got.Epoch != 1 || got.Agent == s.id || got.Method != fleet.EnrolledAsChild {
			w.Fatalf("the claim of a child: %+v", got)
		}
		child := w.agent(got.Agent)
		if child.Parent != s.id || child.InstanceUID != uid || child.Group != "" || !child.FirstSeenAt.Equal(w.now) || child.Session.Epoch != 1 {
			w.Errorf("the child is %+v", child)
		}
		ids = append(ids, got.Agent)
	}
	c := w.claimOf(s.agent, s.gateway)
	c.UID = newUID()
	if got := w.claim(c); got.Reason != fleet.RefusedChildrenExhausted {
		w.Errorf("a child too many: %+v", got)
	}
	c.UID = uids[0]
	held := w.claim(c)
	if held.Outcome != fleet.ClaimHeld {
		w.Error("a child's session is not held")
	}
	c.Takeover, c.Contested = fleet.TakeoverRestart, held.HolderEpoch
	if got := w.claim(c); got.Agent != ids[0] || got.Epoch != 2 {
		w.Errorf("a child that comes back: %+v", got)
	}
	_, err := w.AllowChildren(w.Context(), w.by(), ids[0], 1)
	w.want(err, store.ErrState)
	thief := w.enrol()
	thief.uid = uids[0]
	if got := w.claim(w.claimOf(thief, s.gateway)); got.Reason != fleet.RefusedForeignUID {
		w.Errorf("another identity with a child's uid: %+v", got)
	}
	if got := w.agent(s.id); got.Session.Epoch != s.epoch || got.InstanceUID != s.uid {
		w.Errorf("the parent is %+v", got)
	}
}

func lastSequence(w *world) {
	s := w.connected()
	w.said(w.report(s, 41, "x", fleet.PartHealth))
	end := w.end(s, "closed")
	end.LastSequence = 42
	w.record(fleet.Uplink{Ended: end})
	got := w.claim(w.claimOf(s.agent, s.gateway))
	if got.LastSequence != 42 || got.StateKnown {
		w.Errorf("after a report without a description: %+v", got)
	}
	s.epoch = got.Epoch
	w.said(whole(w.report(s, 3, "x", fleet.PartDescription)))
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	if got := w.claim(w.claimOf(s.agent, s.gateway)); got.LastSequence != 3 || !got.StateKnown {
		w.Errorf("after a report of a client that counts anew: %+v", got)
	}
}

func doubt(w *world) {
	known := func(what string, want bool, say func(s session)) {
		w.Helper()
		s := w.connected()
		w.said(whole(w.report(s, 1, "x", fleet.PartDescription)))
		say(s)
		if got := w.claim(w.claimOf(s.agent, w.gateway("gw-other", 9))); got.StateKnown != want {
			w.Errorf("%s: state known is %v", what, got.StateKnown)
		}
	}
	ended := func(s session, inDoubt bool) {
		end := w.end(s, "closed")
		end.InDoubt = inDoubt
		w.record(fleet.Uplink{Ended: end})
	}
	doubtful := func(s session, sequence fleet.Sequence, kind fleet.PartKind) {
		r := w.report(s, sequence, "y", kind)
		r.InDoubt = true
		w.said(r)
	}
	known("nothing was lost", true, func(s session) { ended(s, false) })
	known("the session ended in doubt", false, func(s session) { ended(s, true) })
	known("a report came after a gap", false, func(s session) {
		doubtful(s, 3, fleet.PartHealth)
		ended(s, false)
	})
	known("after a gap it described itself", false, func(s session) {
		doubtful(s, 3, fleet.PartDescription)
		ended(s, false)
	})
	known("the gap was filled by the full state", true, func(s session) {
		doubtful(s, 3, fleet.PartHealth)
		w.said(whole(w.report(s, 4, "z", fleet.PartDescription)))
		ended(s, false)
	})
}

func claimFallsDue(w *world) {
	s := w.connected()
	if n, err := w.Resync(w.Context(), s.partition, "", w.now); err != nil || n != 1 {
		w.Fatalf("resync: %d, %v", n, err)
	}
	if due := w.dispatches(); len(due) != 1 {
		w.Fatalf("due is %+v", due)
	}
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	w.work()
	w.pass(time.Second) // the dispatch is due again only in nine seconds
	s = w.connect(s.agent, s.gateway)
	if due := w.dispatches(); len(due) != 1 || due[0].Epoch != s.epoch {
		w.Errorf("due is %+v", due)
	}
	if item := w.item(); item.Agent != s.id {
		w.Errorf("%+v is due", item)
	}
}

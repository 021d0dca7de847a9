// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// outbox is store.Outbox.
var outbox = suite{
	"a dispatch says what the sender must know":                dispatchTold,
	"a dispatch is due again after its retry":                  dispatchRetried,
	"only open sessions at living gateways are sent to":        dispatchPresent,
	"what is for an agent that is away waits until it is back": dispatchAway,
	"what is for the agents of a dead gateway waits for them":  dispatchStranded,
	"a gateway that comes back in time finds what was due":     dispatchBack,
	"what cannot be sent stands in nobody's way":               dispatchAside,
	"what was to close a session is done when it ends":         dispatchClosed,
	"an offer counts while its grant is open":                  dispatchGranted,
	"dispatches of all tenants, at most as many as asked":      dispatchTenants,
	"what was sent is due again until its effect is seen":      dispatchSent,
	"full state is asked for until it comes":                   dispatchFullState,
	"a session is closed until it ends":                        dispatchClose,
	"no close is left for the session that follows":            dispatchCloseOfOld,
	"what has no effect is given up":                           dispatchGivenUp,
	"what was asked for anew since the claim is not given up":  dispatchAnew,
	"a word on an offer of an old generation changes nothing":  dispatchSentLate,
}

func dispatchTold(w *world) {
	s := w.connected()
	v := w.version("v1")
	w.grant(v, 1)
	want := []fleet.Dispatch{{
		Tenant: w.tenant, Agent: s.id, Kind: fleet.DispatchConfig, Generation: 1, Version: v, Gateway: s.gateway.ID, Transport: fleet.TransportWebSocket, Epoch: s.epoch, Tries: 1,
	}}
	if due := w.dispatches(); !slices.Equal(due, want) {
		w.Errorf("due is %+v, want %+v", due, want)
	}
}

func dispatchRetried(w *world) {
	w.connected()
	w.grant(w.version("v1"), 1)
	for tries := 1; tries < 4; tries++ {
		if due := w.dispatches(); len(due) != 1 || due[0].Tries != tries {
			w.Errorf("due is %+v", due)
		}
		if due := w.dispatches(); len(due) != 0 {
			w.Errorf("due at once again: %+v", due)
		}
		w.pass(10 * time.Second)
	}
}

func dispatchPresent(w *world) {
	s := w.connected()
	w.grant(w.version("v1"), 1)
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	if due := w.dispatches(); len(due) != 0 {
		w.Errorf("sent to an ended session: %+v", due)
	}
	s = w.connect(s.agent, s.gateway)
	w.pass(time.Minute)
	if due := w.dispatches(); len(due) != 0 {
		w.Errorf("sent to a gateway without a lease: %+v", due)
	}
	s = w.connect(s.agent, w.gateway(s.gateway.ID, 99))
	if due := w.dispatches(); len(due) != 1 || due[0].Epoch != s.epoch {
		w.Errorf("due is %+v", due)
	}
}

func dispatchAway(w *world) {
	s := w.connected()
	w.apply(fleet.Step{})
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	w.must(w.wake())
	v := w.version("v1")
	w.grant(v, 1)
	w.pass(time.Second)
	if due := w.dispatches(); len(due) != 0 {
		w.Errorf("sent to an agent that is away: %+v", due)
	}
	s = w.connect(s.agent, s.gateway)
	if due := w.dispatches(); len(due) != 1 || due[0].Epoch != s.epoch || due[0].Version != v {
		w.Errorf("due is %+v", due)
	}
	s.gateway = w.gateway(s.gateway.ID, 99) // its former boot's sessions end, and what was for them waits
	s = w.connect(s.agent, s.gateway)
	if due := w.dispatches(); len(due) != 1 || due[0].Epoch != s.epoch {
		w.Errorf("due is %+v", due)
	}
}

func dispatchStranded(w *world) {
	s := w.connected()
	w.grant(w.version("v1"), 1)
	w.ask(s)
	w.pass(time.Minute + store.LeaseGrace) // the lease is over
	w.sendsNothing()
	s = w.connect(s.agent, w.gateway("gw-2", 1))
	if due := w.dispatches(); len(due) != 2 || due[0].Epoch != s.epoch || due[1].Epoch != s.epoch {
		w.Errorf("due is %+v", due)
	}
}

// dispatchBack lets a gateway that lost its lease, for longer and longer, register again as the process it was.
func dispatchBack(w *world) {
	s := w.connected()
	for _, away := range []time.Duration{time.Second, store.LeaseGrace, time.Hour} {
		w.ask(s)
		w.pass(time.Minute + away)
		w.sendsNothing()
		w.gateway(s.gateway.ID, s.gateway.BootID)
		w.sends(fleet.DispatchFullState, 1)
	}
}

// dispatchAside lets rows that cannot be sent be due before one that can: of an agent whose gateway's lease is over for a
// moment, of one that is away for good, and an offer of an old generation.
func dispatchAside(w *world) {
	waiting := w.connected()
	w.ask(waiting)
	gone := w.connect(w.enrolApart(waiting), w.gateway("gone", 1))
	w.ask(gone)
	w.woken()
	w.pass(time.Minute)
	stale := w.connect(w.enrol(), w.gateway("gw-2", 1))
	v := w.version("v1")
	w.grant(v, 1)
	w.must(w.retry(stale.id, ""))
	w.apply(fleet.Step{Grant: &fleet.Grant{Version: v, State: fleet.GrantOpen, Reason: fleet.GrantAssigned, Generation: 2, OpenedAt: w.now}})
	last := w.connect(w.enrolApart(waiting, gone, stale), stale.gateway)
	w.pass(time.Second)
	w.ask(last)
	due, err := w.ClaimDispatches(w.Context(), w.now, w.now.Add(10*time.Second), 1)
	if err != nil || len(due) != 1 || due[0].Agent != last.id {
		w.Fatalf("due is %+v, %v; want that of %s", due, err, last.id)
	}
	w.gateway(waiting.gateway.ID, waiting.gateway.BootID)
	if due := w.dispatches(); len(due) != 1 || due[0].Agent != waiting.id {
		w.Errorf("due is %+v, want that of %s", due, waiting.id)
	}
}

func dispatchClosed(w *world) {
	s := w.connected()
	_, err := w.AllowChildren(w.Context(), w.by(), s.id, 1)
	w.must(err)
	child := s.agent
	child.uid = newUID()
	c := w.claimOf(child, s.gateway)
	held := w.claim(c)
	for n := range fleet.CloneTakeovers { // the last quarantines the child and closes its session
		c.Takeover, c.Contested = fleet.TakeoverClone, held.Epoch+fleet.Epoch(n)
		w.claim(c)
	}
	ended := w.end(session{agent{id: held.Agent}, s.gateway, held.Epoch + fleet.CloneTakeovers - 1}, "closed")
	if got := w.record(fleet.Uplink{Ended: ended}); got.Applied != 1 {
		w.Fatalf("recorded %+v", got)
	}
	if due := w.dispatches(); len(due) != 0 {
		w.Errorf("due is %+v", due)
	}
	if got := w.agent(s.id); !got.QuarantinedAt.IsZero() || !got.Session.EndedAt.IsZero() {
		w.Errorf("the parent fell with its child: %+v", got)
	}
}

func dispatchGranted(w *world) {
	w.connected()
	v := w.version("v1")
	w.grant(v, 1)
	w.pass(time.Second)
	w.dispatches()
	w.pass(10 * time.Second)
	// The row stays with generation 1; a grant of another is not what it speaks of.
	w.must(w.wake())
	w.apply(fleet.Step{Grant: &fleet.Grant{Version: v, State: fleet.GrantOpen, Reason: fleet.GrantAssigned, Generation: 2, OpenedAt: w.now}})
	if due := w.dispatches(); len(due) != 0 {
		w.Errorf("an offer of an old generation: %+v", due)
	}
}

// wake makes the one agent of the tenant due.
func (w *world) wake() error {
	list, _, err := w.Agents(w.Context(), w.tenant, fleet.AgentFilter{}, w.now, fleet.Page{Size: 1})
	if err == nil {
		err = w.retry(list[0].ID, "")
	}
	return err
}

// retry makes an agent due, in a trace.
func (w *world) retry(id fleet.AgentID, t fleet.Traceparent) error {
	by := w.by()
	by.Trace = t
	_, err := w.ClearAttempts(w.Context(), by, id)
	return err
}

func dispatchTenants(w *world) {
	s, other := w.connected(), w.in("umbrella")
	theirs := other.connect(other.enrol(), s.gateway)
	for _, partition := range []int{s.partition, theirs.partition} {
		_, err := w.Resync(w.Context(), partition, "", w.now)
		w.must(err)
	}
	got := map[fleet.TenantID]fleet.AgentID{}
	for range 2 {
		due, err := w.ClaimDispatches(w.Context(), w.now, w.now.Add(time.Minute), 1)
		if err != nil || len(due) != 1 {
			w.Fatalf("due is %+v, %v", due, err)
		}
		got[due[0].Tenant] = due[0].Agent
		w.must(w.MarkSent(w.Context(), due, w.now))
	}
	if got[w.tenant] != s.id || got[other.tenant] != theirs.id {
		w.Errorf("due was %v", got)
	}
}

func dispatchSent(w *world) {
	s := w.connected()
	w.grant(w.version("v1"), 1)
	_, err := w.Resync(w.Context(), s.partition, "", w.now)
	w.must(err)
	due := w.dispatches()
	if len(due) != 2 {
		w.Fatalf("due is %+v", due)
	}
	w.pass(time.Second)
	w.must(w.MarkSent(w.Context(), due, w.now))
	if got := w.situation(store.WorkItem{Tenant: w.tenant, Agent: s.id}); !got.Grant.SentAt.Equal(w.now) {
		w.Errorf("the grant is %+v", got.Grant)
	}
	w.pass(10 * time.Second)
	if due := w.dispatches(); len(due) != 2 || due[0].Tries != 2 || due[1].Tries != 2 {
		w.Errorf("due is %+v", due)
	}
}

// ask asks the session's agent for its full state.
func (w *world) ask(s session) {
	w.Helper()
	_, err := w.Resync(w.Context(), s.partition, "", w.now)
	w.must(err)
}

// enrolApart is a new agent of another partition than the sessions': it is asked without them.
func (w *world) enrolApart(from ...session) agent {
	w.Helper()
	for {
		a := w.enrol()
		if !slices.ContainsFunc(from, func(s session) bool { return s.partition == a.partition }) {
			return a
		}
	}
}

// sends claims and sends what is due, as often as the tries tell.
func (w *world) sends(kind fleet.DispatchKind, tries ...int) {
	w.Helper()
	for _, n := range tries {
		due := w.dispatches()
		if len(due) != 1 || due[0].Kind != kind || due[0].Tries != n {
			w.Fatalf("due is %+v, want try %d of %s", due, n, kind)
		}
		w.must(w.MarkSent(w.Context(), due, w.now))
		w.pass(10 * time.Second)
	}
}

func (w *world) sendsNothing() {
	w.Helper()
	if due := w.dispatches(); len(due) != 0 {
		w.Errorf("due is %+v", due)
	}
}

func dispatchFullState(w *world) {
	s := w.connected()
	w.ask(s)
	w.said(whole(w.report(s, 1, "said before it was asked", fleet.PartDescription)))
	w.sends(fleet.DispatchFullState, 1)
	w.said(w.report(s, 2, "x", fleet.PartHealth, fleet.PartDescription)) // its labels have changed, no more
	w.sends(fleet.DispatchFullState, 2)
	w.said(whole(w.report(s, 3, "here I am", fleet.PartDescription, fleet.PartHealth)))
	w.sendsNothing()

	w.ask(s)
	w.sends(fleet.DispatchFullState, 1)
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	s = w.connect(s.agent, s.gateway) // what was lost before is missing still
	w.sends(fleet.DispatchFullState, 1)
	unknown := w.report(s, 2, "x", fleet.PartEffectiveConfig)
	unknown.Bodies = []fleet.ContentHash{fleet.HashOf([]byte("lost"))}
	w.record(fleet.Uplink{Report: w.report(s, 1, "y", fleet.PartDescription)}, fleet.Uplink{Report: unknown})
	w.sends(fleet.DispatchFullState, 1)
}

// quarantined is a session that is to be closed: its agent was cloned too often.
func (w *world) quarantined() session {
	w.Helper()
	s := w.connected()
	for range fleet.CloneTakeovers {
		w.clone(s.agent, s.gateway)
	}
	if w.agent(s.id).QuarantinedAt.IsZero() {
		w.Fatal("the agent is not quarantined")
	}
	s.epoch = w.agent(s.id).Session.Epoch
	return s
}

func dispatchClose(w *world) {
	s := w.quarantined()
	w.sends(fleet.DispatchClose, 1, 2)
	w.said(w.report(s, 1, "still here", fleet.PartDescription))
	w.sends(fleet.DispatchClose, 3)
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	w.sendsNothing()
}

func dispatchCloseOfOld(w *world) {
	s := w.quarantined()
	w.sends(fleet.DispatchClose, 1)
	_, err := w.ReleaseQuarantine(w.Context(), w.by(), s.id)
	w.must(err)
	again := w.takeover(w.claimOf(s.agent, s.gateway), fleet.TakeoverRestart) // whose former end nobody told
	if got := w.claim(again); got.Outcome != fleet.ClaimClaimed {
		w.Fatalf("claim: %+v", got)
	}
	w.sendsNothing()
}

func dispatchGivenUp(w *world) {
	s := w.connected()
	w.ask(s)
	w.dispatches() // and nothing is sent
	w.pass(10 * time.Second)
	w.sends(fleet.DispatchFullState, 2, 3, 4, 5)
	w.sendsNothing()
	w.ask(s)
	w.sends(fleet.DispatchFullState, 1)
}

func dispatchAnew(w *world) {
	s := w.connected()
	w.ask(s)
	w.sends(fleet.DispatchFullState, 1, 2, 3, 4)
	last := w.dispatches()
	w.pass(time.Second)
	w.ask(s)
	w.must(w.MarkSent(w.Context(), last, w.now))
	w.sends(fleet.DispatchFullState, 1)
}

func dispatchSentLate(w *world) {
	s := w.connected()
	v := w.version("v1")
	w.grant(v, 1)
	due := w.dispatches()
	w.must(w.wake())
	w.grant(v, 2)
	w.must(w.MarkSent(w.Context(), due, w.now))
	if got := w.situation(store.WorkItem{Tenant: w.tenant, Agent: s.id}); !got.Grant.SentAt.IsZero() {
		w.Errorf("the grant is %+v", got.Grant)
	}
}

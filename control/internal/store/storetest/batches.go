// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// claimsTogether makes the same claims in two tenants: in one of them all together, in the other one by one.
func claimsTogether(w *world) {
	gateways, other := []fleet.Gateway{w.gateway("gw", 1), w.gateway("gw-2", 2), w.gateway("gw-3", 3)}, w.in("umbrella")
	together, single := w.manyClaims(gateways), other.manyClaims(gateways)
	results, err := w.Claim(w.Context(), together.claims)
	w.must(err)
	for i, c := range single.claims {
		result := other.claim(c)
		if got, want := together.anonymous(results[i]), single.anonymous(result); got != want {
			w.Errorf("claim %d: %+v together, %+v alone", i, got, want)
		}
	}
	ids := []fleet.AgentID{together.child, single.child}
	for _, name := range []string{"a", "b", "parent", "polls", "moves"} {
		ids = append(ids, together.agents[name].id, single.agents[name].id)
	}
	queued := map[fleet.AgentID]string{}
	for _, d := range w.dispatches() {
		queued[d.Agent] += " " + string(d.Kind)
	}
	for _, item := range w.work() {
		queued[item.Agent] += " work"
	}
	for i := 0; i < len(ids); i += 2 {
		got, want := append(w.traces(ids[i]), queued[ids[i]]), append(other.traces(ids[i+1]), queued[ids[i+1]])
		got, want = append(got, w.heard(ids[i], gateways)...), append(want, other.heard(ids[i+1], gateways)...)
		if !slices.Equal(got, want) {
			w.Errorf("together an agent left %q, alone %q", got, want)
		}
	}
}

// heard says whose reports about the agent count, of its session and of the one before.
func (w *world) heard(id fleet.AgentID, gateways []fleet.Gateway) (counts []string) {
	w.Helper()
	of := session{agent: agent{id: id}}
	last := w.agent(id).Session.Epoch
	for of.epoch = last - 1; of.epoch <= last; of.epoch++ {
		for _, of.gateway = range gateways {
			for _, sequence := range []fleet.Sequence{3, 7, 8} {
				got := w.said(w.report(of, sequence, "x", fleet.PartHealth))
				counts = append(counts, fmt.Sprintf("%s %d/%d: %d", of.gateway.ID, of.epoch, sequence, got.Applied))
			}
		}
	}
	return counts
}

// claimed are claims, in an order in which each depends on those before it.
type claimed struct {
	agents map[string]agent
	claims []fleet.Claim
	child  fleet.AgentID
}

func (w *world) manyClaims(at []fleet.Gateway) *claimed {
	w.Helper()
	c := &claimed{agents: map[string]agent{"a": w.enrol(), "b": w.enrol(), "parent": w.enrol(), "polls": w.enrol(), "moves": w.enrol()}}
	_, err := w.AllowChildren(w.Context(), w.by(), c.agents["parent"].id, 1)
	w.must(err)
	a, b, parent, born, late := c.agents["a"].uid, c.agents["b"].uid, c.agents["parent"].uid, newUID(), newUID()
	for _, claim := range []struct {
		by       string
		uid      fleet.InstanceUID
		takeover fleet.Takeover
		of       fleet.Epoch
	}{
		{"a", a, fleet.TakeoverNone, 0},
		{"b", a, fleet.TakeoverNone, 0}, // foreign by now
		{"a", a, fleet.TakeoverNone, 0}, // held by now
		{"b", b, fleet.TakeoverNone, 0},
		{"parent", born, fleet.TakeoverNone, 0}, // its own, the first
		{"parent", parent, fleet.TakeoverNone, 0},
		{"parent", late, fleet.TakeoverNone, 0}, // a child too many
		{"parent", parent, fleet.TakeoverRestart, 1},
		{"b", parent, fleet.TakeoverRestart, 2}, // the child's
		{"a", late, fleet.TakeoverRestart, 1},
		{"a", a, fleet.TakeoverClone, 1}, // too late: another has followed
		{"a", a, fleet.TakeoverClone, 2},
		{"a", a, fleet.TakeoverClone, 3},
		{"b", b, fleet.TakeoverClone, 1},
		{"a", a, fleet.TakeoverClone, 4}, // one too many
		{"a", a, fleet.TakeoverNone, 0},
		{"b", b, fleet.TakeoverRestart, 2},
	} {
		made := w.claimOf(c.agents[claim.by], at[0])
		made.UID, made.Takeover, made.Contested = claim.uid, claim.takeover, claim.of
		c.claims = append(c.claims, made)
	}
	for _, claim := range []struct {
		by       string
		at       int
		over     fleet.Transport
		takeover fleet.Takeover
		of       fleet.Epoch
	}{
		{"polls", 0, fleet.TransportHTTP, fleet.TakeoverNone, 0},
		{"polls", 1, fleet.TransportHTTP, fleet.TakeoverNone, 0},      // shared
		{"polls", 0, fleet.TransportHTTP, fleet.TakeoverNone, 0},      // where it is
		{"polls", 1, fleet.TransportHTTP, fleet.TakeoverNone, 0},      // shared already
		{"polls", 0, fleet.TransportWebSocket, fleet.TakeoverNone, 0}, // held
		{"polls", 2, fleet.TransportHTTP, fleet.TakeoverRestart, 1},   // another session, which gw-2 does not share
		{"polls", 0, fleet.TransportHTTP, fleet.TakeoverNone, 0},
		{"moves", 0, fleet.TransportHTTP, fleet.TakeoverNone, 0},
		{"moves", 1, fleet.TransportHTTP, fleet.TakeoverNone, 0},
		{"moves", 0, fleet.TransportWebSocket, fleet.TakeoverRestart, 1}, // which nobody shares
		{"moves", 1, fleet.TransportWebSocket, fleet.TakeoverRestart, 2},
	} {
		made := w.claimOf(c.agents[claim.by], at[claim.at])
		made.Transport, made.Takeover, made.Contested = claim.over, claim.takeover, claim.of
		made.Heard = fleet.Heard{Gateway: at[0].ID, BootID: at[0].BootID, Epoch: 2, Sequence: 7, Whole: true} // of the second session
		c.claims = append(c.claims, made)
	}
	return c
}

// anonymous is a result with the agent's name in place of its id; it remembers the child's.
func (c *claimed) anonymous(r fleet.ClaimResult) fleet.ClaimResult {
	id := r.Agent
	for name, a := range c.agents {
		if a.id == id {
			r.Agent = fleet.AgentID(name)
		}
	}
	if r.Agent == id && id != "" {
		c.child, r.Agent = id, "child"
	}
	return r
}

// traces are what can be seen of an agent.
func (w *world) traces(id fleet.AgentID) (seen []string) {
	w.Helper()
	for _, kind := range w.kinds(id) {
		seen = append(seen, string(kind))
	}
	a := w.agent(id)
	return append(append(seen, w.audited(string(id))...),
		fmt.Sprintf("%+v, seen %v, quarantined %v, %v", a.Session, a.FirstSeenAt, a.QuarantinedAt, a.Attention))
}

func claimsOfTenants(w *world) {
	g, other := w.gateway("gw", 1), w.in("umbrella")
	a, b, theirs := w.enrol(), w.enrol(), other.enrol()
	theirs.uid = a.uid // which means nothing outside its tenant
	results, err := w.Claim(w.Context(), []fleet.Claim{other.claimOf(theirs, g), w.claimOf(a, g), w.claimOf(b, g), other.claimOf(a, g)})
	w.must(err)
	for i, want := range []fleet.AgentID{theirs.id, a.id, b.id, ""} {
		if results[i].Agent != want {
			w.Errorf("result %d is %+v, want agent %q", i, results[i], want)
		}
	}
	if results, err := w.Claim(w.Context(), nil); err != nil || len(results) != 0 {
		w.Errorf("no claims: %+v, %v", results, err)
	}
}

func claimsWithoutLease(w *world) {
	g, gone := w.gateway("gw", 1), w.gateway("gone", 2)
	a, b := w.enrol(), w.enrol()
	late := w.claimOf(b, gone)
	late.At = gone.LeaseUntil
	_, err := w.Claim(w.Context(), []fleet.Claim{w.claimOf(a, g), late})
	w.want(err, store.ErrLeaseLost)
	for _, id := range []fleet.AgentID{a.id, b.id} {
		if got := w.agent(id); got.Session.Epoch != 0 || !got.FirstSeenAt.IsZero() || len(w.kinds(id)) != 1 {
			w.Errorf("something was written: %+v", got)
		}
	}
}

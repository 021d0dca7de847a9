// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"reflect"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// revokes revokes, and returns the serials of what was.
func (w *world) revokes(r fleet.Revocation) (serials []fleet.Serial) {
	w.Helper()
	revoked, err := w.RevokeCertificates(w.Context(), w.by(), r)
	w.must(err)
	for _, c := range revoked {
		if !c.RevokedAt.Equal(w.now) || c.Reason != r.Reason {
			w.Errorf("revoked it is %+v", c)
		}
		serials = append(serials, c.Serial)
	}
	slices.Sort(serials)
	return serials
}

// wantSince wants this to be what was revoked after a number, two at a time.
func (w *world) wantSince(number int64, want fleet.Revocations) {
	w.Helper()
	got, err := w.RevokedSince(w.Context(), w.tenant, number, w.now, 2)
	w.must(err)
	if !reflect.DeepEqual(got, want) {
		w.Errorf("since %d: %+v, want %+v", number, got, want)
	}
}

var revocation = suite{
	"what was revoked is told in the order in which it was, page by page": func(w *world) {
		a, b, c := w.enrol(), w.enrol(), w.enrol()
		w.in("theirs").revokes(fleet.Revocation{Agents: []fleet.AgentID{w.in("theirs").enrol().id}})
		w.wantSince(0, fleet.Revocations{})
		for _, one := range []agent{b, a, c} {
			w.revokes(fleet.Revocation{Agents: []fleet.AgentID{one.id}})
		}
		w.wantSince(0, fleet.Revocations{Serials: []fleet.Serial{b.serial, a.serial}, Last: 2, More: true})
		w.wantSince(2, fleet.Revocations{Serials: []fleet.Serial{c.serial}, Last: 3})
		w.wantSince(3, fleet.Revocations{Last: 3})
		t, err := w.Tenant(w.Context(), w.tenant)
		w.must(err)
		if t.Revocations != 3 {
			w.Errorf("the tenant counts %d", t.Revocations)
		}
		w.pass(366 * 24 * time.Hour)
		w.wantSince(0, fleet.Revocations{Last: 3}) // expired by now
	},
	"of many that revoke at once, each has its number": func(w *world) {
		var agents []agent
		for range 12 {
			agents = append(agents, w.enrol())
		}
		atOnce(w, 6, func(i int) (string, error) {
			_, err := w.RevokeCertificates(w.Context(), w.by(), fleet.Revocation{Agents: []fleet.AgentID{agents[2*i].id, agents[2*i+1].id}})
			return "", err
		})
		since, err := w.RevokedSince(w.Context(), w.tenant, 0, w.now, 20)
		w.must(err)
		if len(since.Serials) != 12 || since.Last != 12 {
			w.Errorf("revoked is %+v", since)
		}
	},
	"an agent's certificates are revoked, all of them, and its session is closed": func(w *world) {
		g := w.gateway("gw-1", 1)
		s, other := w.connect(w.enrol(), g), w.connect(w.enrol(), g)
		ask, next := w.renewal(s.agent, "next")
		_, err := w.Renew(w.Context(), w.by(), ask, next)
		w.must(err)
		w.pass(time.Second)
		want := []fleet.Serial{s.serial, next.Serial}
		slices.Sort(want)
		if got := w.revokes(fleet.Revocation{Agents: []fleet.AgentID{s.id}, Reason: fleet.ReasonKeyCompromise}); !slices.Equal(got, want) {
			w.Fatalf("revoked %v, want %v", got, want)
		}
		w.wantAudit("", "certificate.revoke")
		if kinds := w.kinds(s.id); kinds[len(kinds)-1] != fleet.EventCertificateRevoked {
			w.Errorf("events %v", kinds)
		}
		due := w.dispatches()
		if len(due) != 1 || due[0].Agent != s.id || due[0].Kind != fleet.DispatchClose || due[0].Reason != fleet.EndRevoked || due[0].Gateway != g.ID {
			w.Errorf("due is %+v", due)
		}
		since, err := w.RevokedSince(w.Context(), w.tenant, 0, w.now, 10)
		w.must(err)
		if slices.Sort(since.Serials); !slices.Equal(since.Serials, want) || since.Last != 2 || since.More {
			w.Errorf("revoked is %+v", since)
		}
		// It gets neither another session nor another certificate.
		if got := w.claim(w.claimOf(s.agent, g)); got.Outcome != fleet.ClaimRefused || got.Reason != fleet.RefusedRevoked {
			w.Errorf("a claim gives %+v", got)
		}
		ask, _ = w.renewal(s.agent, "another")
		w.wantVerdict(ask, fleet.RenewalVerdict{Reason: fleet.RefusedRevoked})
		// The other one is untouched.
		if got := w.agent(other.id).Session; !got.EndedAt.IsZero() {
			w.Errorf("the other one's session is %+v", got)
		}
		// Once more there is nothing left, and nothing to tell.
		before := w.lastAudit("")
		if got := w.revokes(fleet.Revocation{Agents: []fleet.AgentID{s.id}}); len(got) != 0 {
			w.Errorf("once more: %v", got)
		}
		if got := w.lastAudit(""); got.ID != before.ID {
			w.Errorf("once more it is told: %+v", got)
		}
	},
	"a single certificate is revoked, and the agent goes on with another": func(w *world) {
		g := w.gateway("gw-1", 1)
		s := w.connect(w.enrol(), g)
		ask, next := w.renewal(s.agent, "next")
		_, err := w.Renew(w.Context(), w.by(), ask, next)
		w.must(err)
		if got := w.revokes(fleet.Revocation{Serials: []fleet.Serial{next.Serial}}); !slices.Equal(got, []fleet.Serial{next.Serial}) {
			w.Fatalf("revoked %v", got)
		}
		w.wantAudit(string(next.Serial), "certificate.revoke")
		w.sendsNothing() // the session is of the other one
		list, err := w.CertificatesOf(w.Context(), w.tenant, s.id)
		w.must(err)
		if len(list) != 2 || list[0].RevokedAt.IsZero() == list[1].RevokedAt.IsZero() {
			w.Errorf("its certificates are %+v", list)
		}
		w.revokes(fleet.Revocation{Serials: []fleet.Serial{s.serial}})
		if due := w.dispatches(); len(due) != 1 || due[0].Agent != s.id {
			w.Errorf("due is %+v", due)
		}
	},
	"the sessions that a revoked agent speaks for are closed": func(w *world) {
		g := w.gateway("gw-1", 1)
		parent := w.enrol()
		_, err := w.AllowChildren(w.Context(), w.by(), parent.id, 2)
		w.must(err)
		w.connect(parent, g)
		spoken := w.claimOf(parent, g)
		spoken.UID = newUID()
		child := w.claim(spoken)
		w.revokes(fleet.Revocation{Agents: []fleet.AgentID{parent.id}})
		var closed []fleet.AgentID
		for _, d := range w.dispatches() {
			closed = append(closed, d.Agent)
		}
		slices.Sort(closed)
		want := []fleet.AgentID{parent.id, child.Agent}
		slices.Sort(want)
		if !slices.Equal(closed, want) {
			w.Errorf("closed %v, want %v", closed, want)
		}
	},
	"what a key has signed is revoked": func(w *world) {
		w.signs()
		a, b, other := w.enrol(), w.enrol(), w.enrol()
		ask, next := w.renewal(other, "next")
		next.Key = "k2"
		_, err := w.Renew(w.Context(), w.by(), ask, next)
		w.must(err)
		if got := w.revokes(fleet.Revocation{Key: "k1", Reason: fleet.ReasonKeyCompromise}); len(got) != 3 || slices.Contains(got, next.Serial) ||
			!slices.Contains(got, a.serial) || !slices.Contains(got, b.serial) {
			w.Errorf("revoked %v", got)
		}
		if got := w.revokes(fleet.Revocation{Key: "k1"}); len(got) != 0 {
			w.Errorf("once more: %v", got)
		}
		for _, none := range []fleet.KeyID{"none", "k2"} { // which is no key of ours
			_, err := w.RevokeCertificates(w.Context(), w.by(), fleet.Revocation{Key: none})
			w.want(err, store.ErrNotFound)
		}
	},
	"what is unknown or another tenant's is not revoked, and nothing with it": func(w *world) {
		mine, theirs := w.enrol(), w.in("theirs").enrol()
		for _, r := range []fleet.Revocation{
			{Agents: []fleet.AgentID{mine.id, theirs.id}},
			{Agents: []fleet.AgentID{mine.id, newID[fleet.AgentID]()}},
			{Serials: []fleet.Serial{mine.serial, theirs.serial}},
			{Agents: []fleet.AgentID{mine.id}, Serials: []fleet.Serial{"0"}},
		} {
			_, err := w.RevokeCertificates(w.Context(), w.by(), r)
			w.want(err, store.ErrNotFound)
		}
		_, err := w.CertificatesOf(w.Context(), w.tenant, theirs.id)
		w.want(err, store.ErrNotFound)
		w.wantSince(0, fleet.Revocations{})
	},
	"an expired certificate is not revoked": func(w *world) {
		a := w.enrol()
		w.pass(366 * 24 * time.Hour)
		if got := w.revokes(fleet.Revocation{Agents: []fleet.AgentID{a.id}}); len(got) != 0 {
			w.Errorf("revoked %v", got)
		}
	},
	"of a claim and a revocation at once, the claim is refused or its session closed": func(w *world) {
		g := w.gateway("gw-1", 1)
		for range 10 {
			a := w.enrol()
			var claimed bool
			_, failed := race(2, func(i int) (struct{}, error) {
				if i == 0 {
					_, err := w.RevokeCertificates(w.Context(), w.by(), fleet.Revocation{Agents: []fleet.AgentID{a.id}})
					return struct{}{}, err
				}
				got, err := w.claimAlone(w.claimOf(a, g))
				claimed = got.Outcome == fleet.ClaimClaimed
				return struct{}{}, err
			})
			w.must(errors.Join(failed...))
			due := w.dispatches()
			if closed := len(due) == 1 && due[0].Agent == a.id && due[0].Kind == fleet.DispatchClose; closed != claimed {
				w.Fatalf("claimed %t, due %+v", claimed, due)
			}
		}
	},
}

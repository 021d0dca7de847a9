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

// wayBack issues a token for an identity, that is live for an hour.
func (w *world) wayBack(a agent, replaces bool) fleet.BootstrapToken {
	w.Helper()
	t := w.newToken("")
	t.For, t.Replaces = a.id, replaces
	w.must(w.IssueBootstrapToken(w.Context(), w.by(), t))
	return t
}

// comingBack is a token turned into another certificate of its identity.
func (w *world) comingBack(t fleet.BootstrapToken) store.Redemption {
	r := w.redemption(t.ID)
	r.Agent, r.Certificate.Agent, r.Method = t.For, t.For, fleet.EnrolledByEST
	return r
}

// comesBack redeems a token for its identity, which then has another certificate.
func (w *world) comesBack(a agent, t fleet.BootstrapToken) agent {
	w.Helper()
	r := w.comingBack(t)
	reason, err := w.Return(w.Context(), r)
	w.must(err)
	if reason != "" {
		w.Fatalf("it may not come back: %s", reason)
	}
	a.serial, a.fingerprint, a.key = r.Certificate.Serial, r.Certificate.Fingerprint, r.Certificate.PublicKey
	return a
}

// staysOut wants a token not to bring its identity back, for the reason or with the error, and nothing to come of it.
func (w *world) staysOut(t fleet.BootstrapToken, reason string, target error) {
	w.Helper()
	before := w.kinds(t.For)
	r := w.comingBack(t)
	got, err := w.Return(w.Context(), r)
	if got != reason || !errors.Is(err, target) {
		w.Errorf("reason %q and error %v, want %q and %v", got, err, reason, target)
	}
	_, err = w.Certificate(w.Context(), w.tenant, r.Certificate.Serial)
	w.want(err, store.ErrNotFound)
	if kinds := w.kinds(t.For); !slices.Equal(kinds, before) {
		w.Errorf("events %v", kinds)
	}
}

// wantReturnable wants the answer to whether an identity may come back, without and with replacing.
func (w *world) wantReturnable(a fleet.AgentID, without, with string) {
	w.Helper()
	for replaces, want := range map[bool]string{false: without, true: with} {
		got, err := w.Returnable(w.Context(), fleet.Return{Tenant: w.tenant, Agent: a, Replaces: replaces, At: w.now})
		w.must(err)
		if got != want {
			w.Errorf("replacing %v: %q, want %q", replaces, got, want)
		}
	}
}

const year = 366 * 24 * time.Hour

var returns = suite{
	"an identity comes back as it was, by a token that is spent with it": func(w *world) {
		g := w.group("web")
		first := w.redemption(w.token(g.ID).ID)
		w.must(w.redeem(first))
		a := agent{id: first.Agent, serial: first.Certificate.Serial, fingerprint: first.Certificate.Fingerprint, uid: newUID()}
		w.connect(a, w.gateway("gw-1", 1))
		before := w.agent(a.id)
		w.pass(year)
		t := w.wayBack(a, false)
		stored, err := w.tokenByHash(t.Hash)
		w.must(err)
		if !reflect.DeepEqual(stored, t) {
			w.Errorf("the token is %+v, want %+v", stored, t)
		}
		w.wantAudit(string(t.ID), "bootstrap_token.issue")
		a = w.comesBack(a, t)

		after := w.agent(a.id)
		if after.Method != fleet.EnrolledByEST {
			w.Errorf("it came back by %s", after.Method)
		}
		if after.Method = before.Method; !reflect.DeepEqual(after, before) {
			w.Errorf("it is %+v, was %+v", after, before)
		}
		w.wantAudit(string(a.id), "agent.return")
		if kinds := w.kinds(a.id); !slices.Equal(kinds, []fleet.EventKind{fleet.EventAgentEnrolled, fleet.EventAgentConnected, fleet.EventAgentReturned}) {
			w.Errorf("events %v", kinds)
		}
		stored, err = w.tokenByHash(t.Hash)
		w.must(err)
		if !stored.RedeemedAt.Equal(w.now) || stored.Agent != a.id || stored.Serial != a.serial || stored.PublicKey != a.key {
			w.Errorf("the token is %+v", stored)
		}
		w.staysOut(t, "", store.ErrConflict)
		if stored.Seen(after) {
			w.Error("it counts as seen before it was")
		}
		w.pass(time.Minute)
		w.connect(a, w.gateway("gw-1", 2))
		if !stored.Seen(w.agent(a.id)) {
			w.Error("it does not count as seen")
		}
	},
	"who has a good certificate does not come back, unless it is replaced": func(w *world) {
		s := w.connected()
		w.wantReturnable(s.id, fleet.RefusedHasCertificate, "")
		w.staysOut(w.wayBack(s.agent, false), fleet.RefusedHasCertificate, nil)
		w.sendsNothing()

		w.pass(time.Second)
		back := w.comesBack(s.agent, w.wayBack(s.agent, true))
		if due := w.dispatches(); len(due) != 1 || due[0].Agent != s.id || due[0].Kind != fleet.DispatchClose || due[0].Reason != fleet.EndRevoked {
			w.Errorf("due is %+v", due)
		}
		list, err := w.CertificatesOf(w.Context(), w.tenant, s.id)
		w.must(err)
		if len(list) != 2 || list[0].Serial != back.serial || !list[0].RevokedAt.IsZero() || !list[1].RevokedAt.Equal(w.now) || list[1].Reason != fleet.ReasonSuperseded {
			w.Errorf("its certificates are %+v", list)
		}
		w.wantAudit(string(s.serial), "certificate.revoke")
		w.wantSince(0, fleet.Revocations{Serials: []fleet.Serial{s.serial}, Last: 1})
		if got := w.claim(w.claimOf(s.agent, s.gateway)); got.Reason != fleet.RefusedRevoked {
			w.Errorf("a claim with the former one gives %+v", got)
		}
		if got := w.claim(w.takeover(w.claimOf(back, s.gateway), fleet.TakeoverRestart)); got.Outcome != fleet.ClaimClaimed || got.Agent != s.id {
			w.Errorf("a claim gives %+v", got)
		}
	},
	"who was revoked does not come back, unless that is said, and who was superseded does": func(w *world) {
		a := w.enrol()
		w.revokes(fleet.Revocation{Agents: []fleet.AgentID{a.id}, Reason: fleet.ReasonPrivilegeWithdrawn})
		w.wantReturnable(a.id, fleet.RefusedWasRevoked, "")
		w.staysOut(w.wayBack(a, false), fleet.RefusedWasRevoked, nil)
		back := w.comesBack(a, w.wayBack(a, true))
		w.connect(back, w.gateway("gw-1", 1))

		b := w.enrol()
		w.revokes(fleet.Revocation{Agents: []fleet.AgentID{b.id}, Reason: fleet.ReasonSuperseded})
		w.comesBack(b, w.wayBack(b, false))

		w.pass(year) // what was revoked is over
		w.wantReturnable(a.id, "", "")
	},
	"what was offered in vain keeps nobody out, and is not good any more": func(w *world) {
		s := w.serverKeyed(w.gateway("gw-1", 7), true)
		w.pass(year - 48*time.Hour) // over tomorrow; what was renewed is good for a year
		untaken, v := w.given(s.agent, "untaken", w.offered())
		if !v.Open() {
			w.Fatalf("no certificate for the offer: %+v", v)
		}
		w.wantReturnable(s.id, fleet.RefusedHasCertificate, "") // what it shows is good
		w.pass(48 * time.Hour)
		w.wantReturnable(s.id, "", "")
		back := w.comesBack(s.agent, w.wayBack(s.agent, false))
		g := w.gateway("gw-1", 8)
		if got := w.claim(w.claimOf(untaken, g)); got.Reason != fleet.RefusedRevoked {
			w.Errorf("a claim with what was offered gives %+v", got)
		}
		w.connect(back, g)
	},
	"what a retired key has signed keeps nobody out": func(w *world) {
		key := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyRetired)
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{key}))
		r := w.redemption(w.token("").ID)
		r.Certificate.Key = key.ID
		w.must(w.redeem(r))
		w.wantReturnable(r.Agent, "", "")
		w.comesBack(agent{id: r.Agent}, w.wayBack(agent{id: r.Agent}, false))
	},
	"the quarantined and who is spoken for do not come back": func(w *world) {
		s := w.quarantined()
		w.wantReturnable(s.id, fleet.RefusedQuarantined, fleet.RefusedQuarantined)
		w.pass(year)
		t := w.wayBack(s.agent, true)
		w.staysOut(t, fleet.RefusedQuarantined, nil)
		_, err := w.ReleaseQuarantine(w.Context(), w.by(), s.id)
		w.must(err)
		w.comesBack(s.agent, t) // which was not spent

		parent, g := w.enrol(), w.gateway("gw-9", 9)
		_, err = w.AllowChildren(w.Context(), w.by(), parent.id, 1)
		w.must(err)
		w.connect(parent, g)
		spoken := w.claimOf(parent, g)
		spoken.UID = newUID()
		child := w.claim(spoken).Agent
		w.wantReturnable(child, fleet.RefusedChild, fleet.RefusedChild)
		w.staysOut(w.wayBack(agent{id: child}, true), fleet.RefusedChild, nil)
	},
	"a token is for an identity of its tenant, and for no other": func(w *world) {
		theirs := w.in("theirs").enrol()
		t := w.newToken("")
		t.For = theirs.id
		w.want(w.IssueBootstrapToken(w.Context(), w.by(), t), store.ErrNotFound)
		_, err := w.Returnable(w.Context(), fleet.Return{Tenant: w.tenant, Agent: theirs.id, At: w.now})
		w.want(err, store.ErrNotFound)

		a, b := w.enrol(), w.enrol()
		w.pass(year)
		mine := w.wayBack(a, false)
		other := mine
		other.For = b.id
		w.staysOut(other, "", store.ErrState)
		w.want(w.redeem(w.redemption(mine.ID)), store.ErrState) // a new identity it makes none
		plain := w.token("")
		plain.For = a.id
		w.staysOut(plain, "", store.ErrState)
		w.comesBack(a, mine)
	},
	"only a live token brings an identity back": func(w *world) {
		a := w.enrol()
		w.pass(year)
		revoked, late := w.wayBack(a, false), w.wayBack(a, false)
		_, err := w.RevokeBootstrapToken(w.Context(), w.by(), revoked.ID)
		w.must(err)
		w.staysOut(revoked, "", store.ErrState)
		w.pass(time.Hour)
		w.staysOut(late, "", store.ErrState)
		unknown := w.newToken("")
		unknown.For = a.id
		w.staysOut(unknown, "", store.ErrNotFound)
	},
	"tokens for an identity end when its certificates are revoked": func(w *world) {
		a, b, c, over := w.enrol(), w.enrol(), w.enrol(), w.enrol()
		ways := map[*agent]fleet.BootstrapToken{}
		for _, of := range []*agent{&a, &b, &c} {
			ways[of] = w.wayBack(*of, true)
		}
		others := w.token("")
		w.revokes(fleet.Revocation{Agents: []fleet.AgentID{a.id}})
		w.revokes(fleet.Revocation{Serials: []fleet.Serial{b.serial}})
		for _, of := range []*agent{&a, &b} {
			w.staysOut(ways[of], "", store.ErrState)
			w.wantAudit(string(ways[of].ID), "bootstrap_token.revoke")
		}
		w.must(w.redeem(w.redemption(others.ID)))
		w.comesBack(c, ways[&c])

		w.pass(year)
		late := w.wayBack(over, false)
		if got := w.revokes(fleet.Revocation{Agents: []fleet.AgentID{over.id}}); len(got) != 0 {
			w.Errorf("revoked %v", got)
		}
		w.staysOut(late, "", store.ErrState)
	},
	"of many that redeem tokens for one identity, one succeeds": func(w *world) {
		a := w.enrol()
		w.pass(year)
		ways := []fleet.BootstrapToken{w.wayBack(a, false), w.wayBack(a, false)}
		reasons, lost := race(8, func(i int) (string, error) { return w.Return(w.Context(), w.comingBack(ways[i%2])) })
		came := 0
		for _, reason := range reasons {
			switch reason {
			case "":
				came++
			case fleet.RefusedHasCertificate:
			default:
				w.Errorf("reason %q", reason)
			}
		}
		for _, err := range lost {
			w.want(err, store.ErrConflict)
		}
		if came != 1 {
			w.Errorf("%d came back", came)
		}
	},
	"who is revoked while it comes back stays out": func(w *world) {
		for range 5 {
			a := w.enrol()
			t := w.wayBack(a, true)
			_, lost := race(2, func(i int) (string, error) {
				if i == 0 {
					return w.Return(w.Context(), w.comingBack(t))
				}
				_, err := w.RevokeCertificates(w.Context(), w.by(), fleet.Revocation{Agents: []fleet.AgentID{a.id}, Reason: fleet.ReasonKeyCompromise})
				return "", err
			})
			for _, err := range lost {
				w.want(err, store.ErrState)
			}
			list, err := w.CertificatesOf(w.Context(), w.tenant, a.id)
			w.must(err)
			for _, c := range list {
				if c.RevokedAt.IsZero() {
					w.Errorf("it has a good certificate: %+v", c)
				}
			}
		}
	},
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// token issues a bootstrap token that is live for an hour.
func (w *world) token(group fleet.GroupID) fleet.BootstrapToken {
	w.Helper()
	t := w.newToken(group)
	w.must(w.IssueBootstrapToken(w.Context(), w.by(), t))
	return t
}

func (w *world) newToken(group fleet.GroupID) fleet.BootstrapToken {
	id := newID[fleet.TokenID]()
	return fleet.BootstrapToken{
		ID: id, Tenant: w.tenant, Hash: sha256.Sum256([]byte(id)), Group: group, Tags: fleet.Tags{"site": "berlin"}, Description: "for a test", CreatedBy: "ci",
		CreatedAt: w.now, ExpiresAt: w.now.Add(time.Hour),
	}
}

// redemption is a token turned into a new identity.
func (w *world) redemption(token fleet.TokenID) store.Redemption {
	id := newID[fleet.AgentID]()
	key := sha256.Sum256([]byte(id))
	fingerprint := fleet.HashOf(key[:]).String()
	return store.Redemption{
		By: w.by(), Token: token, Agent: id, Method: fleet.EnrolledByAgentCSR, Partition: bus.PartitionOf(identity.AgentID(id)),
		Certificate: fleet.Certificate{
			Tenant: w.tenant, Serial: fleet.Serial(fingerprint[:20]), Fingerprint: fleet.Fingerprint(fingerprint), Agent: id, Key: "k1",
			NotBefore: w.now.Add(-time.Minute), NotAfter: w.now.AddDate(1, 0, 0), DER: []byte("der"), ChainPEM: []byte("pem"), PublicKey: key, CreatedAt: w.now,
		},
	}
}

func (w *world) tokenByHash(hash [32]byte) (fleet.BootstrapToken, error) {
	found, err := w.BootstrapTokensByHash(w.Context(), hash)
	if t, is := found[hash]; is || err != nil {
		return t, err
	}
	return fleet.BootstrapToken{}, store.ErrNotFound
}

// redeem redeems one token.
func (w *world) redeem(r store.Redemption) error {
	return w.Redeem(w.Context(), []store.Redemption{r})[0]
}

// wantRedeemed redeems in one call, and looks whether those that failed left nothing and the others all.
func wantRedeemed(w *world, list []store.Redemption, want []error) {
	w.Helper()
	for i, err := range w.Redeem(w.Context(), list) {
		r := list[i]
		of := w.in(r.By.Tenant)
		if !errors.Is(err, want[i]) {
			w.Errorf("%d: error is %v, want %v", i, err, want[i])
		}
		if want[i] != nil {
			_, err = w.Agent(w.Context(), r.By.Tenant, r.Agent)
			w.want(err, store.ErrNotFound)
			continue
		}
		_, err = w.Certificate(w.Context(), r.By.Tenant, r.Certificate.Serial)
		w.must(err)
		of.wantAudit(string(r.Agent), "agent.enrol")
		if kinds := of.kinds(r.Agent); !slices.Equal(kinds, []fleet.EventKind{fleet.EventAgentEnrolled}) {
			w.Errorf("%d: events %v", i, kinds)
		}
	}
}

// renewal asks for another certificate of an agent, for a key of a name, and makes one.
func (w *world) renewal(a agent, key string) (fleet.CertificateRenewal, fleet.Certificate) {
	r := fleet.CertificateRenewal{
		Tenant: w.tenant, Agent: a.id, Serial: a.serial, Fingerprint: a.fingerprint, PublicKey: sha256.Sum256([]byte(string(a.id) + key)), At: w.now,
	}
	serial := fleet.Serial(newID[fleet.AgentID]())
	return r, fleet.Certificate{
		Tenant: w.tenant, Serial: serial, Fingerprint: fleet.Fingerprint(serial), Agent: a.id, Key: "k1", PublicKey: r.PublicKey,
		NotBefore: w.now, NotAfter: w.now.AddDate(1, 0, 0), DER: []byte("der"), ChainPEM: []byte("pem"), CreatedAt: w.now,
	}
}

func (w *world) wantVerdict(r fleet.CertificateRenewal, want fleet.RenewalVerdict) {
	w.Helper()
	got, err := w.Renewable(w.Context(), r)
	w.must(err)
	if !reflect.DeepEqual(got, want) {
		w.Errorf("verdict %+v, want %+v", got, want)
	}
}

var enrolment = suite{
	"a bootstrap token is found by its hash, in whichever tenant and state": func(w *world) {
		theirs := w.in("theirs").token("")
		found, err := w.tokenByHash(theirs.Hash)
		w.must(err)
		if !reflect.DeepEqual(found, theirs) {
			w.Errorf("got %+v, want %+v", found, theirs)
		}

		mine := w.token(w.group("web").ID)
		r := w.redemption(mine.ID)
		w.must(w.redeem(r))
		found, err = w.tokenByHash(mine.Hash)
		w.must(err)
		mine.RedeemedAt, mine.Agent, mine.PublicKey, mine.Serial = w.now, r.Agent, r.Certificate.PublicKey, r.Certificate.Serial
		if !reflect.DeepEqual(found, mine) {
			w.Errorf("got %+v, want %+v", found, mine)
		}

		guess := sha256.Sum256([]byte("guess"))
		_, err = w.tokenByHash(guess)
		w.want(err, store.ErrNotFound)
		all, err := w.BootstrapTokensByHash(w.Context(), mine.Hash, guess, theirs.Hash, mine.Hash)
		w.must(err)
		if want := map[[32]byte]fleet.BootstrapToken{mine.Hash: mine, theirs.Hash: theirs}; !reflect.DeepEqual(all, want) {
			w.Errorf("got %+v, want %+v", all, want)
		}
	},
	"a bootstrap token's group must be one of the tenant that is not deleted": func(w *world) {
		w.want(w.IssueBootstrapToken(w.Context(), w.by(), w.newToken(newID[fleet.GroupID]())), store.ErrNotFound)
		theirs := w.in("theirs").group("web")
		w.want(w.IssueBootstrapToken(w.Context(), w.by(), w.newToken(theirs.ID)), store.ErrNotFound)
		mine := w.group("web")
		w.must(w.DeleteGroup(w.Context(), w.by(), mine.ID))
		w.want(w.IssueBootstrapToken(w.Context(), w.by(), w.newToken(mine.ID)), store.ErrNotFound)
	},
	"bootstrap tokens are listed newest first": func(w *world) {
		var want []fleet.TokenID
		for range 5 {
			want = append(want, w.token("").ID) // of one moment: the id decides
		}
		w.in("theirs").token("")
		slices.Sort(want)
		slices.Reverse(want)
		w.pass(time.Second)
		want = append([]fleet.TokenID{w.token("").ID}, want...)
		list := pages(w, func(page fleet.Page) ([]fleet.BootstrapToken, string, error) {
			return w.BootstrapTokens(w.Context(), w.tenant, page)
		})
		wantIDs(w, list, want, func(t fleet.BootstrapToken) fleet.TokenID { return t.ID })
	},
	"only a live bootstrap token can be revoked": func(w *world) {
		live, redeemed, late := w.token(""), w.token(""), w.token("")
		_, err := w.in("theirs").RevokeBootstrapToken(w.Context(), w.in("theirs").by(), live.ID)
		w.want(err, store.ErrNotFound)

		revoked, err := w.RevokeBootstrapToken(w.Context(), w.by(), live.ID)
		w.must(err)
		if revoked.State(w.now) != fleet.TokenRevoked {
			w.Errorf("got %+v", revoked)
		}
		w.wantAudit(string(live.ID), "bootstrap_token.revoke")
		w.must(w.redeem(w.redemption(redeemed.ID)))
		for _, id := range []fleet.TokenID{live.ID, redeemed.ID} {
			_, err = w.RevokeBootstrapToken(w.Context(), w.by(), id)
			w.want(err, store.ErrState)
		}
		w.pass(time.Hour)
		_, err = w.RevokeBootstrapToken(w.Context(), w.by(), late.ID)
		w.want(err, store.ErrState)
	},
	"redeeming records identity, certificate, membership, audit and event": func(w *world) {
		g := w.group("web")
		r := w.redemption(w.token(g.ID).ID)
		w.must(w.redeem(r))

		a := w.agent(r.Agent)
		if a.Group != g.ID || a.GroupName != "web" || a.Method != r.Method || !a.EnrolledAt.Equal(w.now) || !a.FirstSeenAt.IsZero() {
			w.Errorf("agent %+v", a)
		}
		c, err := w.Certificate(w.Context(), w.tenant, r.Certificate.Serial)
		w.must(err)
		if !reflect.DeepEqual(c, r.Certificate) {
			w.Errorf("certificate %+v, want %+v", c, r.Certificate)
		}
		w.wantAudit(string(r.Agent), "agent.enrol")
		if kinds := w.kinds(r.Agent); !slices.Equal(kinds, []fleet.EventKind{fleet.EventAgentEnrolled}) {
			w.Errorf("events %v", kinds)
		}
	},
	"only a live token is redeemed, and a failure records nothing": func(w *world) {
		revoked, late, used := w.token(""), w.token(""), w.token("")
		_, err := w.RevokeBootstrapToken(w.Context(), w.by(), revoked.ID)
		w.must(err)
		w.must(w.redeem(w.redemption(used.ID)))
		refused := func(token fleet.TokenID, want error) {
			w.Helper()
			r := w.redemption(token)
			w.want(w.redeem(r), want)
			_, err := w.Agent(w.Context(), w.tenant, r.Agent)
			w.want(err, store.ErrNotFound)
			_, err = w.Certificate(w.Context(), w.tenant, r.Certificate.Serial)
			w.want(err, store.ErrNotFound)
		}
		refused(revoked.ID, store.ErrState)
		refused(used.ID, store.ErrConflict)
		refused(newID[fleet.TokenID](), store.ErrNotFound)
		refused(w.in("theirs").token("").ID, store.ErrNotFound)
		w.pass(time.Hour)
		refused(late.ID, store.ErrState)
	},
	"a redemption that fails late leaves the token live": func(w *world) {
		first, second := w.redemption(w.token("").ID), w.token("")
		w.must(w.redeem(first))
		r := w.redemption(second.ID)
		r.Certificate.Serial = first.Certificate.Serial // taken
		w.want(w.redeem(r), store.ErrExists)
		w.must(w.redeem(w.redemption(second.ID)))
	},
	"of many that redeem one token, one succeeds": func(w *world) {
		token := w.token("")
		won, lost := race(8, func(int) (store.Redemption, error) {
			r := w.redemption(token.ID)
			return r, w.redeem(r)
		})
		if len(won) != 1 {
			w.Fatalf("%d succeeded", len(won))
		}
		for _, err := range lost {
			w.want(err, store.ErrConflict)
		}
		agents, _, err := w.Agents(w.Context(), w.tenant, fleet.AgentFilter{}, w.now, fleet.Page{Size: 10})
		w.must(err)
		wantIDs(w, agents, []fleet.AgentID{won[0].Agent}, func(a fleet.Agent) fleet.AgentID { return a.ID })
	},
	"redemptions of one call stand each for itself": func(w *world) {
		theirs := w.in("theirs")
		revoked, used, late, deleted := w.token(""), w.token(""), w.token(""), w.group("deleted")
		_, err := w.RevokeBootstrapToken(w.Context(), w.by(), revoked.ID)
		w.must(err)
		first := w.redemption(used.ID)
		w.must(w.redeem(first))
		into, none, twice := w.token(w.group("web").ID), w.token(deleted.ID), w.token("")
		w.must(w.DeleteGroup(w.Context(), w.by(), deleted.ID))
		expired, foreign := w.redemption(late.ID), w.redemption(theirs.token("").ID)
		expired.By.At = w.now.Add(time.Hour)
		list := []store.Redemption{
			w.redemption(into.ID), w.redemption(revoked.ID), theirs.redemption(theirs.token("").ID), w.redemption(used.ID), w.redemption(none.ID), expired,
			w.redemption(newID[fleet.TokenID]()), foreign, w.redemption(twice.ID), w.redemption(twice.ID),
		}
		want := []error{nil, store.ErrState, nil, store.ErrConflict, nil, store.ErrState, store.ErrNotFound, store.ErrNotFound, nil, store.ErrConflict}
		wantRedeemed(w, list, want)
		for i, group := range map[int]string{0: "web", 4: "", 8: ""} {
			if got := w.agent(list[i].Agent); got.GroupName != group {
				w.Errorf("%d enrolled into %q", i, got.GroupName)
			}
		}
		// What the database refuses does not take the others with it either.
		taken, again := w.redemption(w.token("").ID), w.redemption(w.token("").ID)
		taken.Certificate.Serial, again.Agent = first.Certificate.Serial, first.Agent
		refused := []store.Redemption{w.redemption(w.token("").ID), taken, w.redemption(revoked.ID), again, w.redemption(w.token("").ID)}
		results := w.Redeem(w.Context(), refused)
		for i, want := range []error{nil, store.ErrExists, store.ErrState, store.ErrExists, nil} {
			w.want(results[i], want)
		}
		w.agent(refused[0].Agent)
		w.agent(refused[4].Agent)
		w.must(w.redeem(w.redemption(taken.Token)))
		w.must(w.redeem(w.redemption(again.Token)))
		if got := w.Redeem(w.Context(), nil); len(got) != 0 {
			w.Errorf("nothing gives %v", got)
		}
	},
	"of calls that redeem the same tokens in any order, one redeems each": func(w *world) {
		const calls, tokens = 6, 20
		pool := w.pool("web")
		var issued []fleet.TokenID
		for range tokens {
			t := w.newToken("")
			t.Pool = pool.ID
			w.must(w.IssueBootstrapToken(w.Context(), w.by(), t))
			issued = append(issued, t.ID)
		}
		deleted := make(chan error, 1)
		results := atOnce(w, calls, func(call int) ([]error, error) {
			if call == calls/2 {
				_, err := w.DeleteTokenPool(w.Context(), w.by(), pool.ID) // what is not redeemed by then is revoked
				deleted <- err
			}
			var list []store.Redemption
			for _, i := range rand.Perm(tokens) {
				list = append(list, w.redemption(issued[i]))
			}
			return w.Redeem(w.Context(), list), nil
		})
		w.must(<-deleted)
		done := 0
		for _, err := range slices.Concat(results...) {
			switch {
			case err == nil:
				done++
			case !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrState):
				w.Error(err)
			}
		}
		agents, _, err := w.Agents(w.Context(), w.tenant, fleet.AgentFilter{}, w.now, fleet.Page{Size: 10 * tokens})
		w.must(err)
		if len(agents) != done || done > tokens {
			w.Errorf("%d redemptions of %d tokens, %d agents", done, tokens, len(agents))
		}
	},
	"a token of a group that was deleted meanwhile enrols into none": func(w *world) {
		g := w.group("web")
		token := w.token(g.ID)
		w.must(w.DeleteGroup(w.Context(), w.by(), g.ID))
		r := w.redemption(token.ID)
		w.must(w.redeem(r))
		if a := w.agent(r.Agent); a.Group != "" {
			w.Errorf("enrolled into %q", a.Group)
		}
	},
	"a certificate belongs to its tenant": func(w *world) {
		a := w.enrol()
		_, err := w.Certificate(w.Context(), "theirs", a.serial)
		w.want(err, store.ErrNotFound)
		_, err = w.Certificate(w.Context(), w.tenant, fleet.Serial(strings.Repeat("0", 20)))
		w.want(err, store.ErrNotFound)
	},
	"a renewal records a certificate beside the one that was shown": func(w *world) {
		a := w.enrol()
		r, c := w.renewal(a, "new")
		w.wantVerdict(r, fleet.RenewalVerdict{})
		v, err := w.Renew(w.Context(), w.by(), r, c)
		w.must(err)
		if v != (fleet.RenewalVerdict{}) {
			w.Fatalf("refused: %+v", v)
		}
		got, err := w.Certificate(w.Context(), w.tenant, c.Serial)
		w.must(err)
		if !reflect.DeepEqual(got, c) {
			w.Errorf("certificate %+v, want %+v", got, c)
		}
		if _, err := w.Certificate(w.Context(), w.tenant, a.serial); err != nil {
			w.Errorf("the one that was shown is gone: %v", err)
		}
		w.wantAudit(string(a.id), "agent.renew_certificate")
		if kinds := w.kinds(a.id); !slices.Equal(kinds, []fleet.EventKind{fleet.EventAgentEnrolled, fleet.EventCertificateRenewed}) {
			w.Errorf("events %v", kinds)
		}
		recorded := w.lastAudit(string(a.id))
		// The answer was lost: it asks once more with the same key, and with the certificate that it has.
		w.pass(time.Minute)
		again, other := w.renewal(a, "new")
		w.wantVerdict(again, fleet.RenewalVerdict{Given: &c})
		v, err = w.Renew(w.Context(), w.by(), again, other)
		w.must(err)
		if v.Given == nil || v.Given.Serial != c.Serial {
			w.Errorf("got %+v", v)
		}
		if got := w.lastAudit(string(a.id)); got.ID != recorded.ID {
			w.Errorf("audit log: %+v", got)
		}
	},
	"a renewal is refused to whom the certificate does not belong": func(w *world) {
		a, other := w.enrol(), w.enrol()
		for _, refused := range []struct {
			change func(*fleet.CertificateRenewal)
			reason string
		}{
			{func(r *fleet.CertificateRenewal) { r.Agent = other.id }, fleet.RefusedNotRecorded},
			{func(r *fleet.CertificateRenewal) { r.Agent = newID[fleet.AgentID]() }, fleet.RefusedNotRecorded},
			{func(r *fleet.CertificateRenewal) { r.Serial = "0" }, fleet.RefusedNotRecorded},
			{func(r *fleet.CertificateRenewal) { r.Fingerprint = other.fingerprint }, fleet.RefusedNotRecorded},
			{func(r *fleet.CertificateRenewal) { r.Tenant = w.in("theirs").tenant }, fleet.RefusedNotRecorded},
			{func(r *fleet.CertificateRenewal) { r.At = w.now.AddDate(1, 0, 0) }, fleet.RefusedExpired},
			{func(r *fleet.CertificateRenewal) { r.PublicKey = a.key }, fleet.RefusedKeyNotNew},
		} {
			r, c := w.renewal(a, "new")
			refused.change(&r)
			w.wantVerdict(r, fleet.RenewalVerdict{Reason: refused.reason})
			v, err := w.Renew(w.Context(), w.by(), r, c)
			w.must(err)
			if v.Reason != refused.reason {
				w.Errorf("got %+v, want %s", v, refused.reason)
			}
			_, err = w.Certificate(w.Context(), w.tenant, c.Serial)
			w.want(err, store.ErrNotFound)
		}
	},
	"an agent gets so many certificates within a day": func(w *world) {
		a := w.enrol()
		renew := func(i int) fleet.RenewalVerdict {
			r, c := w.renewal(a, "key "+strconv.Itoa(i))
			v, err := w.Renew(w.Context(), w.by(), r, c)
			w.must(err)
			return v
		}
		for i := 1; i < fleet.RenewalLimit; i++ { // the first came with the enrolment
			if v := renew(i); v != (fleet.RenewalVerdict{}) {
				w.Fatalf("renewal %d: %+v", i, v)
			}
		}
		if v := renew(0); v.Reason != fleet.RefusedTooOften {
			w.Errorf("got %+v", v)
		}
		w.pass(fleet.RenewalWindow)
		if v := renew(0); v != (fleet.RenewalVerdict{}) {
			w.Errorf("a day later: %+v", v)
		}
	},
	"of many that renew with one key, one is recorded": func(w *world) {
		a := w.enrol()
		type done struct {
			fleet.RenewalVerdict
			serial fleet.Serial
		}
		got, lost := race(8, func(int) (done, error) {
			r, c := w.renewal(a, "new")
			v, err := w.Renew(w.Context(), w.by(), r, c)
			return done{v, c.Serial}, err
		})
		if len(lost) > 0 {
			w.Fatalf("failed: %v", lost)
		}
		var recorded []fleet.Serial
		for _, d := range got {
			if d.RenewalVerdict == (fleet.RenewalVerdict{}) {
				recorded = append(recorded, d.serial)
			}
		}
		if len(recorded) != 1 {
			w.Fatalf("recorded %v", recorded)
		}
		for _, d := range got {
			if d.Given != nil && d.Given.Serial != recorded[0] {
				w.Errorf("one was given %s", d.Given.Serial)
			}
		}
	},
	"a context that is over ends a method, and says so": func(w *world) {
		ctx, cancel := contextOver(w)
		defer cancel()
		if err := w.Redeem(ctx, []store.Redemption{w.redemption(w.token("").ID)})[0]; !errors.Is(err, ctx.Err()) {
			w.Errorf("got %v", err)
		}
	},
}

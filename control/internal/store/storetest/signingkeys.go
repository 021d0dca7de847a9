// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"reflect"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// contextOver is a context that is over already.
func contextOver(w *world) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(w.Context())
	cancel()
	return ctx, cancel
}

func (w *world) signingKey(kind fleet.SigningKeyKind, state fleet.SigningKeyState) fleet.SigningKey {
	k := fleet.SigningKey{
		ID: newID[fleet.KeyID](), Tenant: w.tenant, State: state, Kind: kind, Algorithm: "ecdsa-p256", CertificateDER: []byte("der"),
		Parent: "parent", SealedKey: []byte("sealed"), CreatedAt: w.now,
	}
	if state == fleet.SigningKeyActive {
		k.ActivatedAt = w.now.Add(time.Second)
	}
	return k
}

var signingKeys = suite{
	"keys are listed oldest first, without those that are retired": func(w *world) {
		root := w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive)
		retired := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyRetired)
		w.pass(time.Second)
		trusted := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyTrusted)
		w.pass(time.Second)
		active := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyActive)
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{active, retired, trusted, root}))
		keys := w.keysOf(w.tenant)
		if want := []fleet.SigningKey{root, trusted, active}; !reflect.DeepEqual(keys, want) {
			w.Errorf("got %+v, want %+v", keys, want)
		}
	},
	"a tenant has one active key of a kind": func(w *world) {
		root, intermediate := w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive), w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyActive)
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{root}))
		again := w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive)
		w.want(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{intermediate, again}), store.ErrExists)

		keys, err := w.SigningKeys(w.Context(), w.tenant)
		w.must(err)
		if len(keys) != 1 {
			w.Errorf("all or none: got %+v", keys)
		}
	},
	"a key that is not active may come beside one that is": func(w *world) {
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive)}))
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyDraft)}))
		keys, err := w.SigningKeys(w.Context(), w.tenant)
		w.must(err)
		if len(keys) != 2 {
			w.Errorf("got %+v", keys)
		}
	},
	"a key is here, in a key service or nowhere": func(w *world) {
		elsewhere, nowhere := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyActive), w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyTrusted)
		elsewhere.SealedKey, elsewhere.KeyURI = nil, "pkcs11:id=5e;object=ca"
		nowhere.SealedKey = nil
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{elsewhere, nowhere}))
		keys, err := w.SigningKeys(w.Context(), w.tenant)
		w.must(err)
		for _, key := range keys {
			if want := map[fleet.KeyID]string{elsewhere.ID: elsewhere.KeyURI, nowhere.ID: ""}; len(key.SealedKey) != 0 || key.KeyURI != want[key.ID] {
				w.Errorf("got %+v", key)
			}
		}
		both := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyDraft)
		both.KeyURI = "pkcs11:id=5e;object=ca"
		if err := w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{both}); err == nil {
			w.Error("a key is in two places")
		}
	},
	"of many that create at once, one succeeds": func(w *world) {
		_, failures := race(6, func(int) (struct{}, error) {
			return struct{}{}, w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{
				w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive), w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyActive),
			})
		})
		if len(failures) != 5 {
			w.Errorf("%d of 6 failed", len(failures))
		}
		for _, err := range failures {
			w.want(err, store.ErrExists)
		}
	},
	"keys of a tenant and keys of none do not meet": func(w *world) {
		root, server := w.signingKey(fleet.SigningKeyRoot, fleet.SigningKeyActive), w.signingKey(fleet.SigningKeyServerRoot, fleet.SigningKeyActive)
		server.Tenant = ""
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{root}))
		w.must(w.CreateSigningKeys(w.Context(), "", []fleet.SigningKey{server}))
		for tenant, want := range map[fleet.TenantID][]fleet.SigningKey{w.tenant: {root}, "": {server}, "theirs": nil} {
			keys := w.keysOf(tenant)
			if len(keys) != len(want) || (len(want) > 0 && !reflect.DeepEqual(keys, want)) {
				w.Errorf("of %q: got %+v, want %+v", tenant, keys, want)
			}
		}
	},
	"a draft is added, and every reader is told that there is something new": func(w *world) {
		active, draft := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyActive), w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyDraft)
		w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{active}))
		before, err := w.TrustGeneration(w.Context())
		w.must(err)
		w.must(w.AddSigningKey(w.Context(), w.by(), draft))
		w.wantAudit(string(draft.ID), "signing_key.create")
		w.want(w.AddSigningKey(w.Context(), w.by(), draft), store.ErrExists)
		after, err := w.TrustGeneration(w.Context())
		w.must(err)
		if after != before+1 {
			w.Errorf("generation %d after %d", after, before)
		}
		keys, err := w.SigningKeys(w.Context(), w.tenant)
		w.must(err)
		if len(keys) != 2 || w.key(draft.ID).Generation != after {
			w.Errorf("keys are %+v", keys)
		}
	},
	"of a key it is known what stands of it, and who knows it": func(w *world) {
		w.signs()
		a, b := w.enrol(), w.enrol()
		g := w.gateway("gw-1", 1)
		w.connect(a, g)
		w.knows(g, w.key("k1").Generation)
		w.must(w.AddSigningKey(w.Context(), w.by(), w.draftKey("k2")))
		if u := w.key("k1"); u.Leaves != 2 || u.Agents != 2 || u.Online != 1 || u.Gateways != 1 || u.Confirmed != 1 || len(u.SealedKey) != 0 {
			w.Errorf("k1 is %+v", u)
		}
		if u := w.key("k2"); u.Leaves != 0 || u.Agents != 0 || u.Gateways != 1 || u.Confirmed != 0 {
			w.Errorf("k2 is %+v", u)
		}
		w.knows(g, w.key("k2").Generation)
		if u := w.key("k2"); u.Confirmed != 1 {
			w.Errorf("k2 is %+v", u)
		}
		// Whoever has shown a certificate of another key does not need this one, though its former one is good.
		ask, next := w.renewal(a, "next")
		next.Key = "k2"
		_, err := w.Renew(w.Context(), w.by(), ask, next)
		w.must(err)
		if u := w.key("k1"); u.Leaves != 2 || u.Agents != 2 {
			w.Errorf("before it is shown: %+v", u)
		}
		a.serial, a.fingerprint = next.Serial, next.Fingerprint
		w.claim(w.takeover(w.claimOf(a, g), fleet.TakeoverRestart))
		if u := w.key("k1"); u.Leaves != 2 || u.Agents != 1 || u.Online != 0 {
			w.Errorf("after it was shown: %+v", u)
		}
		w.revokes(fleet.Revocation{Agents: []fleet.AgentID{b.id}})
		if u := w.key("k1"); u.Leaves != 1 || u.Agents != 0 {
			w.Errorf("after a revocation: %+v", u)
		}
		w.pass(366 * 24 * time.Hour)
		if u := w.key("k1"); u.Leaves != 0 || u.Agents != 0 || u.Gateways != 0 {
			w.Errorf("after the end of all: %+v", u)
		}
	},
	"a key becomes active when the gateways know it, and the former one trusted": func(w *world) {
		w.signs()
		g := w.gateway("gw-1", 1)
		w.must(w.AddSigningKey(w.Context(), w.by(), w.draftKey("k2")))
		w.against(fleet.KeyChange{Key: "k2", To: fleet.SigningKeyActive}, fleet.KeyNotConfirmed)
		w.knows(g, w.key("k2").Generation)
		w.pass(time.Second)
		w.change(fleet.KeyChange{Key: "k2", To: fleet.SigningKeyActive})
		w.wantAudit("k2", "signing_key.activate")
		if one, two := w.key("k1"), w.key("k2"); one.State != fleet.SigningKeyTrusted || !one.TrustedAt.Equal(w.now) ||
			two.State != fleet.SigningKeyActive || !two.ActivatedAt.Equal(w.now) {
			w.Errorf("they are %+v and %+v", one, two)
		}
		// And back.
		w.change(fleet.KeyChange{Key: "k1", To: fleet.SigningKeyActive})
		if one, two := w.key("k1"), w.key("k2"); one.State != fleet.SigningKeyActive || !one.TrustedAt.IsZero() || two.State != fleet.SigningKeyTrusted {
			w.Errorf("they are %+v and %+v", one, two)
		}
		// A process of the gateway that starts anew knows nothing yet.
		w.must(w.AddSigningKey(w.Context(), w.by(), w.draftKey("k3")))
		w.knows(g, w.key("k3").Generation)
		w.gateway("gw-1", 2)
		w.against(fleet.KeyChange{Key: "k3", To: fleet.SigningKeyActive}, fleet.KeyNotConfirmed)
		w.change(fleet.KeyChange{Key: "k3", To: fleet.SigningKeyActive, Force: true})
	},
	"a key is retired when nobody needs it, or by force, which closes sessions": func(w *world) {
		w.signs()
		a, g := w.enrol(), w.gateway("gw-1", 1)
		s := w.connect(a, g)
		w.against(fleet.KeyChange{Key: "k1", To: fleet.SigningKeyRetired, Force: true}, fleet.KeyState) // it signs
		w.must(w.AddSigningKey(w.Context(), w.by(), w.draftKey("k2")))
		w.change(fleet.KeyChange{Key: "k2", To: fleet.SigningKeyActive, Force: true})
		w.against(fleet.KeyChange{Key: "k1", To: fleet.SigningKeyRetired}, fleet.KeyInUse)
		w.sendsNothing()
		w.pass(time.Second)
		w.change(fleet.KeyChange{Key: "k1", To: fleet.SigningKeyRetired, Force: true})
		w.wantAudit("k1", "signing_key.retire")
		if u := w.key("k1"); u.State != fleet.SigningKeyRetired || !u.RetiredAt.Equal(w.now) {
			w.Errorf("it is %+v", u)
		}
		due := w.dispatches()
		if len(due) != 1 || due[0].Agent != s.id || due[0].Kind != fleet.DispatchClose || due[0].Reason != fleet.EndKeyRetired {
			w.Errorf("due is %+v", due)
		}
		// Whatever a gateway believes that has not heard of it yet, it gets neither another session nor another certificate.
		if got := w.claim(w.claimOf(a, g)); got.Outcome != fleet.ClaimRefused || got.Reason != fleet.RefusedKeyRetired {
			w.Errorf("a claim gives %+v", got)
		}
		ask, _ := w.renewal(a, "next")
		w.wantVerdict(ask, fleet.RenewalVerdict{Reason: fleet.RefusedKeyRetired})
		for _, to := range []fleet.SigningKeyState{fleet.SigningKeyActive, fleet.SigningKeyRetired} {
			w.against(fleet.KeyChange{Key: "k1", To: to, Force: true}, fleet.KeyState)
		}
		keys, err := w.SigningKeys(w.Context(), w.tenant)
		w.must(err)
		if len(keys) != 1 || keys[0].ID != "k2" {
			w.Errorf("left are %+v", keys)
		}
	},
	"a key of another tenant is not found, nor counted": func(w *world) {
		w.signs()
		theirs := w.in("theirs")
		theirs.enrol() // with a certificate of their k1
		if u := w.key("k1"); u.Leaves != 0 || u.Agents != 0 {
			w.Errorf("it is %+v", u)
		}
		_, _, err := theirs.ChangeSigningKey(w.Context(), theirs.by(), fleet.KeyChange{Key: "k1", To: fleet.SigningKeyRetired, Force: true})
		w.want(err, store.ErrNotFound)
		if uses, err := theirs.SigningKeyUses(w.Context(), theirs.tenant, w.now); err != nil || len(uses) != 0 {
			w.Errorf("theirs are %+v, %v", uses, err)
		}
	},
	"keys are found that are trusted for long": func(w *world) {
		w.signs()
		w.must(w.AddSigningKey(w.Context(), w.by(), w.draftKey("k2")))
		w.change(fleet.KeyChange{Key: "k2", To: fleet.SigningKeyActive, Force: true})
		for since, want := range map[time.Time][]fleet.KeyID{w.now.Add(-time.Second): nil, w.now: {"k1"}} {
			found, err := w.TrustedUntil(w.Context(), since)
			w.must(err)
			wantIDs(w, found, want, func(k fleet.SigningKey) fleet.KeyID { return k.ID })
		}
	},
	"of many that activate at once, one key signs": func(w *world) {
		w.signs()
		for _, id := range []fleet.KeyID{"k2", "k3", "k4"} {
			w.must(w.AddSigningKey(w.Context(), w.by(), w.draftKey(id)))
		}
		_, failed := race(3, func(i int) (struct{}, error) {
			_, _, err := w.ChangeSigningKey(w.Context(), w.by(), fleet.KeyChange{Key: []fleet.KeyID{"k2", "k3", "k4"}[i], To: fleet.SigningKeyActive, Force: true})
			return struct{}{}, err
		})
		w.must(errors.Join(failed...))
		var active int
		uses, err := w.SigningKeyUses(w.Context(), w.tenant, w.now)
		w.must(err)
		for _, u := range uses {
			if u.State == fleet.SigningKeyActive {
				active++
			}
		}
		if active != 1 {
			w.Errorf("keys are %+v", uses)
		}
	},
}

// keysOf are the keys of a tenant, but for the number of the change that made each.
func (w *world) keysOf(tenant fleet.TenantID) []fleet.SigningKey {
	w.Helper()
	keys, err := w.SigningKeys(w.Context(), tenant)
	w.must(err)
	for i := range keys {
		keys[i].Generation = 0
	}
	return keys
}

// signs makes k1, of which all certificates here are at first, the key that signs for the tenant.
func (w *world) signs() {
	w.Helper()
	k := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyActive)
	k.ID = "k1"
	w.must(w.CreateSigningKeys(w.Context(), w.tenant, []fleet.SigningKey{k}))
}

func (w *world) draftKey(id fleet.KeyID) fleet.SigningKey {
	k := w.signingKey(fleet.SigningKeyIntermediate, fleet.SigningKeyDraft)
	k.ID = id
	return k
}

// key is what stands of a key of the tenant.
func (w *world) key(id fleet.KeyID) fleet.KeyUse {
	w.Helper()
	uses, err := w.SigningKeyUses(w.Context(), w.tenant, w.now)
	w.must(err)
	for _, u := range uses {
		if u.ID == id {
			return u
		}
	}
	w.Fatalf("there is no key %s", id)
	return fleet.KeyUse{}
}

// knows lets a gateway say that it knows the keys up to that change.
func (w *world) knows(g fleet.Gateway, generation int64) {
	w.Helper()
	w.must(w.RenewLease(w.Context(), store.Renewal{Gateway: g.ID, BootID: g.BootID, Now: w.now, Until: w.now.Add(time.Hour), Trust: generation}))
}

func (w *world) change(c fleet.KeyChange) {
	w.Helper()
	was, reason, err := w.ChangeSigningKey(w.Context(), w.by(), c)
	w.must(err)
	if reason != "" {
		w.Fatalf("%s speaks against %+v: %+v", reason, c, was)
	}
}

func (w *world) against(c fleet.KeyChange, want string) {
	w.Helper()
	before, err := w.TrustGeneration(w.Context())
	w.must(err)
	was, reason, err := w.ChangeSigningKey(w.Context(), w.by(), c)
	w.must(err)
	after, err := w.TrustGeneration(w.Context())
	w.must(err)
	if reason != want || after != before || w.key(c.Key).State != was.State {
		w.Fatalf("%q speaks against %+v, want %q; generation %d after %d", reason, c, want, after, before)
	}
}

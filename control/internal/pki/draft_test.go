// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/shared/fault"
)

// A signing key is followed by another below the same root, and nobody is left behind at any time.
func TestASigningKeyIsFollowed(t *testing.T) {
	for _, algorithm := range []pki.Algorithm{"", pki.RSA3072} {
		store := &memory{}
		authority, replica := open(t, store, policy, acme), open(t, store, policy, acme)
		before, former := issue(t, authority, request(t, acme, start))
		now := start.Add(time.Hour)
		draft, err := authority.Draft(t.Context(), acme, algorithm, now)
		if err != nil {
			t.Fatal(err)
		}
		want := fleet.SigningKey{Tenant: acme, State: fleet.SigningKeyDraft, Kind: fleet.SigningKeyIntermediate, Parent: store.key(t, acme, fleet.SigningKeyRoot).ID, CreatedAt: now}
		if draft.Tenant != want.Tenant || draft.State != want.State || draft.Kind != want.Kind || draft.Parent != want.Parent || !draft.CreatedAt.Equal(now) ||
			!draft.ActivatedAt.IsZero() || draft.ID == before.KeyID || algorithm != "" && draft.Algorithm != string(algorithm) {
			t.Fatalf("the draft is %+v", draft)
		}
		if len(store.keys) != 2 {
			t.Error("it was stored")
		}
		store.keys = append(store.keys, draft)
		for _, each := range []*pki.Authority{authority, replica} {
			if _, err := each.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			// It is in the trust, has a list, and does not sign.
			if b := bundle(t, each, acme); len(b.Intermediates) != 2 || len(b.Roots) != 1 {
				t.Errorf("the bundle has %d and %d", len(b.Roots), len(b.Intermediates))
			}
			if _, err := each.SignList(t.Context(), acme, draft.ID, 1, nil, now); err != nil {
				t.Error(err)
			}
			if leaf, _ := issue(t, each, request(t, acme, now)); leaf.KeyID != before.KeyID {
				t.Error("a draft signs")
			}
		}
		store.keys[1].State, store.keys[2].State = fleet.SigningKeyTrusted, fleet.SigningKeyActive
		if leaf, _ := issue(t, replica, request(t, acme, now)); leaf.KeyID != before.KeyID {
			t.Error("what was not read anew is known")
		}
		if _, err := replica.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		leaf, certificate := issue(t, replica, request(t, acme, now))
		if leaf.KeyID != draft.ID {
			t.Error("the former key signs")
		}
		if err := verify(certificate, bundle(t, replica, acme), now); err != nil {
			t.Error(err)
		}
		if err := verify(former, bundle(t, replica, acme), now); err != nil {
			t.Error(err)
		}
		store.keys[1].State = fleet.SigningKeyRetired
		if _, err := replica.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := verify(former, bundle(t, replica, acme), now); err == nil {
			t.Error("what a retired key has signed is good")
		}
	}
}

func TestDraftsThatAreNotMade(t *testing.T) {
	store := &memory{}
	authority := open(t, store, policy, acme)
	if _, err := authority.Draft(t.Context(), "globex", "", start); !fault.Is(err, pki.ReasonNoAuthority) {
		t.Errorf("without an authority: %v", err)
	}
	if _, err := authority.Draft(t.Context(), acme, "dsa", start); err == nil {
		t.Error("of another algorithm")
	}
	if _, err := authority.Draft(t.Context(), acme, "", start.Add(11*365*24*time.Hour)); !fault.Is(err, pki.ReasonAuthorityExpired) {
		t.Errorf("below a root that has expired: %v", err)
	}
	// None outlives its root.
	late, err := authority.Draft(t.Context(), acme, "", start.Add(9*365*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if root := parse(t, store.key(t, acme, fleet.SigningKeyRoot).CertificateDER); parse(t, late.CertificateDER).NotAfter.After(root.NotAfter) {
		t.Error("it outlives its root")
	}
	store.change(acme, fleet.SigningKeyRoot, func(k *fleet.SigningKey) { k.SealedKey = nil })
	if _, err := authority.Draft(t.Context(), acme, "", start); !fault.Is(err, pki.ReasonNoRoot) {
		t.Errorf("without the root's key: %v", err)
	}
}

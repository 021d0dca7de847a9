// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/shared/fault"
)

func TestPoliciesThatAreRefused(t *testing.T) {
	for name, edit := range map[string]func(*pki.Config){
		"no trust domain":         func(c *pki.Config) { c.TrustDomain = "" },
		"a trust domain with URL": func(c *pki.Config) { c.TrustDomain = "https://x" },
		"no public URL":           func(c *pki.Config) { c.PublicURL = "" },
		"a public URL with TLS":   func(c *pki.Config) { c.PublicURL = "https://pki.example" },
		"a public URL with query": func(c *pki.Config) { c.PublicURL = "http://pki.example/?a=b" },
		"a public URL with user":  func(c *pki.Config) { c.PublicURL = "http://a:b@pki.example" },
		"a life of seconds":       func(c *pki.Config) { c.LeafLifetime = 30 * time.Second },
		"a negative backdate":     func(c *pki.Config) { c.Backdate = -time.Minute },
		"a backdate of days":      func(c *pki.Config) { c.Backdate = 48 * time.Hour },
		"an unknown algorithm":    func(c *pki.Config) { c.Algorithm = "ed25519" },
	} {
		config := policy
		edit(&config)
		if _, err := pki.Open(t.Context(), config, &memory{}, ring); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestEnsureTenantCreatesOnce(t *testing.T) {
	store := &memory{}
	authority := open(t, store, policy, acme)
	before := bundle(t, authority, acme)
	if err := authority.EnsureTenant(t.Context(), acme, start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	restarted := open(t, store, policy)
	if !bytes.Equal(bundle(t, restarted, acme).PEM, before.PEM) || len(store.keys) != 2 {
		t.Errorf("%d keys after a second start", len(store.keys))
	}

	root, intermediate := store.key(t, acme, fleet.SigningKeyRoot), store.key(t, acme, fleet.SigningKeyIntermediate)
	for _, key := range []fleet.SigningKey{root, intermediate} {
		if key.State != fleet.SigningKeyActive || !key.ActivatedAt.Equal(start) || key.Algorithm != "ecdsa-p256" || len(key.ID) != 32 {
			t.Errorf("stored as %+v", key)
		}
		if _, err := x509.ParsePKCS8PrivateKey(key.SealedKey); err == nil {
			t.Errorf("the key of the %s is stored in clear", key.Kind)
		}
	}
	if intermediate.Parent != root.ID || root.Parent != "" {
		t.Error("the intermediate does not hang below the root")
	}
	top, middle := parse(t, root.CertificateDER), parse(t, intermediate.CertificateDER)
	if !top.NotAfter.Equal(start.Add(10*365*24*time.Hour)) || !middle.NotAfter.Equal(start.Add(5*365*24*time.Hour)) {
		t.Errorf("they end at %s and %s", top.NotAfter, middle.NotAfter)
	}
	if !middle.MaxPathLenZero || middle.MaxPathLen != 0 || slices.Contains(middle.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		t.Error("the intermediate may certify more than agents")
	}
	if top.Subject.String() == middle.Subject.String() {
		t.Error("two authorities share a name")
	}
}

func TestReplicasThatStartAtOnceAgree(t *testing.T) {
	store := &memory{}
	const replicas, calls = 4, 4
	var work sync.WaitGroup
	authorities := make([]*pki.Authority, replicas)
	for i := range authorities {
		authorities[i] = open(t, store, policy)
		for range calls {
			work.Go(func() {
				if err := authorities[i].EnsureTenant(t.Context(), acme, start); err != nil {
					t.Error(err)
				}
				if _, _, err := authorities[i].IssueServer(t.Context(), pki.ServerRequest{DNSNames: []string{"localhost"}, Now: start}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	work.Wait()
	if len(store.keys) != 3 {
		t.Errorf("%d keys, want root, intermediate and server root", len(store.keys))
	}
	for _, authority := range authorities {
		_, certificate := issue(t, authority, request(t, acme, start))
		if err := verify(certificate, bundle(t, authorities[0], acme), start); err != nil {
			t.Error(err)
		}
	}
}

func TestTheLoserOfTheRaceGoesOnWithTheWinnersKeys(t *testing.T) {
	store := &memory{}
	winner, loser := open(t, store, policy), open(t, store, policy)
	store.race = func() {
		if err := winner.EnsureTenant(t.Context(), acme, start); err != nil {
			t.Error(err)
		}
	}
	if err := loser.EnsureTenant(t.Context(), acme, start); err != nil {
		t.Fatal(err)
	}
	if len(store.keys) != 2 || !bytes.Equal(bundle(t, loser, acme).PEM, bundle(t, winner, acme).PEM) {
		t.Errorf("%d keys, or two authorities", len(store.keys))
	}
}

func TestAReplicaFindsATenantThatAnotherMade(t *testing.T) {
	store := &memory{}
	idle := open(t, store, policy)
	if _, err := idle.Bundle(t.Context(), acme); !fault.Is(err, pki.ReasonNoAuthority) {
		t.Fatalf("before: error %v", err)
	}
	open(t, store, policy, acme)
	issue(t, idle, request(t, acme, start))
}

func TestAWrongMasterKeyOpensNothingAndMakesNothing(t *testing.T) {
	store := &memory{}
	authority := open(t, store, policy, acme)
	stranger := seal.NewKeyring(seal.NewMasterKey(), nil)
	other, err := pki.Open(t.Context(), policy, store, stranger)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.EnsureTenant(t.Context(), acme, start); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("EnsureTenant: error %v", err)
	}
	if _, err := other.Issue(t.Context(), request(t, acme, start)); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("Issue: error %v", err)
	}
	if len(store.keys) != 2 {
		t.Errorf("%d keys in the store", len(store.keys))
	}
	if _, _, err := authority.IssueServer(t.Context(), pki.ServerRequest{DNSNames: []string{"localhost"}, Now: start}); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Open(t.Context(), policy, store, stranger); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("Open: error %v", err)
	}
}

func TestKeysSurviveARotationOfTheMasterKey(t *testing.T) {
	store := &memory{}
	open(t, store, policy, acme)
	next := seal.NewMasterKey()
	during := seal.NewKeyring(next, &master)
	for i, key := range store.keys {
		rewrapped, err := during.Rewrap(pki.KeyBinding(key.Tenant, key.ID), key.SealedKey)
		if err != nil {
			t.Fatal(err)
		}
		store.keys[i].SealedKey = rewrapped
	}
	authority, err := pki.Open(t.Context(), policy, store, seal.NewKeyring(next, nil))
	if err != nil {
		t.Fatal(err)
	}
	issue(t, authority, request(t, acme, start))
}

// TestAMeddledStoreIsNotBelieved edits rows as somebody would who has the database
// but not the master key.
func TestAMeddledStoreIsNotBelieved(t *testing.T) {
	foreign := &memory{}
	open(t, foreign, policy, acme, globex)
	theirs := foreign.key(t, acme, fleet.SigningKeyIntermediate)
	neighbour := foreign.key(t, globex, fleet.SigningKeyIntermediate)
	for name, edit := range map[string]func(*fleet.SigningKey){
		"the certificate of another authority": func(k *fleet.SigningKey) { k.CertificateDER = theirs.CertificateDER },
		"the key of another tenant":            func(k *fleet.SigningKey) { k.SealedKey = neighbour.SealedKey },
		"another key of the tenant":            func(k *fleet.SigningKey) { k.SealedKey = theirs.SealedKey },
		"key and id of another authority":      func(k *fleet.SigningKey) { k.ID, k.SealedKey = theirs.ID, theirs.SealedKey },
		"no key":                               func(k *fleet.SigningKey) { k.SealedKey = nil },
		"no certificate":                       func(k *fleet.SigningKey) { k.CertificateDER = nil },
		"no parent":                            func(k *fleet.SigningKey) { k.Parent = "" },
		"a parent that is itself":              func(k *fleet.SigningKey) { k.Parent = k.ID },
		"a server root inside a tenant":        func(k *fleet.SigningKey) { k.Kind = fleet.SigningKeyServerRoot },
	} {
		store := &memory{}
		open(t, store, policy, acme)
		store.change(acme, fleet.SigningKeyIntermediate, edit)
		if _, err := open(t, store, policy).Issue(t.Context(), request(t, acme, start)); err == nil {
			t.Errorf("%s: it signed", name)
		}
	}
}

// TestAStrangersIntermediateIsNotTrusted: a row that does not sign is believed no
// more than one that does.
func TestAStrangersIntermediateIsNotTrusted(t *testing.T) {
	store, foreign := &memory{}, &memory{}
	open(t, store, policy, acme)
	open(t, foreign, policy, acme)
	planted := foreign.key(t, acme, fleet.SigningKeyIntermediate)
	planted.State, planted.Parent = fleet.SigningKeyTrusted, store.key(t, acme, fleet.SigningKeyRoot).ID
	store.keys = append(store.keys, planted)
	if _, err := open(t, store, policy).Bundle(t.Context(), acme); err == nil || !strings.Contains(err.Error(), "not signed by its parent") {
		t.Errorf("error %v", err)
	}
}

func TestAnAuthorityWithoutActiveKeyIsNotReplaced(t *testing.T) {
	store := &memory{}
	authority := open(t, store, policy, acme)
	store.change(acme, fleet.SigningKeyIntermediate, func(k *fleet.SigningKey) { k.State = fleet.SigningKeyTrusted })
	if err := authority.EnsureTenant(t.Context(), acme, start); err == nil || !strings.Contains(err.Error(), "none that is active") {
		t.Errorf("error %v", err)
	}
	if len(store.keys) != 2 {
		t.Errorf("%d keys in the store", len(store.keys))
	}
}

func TestTwoActiveKeysAreRefused(t *testing.T) {
	store, second := &memory{}, &memory{}
	open(t, store, policy, acme)
	open(t, second, policy, acme)
	store.keys = append(store.keys, second.keys...)
	if _, err := open(t, store, policy).Bundle(t.Context(), acme); err == nil {
		t.Error("accepted")
	}
}

func TestAStoreThatDoesNotStore(t *testing.T) {
	full := errors.New("disk full")
	authority := open(t, &memory{full: full}, policy)
	if err := authority.EnsureTenant(t.Context(), acme, start); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	if _, err := authority.Issue(t.Context(), request(t, acme, start)); !fault.Is(err, pki.ReasonNoAuthority) {
		t.Errorf("it issues from a key that is not stored: %v", err)
	}
}

func TestTenantsThatAreRefused(t *testing.T) {
	authority := open(t, &memory{}, policy)
	for _, tenant := range []fleet.TenantID{"", "ACME", "a/b", fleet.TenantID(strings.Repeat("a", 64))} {
		if err := authority.EnsureTenant(context.Background(), tenant, start); err == nil {
			t.Errorf("%q: accepted", tenant)
		}
	}
}

func TestTenantsDoNotTrustEachOther(t *testing.T) {
	authority := open(t, &memory{}, policy, acme, globex)
	_, certificate := issue(t, authority, request(t, acme, start))
	if err := verify(certificate, bundle(t, authority, acme), start); err != nil {
		t.Error(err)
	}
	if err := verify(certificate, bundle(t, authority, globex), start); err == nil {
		t.Error("a neighbour trusts it")
	}
}

// TestRotationOfTheSigningKey plays what an operator's rotation does to the rows:
// the new key signs and names its own CRL, the old one verifies until retired.
func TestRotationOfTheSigningKey(t *testing.T) {
	store, next := &memory{}, &memory{}
	authority := open(t, store, policy, acme)
	open(t, next, policy, acme)
	oldLeaf, oldCertificate := issue(t, authority, request(t, acme, start))

	store.change(acme, fleet.SigningKeyRoot, func(k *fleet.SigningKey) { k.State = fleet.SigningKeyTrusted })
	store.change(acme, fleet.SigningKeyIntermediate, func(k *fleet.SigningKey) { k.State = fleet.SigningKeyTrusted })
	store.keys = append(store.keys, next.keys...)
	if err := authority.EnsureTenant(t.Context(), acme, start); err != nil {
		t.Fatal(err)
	}
	newLeaf, newCertificate := issue(t, authority, request(t, acme, start))
	if newLeaf.KeyID == oldLeaf.KeyID || newCertificate.CRLDistributionPoints[0] == oldCertificate.CRLDistributionPoints[0] {
		t.Error("the new leaf belongs to the old key")
	}
	overlap := bundle(t, authority, acme)
	if len(overlap.Roots) != 2 || len(overlap.Intermediates) != 2 || bytes.Count(overlap.PEM, []byte("BEGIN CERTIFICATE")) != 4 {
		t.Errorf("%d roots, %d intermediates in the overlap", len(overlap.Roots), len(overlap.Intermediates))
	}
	for _, certificate := range []*x509.Certificate{oldCertificate, newCertificate} {
		if err := verify(certificate, overlap, start); err != nil {
			t.Error(err)
		}
	}

	store.mu.Lock()
	store.keys[0].State, store.keys[1].State = fleet.SigningKeyRetired, fleet.SigningKeyRetired
	store.mu.Unlock()
	if err := authority.EnsureTenant(t.Context(), acme, start); err != nil {
		t.Fatal(err)
	}
	if err := verify(oldCertificate, bundle(t, authority, acme), start); err == nil {
		t.Error("a retired key still verifies")
	}
	if err := verify(newCertificate, bundle(t, authority, acme), start); err != nil {
		t.Error(err)
	}
}

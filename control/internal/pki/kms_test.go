// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto/x509"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/drivers"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/kmstest"
	"gitlab.com/ampora/ampora/shared/fault"
)

func TestMain(m *testing.M) { os.Exit(kmstest.Main(m)) }

// onKeyServices runs a test on a token of SoftHSM and on Vault's transit engine.
func onKeyServices(t *testing.T, test func(t *testing.T, b kmstest.Backend)) {
	t.Run("SoftHSM", func(t *testing.T) { test(t, kmstest.SoftHSM(t, drivers.All())) })
	t.Run("Vault", func(t *testing.T) {
		vault := kmstest.Vault(t, time.Hour)
		test(t, vault.Backend(t, drivers.All(), ";token-file="+vault.TokenFile(t)))
	})
}

// kept is the policy with keys in a key service, as after a start.
func kept(t *testing.T, b kmstest.Backend) pki.Config {
	t.Helper()
	config := policy
	config.KeyServices = b.Open(t, 2*time.Second)
	return config
}

// TestAnAuthorityInAKeyService issues, lists and serves, loses the key service, and gets it back; OpenSSL judges.
func TestAnAuthorityInAKeyService(t *testing.T) {
	onKeyServices(t, func(t *testing.T, b kmstest.Backend) {
		for _, algorithm := range []pki.Algorithm{pki.ECDSAP256, pki.RSA3072} {
			t.Run(string(algorithm), func(t *testing.T) {
				store, config := &memory{}, kept(t, b)
				config.Algorithm = algorithm
				authority := open(t, store, config, acme)
				judge(t, authority)

				b.Away(true)
				defer b.Away(false)
				again := config
				again.KeyServices = b.Open(t, 2*time.Second)
				for name, authority := range map[string]*pki.Authority{"running": authority, "started anew": open(t, store, again, acme)} {
					if _, err := authority.Issue(t.Context(), request(t, acme, start)); !fault.Is(err, pki.ReasonKMSUnavailable) || fault.From(err).Kind != fault.Unavailable {
						t.Errorf("%s: issued: %v", name, err)
					}
					if _, err := authority.SignList(t.Context(), acme, authorityKey(t, authority), 2, nil, start); !fault.Is(err, pki.ReasonKMSUnavailable) {
						t.Errorf("%s: listed: %v", name, err)
					}
					if len(bundle(t, authority, acme).Roots) != 1 {
						t.Errorf("%s: the bundle is not there", name)
					}
				}
				b.Away(false)
				judge(t, authority)

				for _, key := range store.keys {
					if key.KeyURI == "" || len(key.SealedKey) != 0 || key.Algorithm != string(algorithm) || strings.Contains(key.KeyURI, "pin") {
						t.Errorf("stored as %+v", key)
					}
				}
			})
		}
	})
}

func authorityKey(t *testing.T, authority *pki.Authority) fleet.KeyID {
	t.Helper()
	key, err := authority.ActiveKey(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// judge has OpenSSL verify a new leaf against a new list, before and after the leaf is on it.
func judge(t *testing.T, authority *pki.Authority) {
	t.Helper()
	leaf, _ := issue(t, authority, request(t, acme, start))
	dir := t.TempDir()
	b := bundle(t, authority, acme)
	root, chain := write(t, dir, "root.pem", pki.EncodePEM(b.Roots...)), write(t, dir, "chain.pem", leaf.ChainPEM)
	for number, revoked := range [][]fleet.Revoked{nil, {{Serial: leaf.Serial, At: start}}} {
		list, err := authority.SignList(t.Context(), acme, leaf.KeyID, int64(number)+1, revoked, start)
		if err != nil {
			t.Fatal(err)
		}
		crl := write(t, dir, "crl.pem", encode("X509 CRL", list.DER))
		out := opensslAnyway(t, "verify", "-x509_strict", "-purpose", "sslclient", "-attime", strconv.FormatInt(start.Unix(), 10), "-crl_check",
			"-CRLfile", crl, "-CAfile", root, "-untrusted", chain, chain)
		if want := map[bool]string{true: ": OK", false: "certificate revoked"}[revoked == nil]; !strings.Contains(out, want) {
			t.Errorf("openssl verify, with %d revoked: %s", len(revoked), out)
		}
	}
}

// TestKeysOfBothKinds live side by side, whichever the new ones are made in.
func TestKeysOfBothKinds(t *testing.T) {
	b := kmstest.SoftHSM(t, drivers.All())
	store := &memory{}
	open(t, store, policy, globex) // in the database, before there was a key service
	config := kept(t, b)
	authority := open(t, store, config, acme, globex)
	issue(t, authority, request(t, acme, start))
	issue(t, authority, request(t, globex, start))
	if store.key(t, globex, fleet.SigningKeyIntermediate).KeyURI != "" || store.key(t, acme, fleet.SigningKeyIntermediate).KeyURI == "" {
		t.Error("the keys are not where they were made")
	}
	without := open(t, store, policy, acme, globex)
	issue(t, without, request(t, globex, start))
	if _, err := without.Issue(t.Context(), request(t, acme, start)); !fault.Is(err, pki.ReasonKMSUnavailable) || !strings.Contains(err.Error(), "AMPORA_PKI_KMS") {
		t.Errorf("without the key service: %v", err)
	}
}

// TestInstallationsRootsAreInTheKeyServiceToo: those of gateways and of the control plane.
func TestInstallationsRootsAreInTheKeyServiceToo(t *testing.T) {
	store := &memory{}
	authority := open(t, store, kept(t, kmstest.SoftHSM(t, drivers.All())))
	if _, err := authority.IssueGateway(t.Context(), pki.GatewayRequest{Gateway: "edge-1", CSR: csr(t, newKey(t), x509.CertificateRequest{}), Now: start}); err != nil {
		t.Error(err)
	}
	if _, _, err := authority.IssueControl(t.Context(), start); err != nil {
		t.Error(err)
	}
	for _, kind := range []fleet.SigningKeyKind{fleet.SigningKeyGatewayRoot, fleet.SigningKeyControlRoot} {
		if store.key(t, "", kind).KeyURI == "" {
			t.Errorf("the %s is not in the key service", kind)
		}
	}
}

func TestAnAuthorityIsMadeWholeOrNotAtAll(t *testing.T) {
	b := kmstest.SoftHSM(t, drivers.All())
	store := &memory{}
	authority := open(t, store, kept(t, b))
	b.Away(true)
	defer b.Away(false)
	if err := authority.EnsureTenant(t.Context(), acme, start); !fault.Is(err, pki.ReasonKMSUnavailable) {
		t.Errorf("made: %v", err)
	}
	if len(store.keys) != 0 {
		t.Errorf("%d keys are stored", len(store.keys))
	}
	b.Away(false)
	if err := authority.EnsureTenant(t.Context(), acme, start); err != nil || len(store.keys) != 2 {
		t.Errorf("%d keys, %v", len(store.keys), err)
	}
}

// TestAnotherKeyInItsPlace: whoever has the database points a certificate to a key of their own.
func TestAnotherKeyInItsPlace(t *testing.T) {
	onKeyServices(t, func(t *testing.T, b kmstest.Backend) {
		store, config := &memory{}, kept(t, b)
		open(t, store, config, acme, globex)
		theirs := store.key(t, globex, fleet.SigningKeyIntermediate).KeyURI
		store.change(acme, fleet.SigningKeyIntermediate, func(k *fleet.SigningKey) { k.KeyURI = theirs })
		authority := open(t, store, config)
		if _, err := authority.Issue(t.Context(), request(t, acme, start)); !fault.Is(err, pki.ReasonKMSWrongKey) {
			t.Errorf("it signed: %v", err)
		}
		issue(t, authority, request(t, globex, start))
	})
}

// TestAHangingKeyServiceHoldsUpNobodyElse: tenants whose keys are elsewhere do not wait while an authority is made.
func TestAHangingKeyServiceHoldsUpNobodyElse(t *testing.T) {
	vault := kmstest.Vault(t, time.Hour)
	b := vault.Backend(t, drivers.All(), ";token-file="+vault.TokenFile(t))
	store := &memory{}
	open(t, store, policy, globex)
	authority := open(t, store, kept(t, b))
	b.Slow(2 * time.Second)
	defer b.Slow(0)
	made := make(chan error, 1)
	go func() { made <- authority.EnsureTenant(t.Context(), acme, start) }()
	for vault.Requests.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	issue(t, authority, request(t, globex, start))
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	b.Slow(0)
	if err := <-made; err != nil {
		t.Error(err)
	}
}

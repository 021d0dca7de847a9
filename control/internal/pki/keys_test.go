// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/shared/identity"
)

const (
	acme   fleet.TenantID = "acme"
	globex fleet.TenantID = "globex"
)

var (
	start  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	policy = pki.Config{TrustDomain: "fleet.example", PublicURL: "http://pki.example:8081/"}
	master = seal.NewMasterKey()
	ring   = seal.NewKeyring(master, nil)
)

// memory keeps signing keys by the contract of pki.Keys.
type memory struct {
	mu   sync.Mutex
	keys []fleet.SigningKey
	full error  // what storing answers, if it shall fail
	race func() // what happens between the first caller's reading and its storing

	asked int64
}

func (m *memory) SigningKeys(_ context.Context, tenant fleet.TenantID) ([]fleet.SigningKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of(tenant), nil
}

func (m *memory) CreateSigningKeys(_ context.Context, tenant fleet.TenantID, keys []fleet.SigningKey) error {
	if race := m.race; race != nil {
		m.race = nil
		race()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full != nil {
		return m.full
	}
	for _, key := range keys {
		if slices.ContainsFunc(m.of(tenant), func(k fleet.SigningKey) bool {
			return k.State == fleet.SigningKeyActive && key.State == fleet.SigningKeyActive && k.Kind == key.Kind
		}) {
			return errors.New("an active key exists")
		}
	}
	m.keys = append(m.keys, keys...)
	return nil
}

// TrustGeneration counts every question, so that keys are read anew by each Refresh.
func (m *memory) TrustGeneration(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	return m.asked, nil
}

func (m *memory) of(tenant fleet.TenantID) []fleet.SigningKey {
	var out []fleet.SigningKey
	for _, key := range m.keys {
		if key.Tenant == tenant {
			out = append(out, key)
		}
	}
	return out
}

// change edits the stored key of a kind, as another process or an intruder would.
func (m *memory) change(tenant fleet.TenantID, kind fleet.SigningKeyKind, edit func(*fleet.SigningKey)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.keys {
		if m.keys[i].Tenant == tenant && m.keys[i].Kind == kind {
			edit(&m.keys[i])
		}
	}
}

// key returns the first stored key of a kind.
func (m *memory) key(t testing.TB, tenant fleet.TenantID, kind fleet.SigningKeyKind) fleet.SigningKey {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range m.of(tenant) {
		if key.Kind == kind {
			return key
		}
	}
	t.Fatalf("tenant %q has no %s", tenant, kind)
	return fleet.SigningKey{}
}

// open returns an authority on the store with the tenants' keys ensured.
func open(t testing.TB, keys pki.Keys, config pki.Config, tenants ...fleet.TenantID) *pki.Authority {
	t.Helper()
	authority, err := pki.Open(t.Context(), config, keys, ring)
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range tenants {
		if err := authority.EnsureTenant(t.Context(), tenant, start); err != nil {
			t.Fatal(err)
		}
	}
	return authority
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// csr signs a request with the key and passes it through CheckCSR.
func csr(t testing.TB, key crypto.Signer, wishes x509.CertificateRequest) pki.Request {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &wishes, key)
	if err != nil {
		t.Fatal(err)
	}
	request, err := pki.CheckCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// request asks for the certificate of a new agent with a new key.
func request(t testing.TB, tenant fleet.TenantID, now time.Time) pki.LeafRequest {
	t.Helper()
	return pki.LeafRequest{
		Tenant: tenant, Agent: fleet.AgentID(identity.NewAgentID()),
		CSR: csr(t, newKey(t), x509.CertificateRequest{}), Now: now,
	}
}

func issue(t testing.TB, authority *pki.Authority, r pki.LeafRequest) (pki.Leaf, *x509.Certificate) {
	t.Helper()
	leaf, err := authority.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return leaf, parse(t, leaf.CertificateDER)
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func bundle(t testing.TB, authority *pki.Authority, tenant fleet.TenantID) pki.Bundle {
	t.Helper()
	b, err := authority.Bundle(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// verify checks a client certificate against a bundle as the gateway does.
func verify(certificate *x509.Certificate, b pki.Bundle, at time.Time) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range b.Roots {
		roots.AddCert(c)
	}
	for _, c := range b.Intermediates {
		intermediates.AddCert(c)
	}
	_, err := certificate.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

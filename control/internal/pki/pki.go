// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package pki certifies: it owns the certificate authority of every tenant and
// issues the certificates by which agents are known. It is built on the step-ca
// library and is the only package that imports it.
//
// Each tenant has a root of its own and, below it, intermediates that sign. Separate
// roots, that no agent certificate descends from, sign the certificates of gateways,
// those by which the control plane shows itself to them, and the development server's.
//
// What is guaranteed:
//   - A leaf says what this package decided and nothing that the request asked
//     for. Of a certificate signing request only the public key survives.
//   - A leaf never outlives its issuer, and carries one name: the SPIFFE ID of one
//     agent of one tenant, signed by that tenant's authority.
//   - Private keys of authorities leave this package only sealed, or never leave a
//     key service (package kms). Keys of agents never enter it.
//   - Nothing is recorded here. A leaf is admitted nowhere until the caller has
//     recorded its serial, in the transaction that spends the token.
//   - Two processes that start at once agree on one authority per tenant.
//   - A key service that is away stops what its keys sign, and nothing else.
//
// An [Authority] is safe for concurrent use.
package pki

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Config is the policy of an [Authority]. Zero values mean the default.
type Config struct {
	// TrustDomain is the host of every SPIFFE ID. Required; it is fixed for the
	// life of an installation.
	TrustDomain string
	// PublicURL is the base of the URLs that leaves carry: "http://host[:port]".
	// Required. It must be plain http: a client that needs the revocation state of
	// a TLS certificate cannot fetch it through TLS (RFC 5280, section 8).
	PublicURL string
	// LeafLifetime is how long an agent's certificate is valid. Default 365 days,
	// at least a minute, and never past the end of the issuer.
	LeafLifetime time.Duration
	// Backdate is how far before its issue a certificate becomes valid, for agents
	// whose clocks are slow. Default 5 minutes, at most a day.
	Backdate time.Duration
	// Algorithm is that of new authority keys. Default [ECDSAP256].
	Algorithm Algorithm
	// KeyServices have the keys that are not in the database, and make the new ones if they are told to; nil: there are
	// none.
	KeyServices *kms.Services
}

const (
	defaultLeafLifetime = 365 * 24 * time.Hour
	defaultBackdate     = 5 * time.Minute
)

// complete fills in the defaults and refuses what could not work, in sentences for
// the operator.
func (c Config) complete() (Config, error) {
	if _, err := identity.ParseTrustDomain(c.TrustDomain); err != nil {
		return c, fmt.Errorf("pki: trust domain %q: %w", c.TrustDomain, err)
	}
	base, err := url.Parse(c.PublicURL)
	if err != nil || base.Scheme != "http" || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return c, fmt.Errorf("pki: public URL %q is not of the form http://host[:port]", c.PublicURL)
	}
	c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	c.LeafLifetime = orDefault(c.LeafLifetime, defaultLeafLifetime)
	c.Backdate = orDefault(c.Backdate, defaultBackdate)
	c.Algorithm = orDefault(c.Algorithm, ECDSAP256)
	switch {
	case c.LeafLifetime < time.Minute:
		return c, fmt.Errorf("pki: leaf lifetime %s is less than a minute", c.LeafLifetime)
	case c.Backdate < 0 || c.Backdate > 24*time.Hour:
		return c, fmt.Errorf("pki: backdate %s is not between 0 and a day", c.Backdate)
	}
	return c, c.Algorithm.Check()
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// Reasons of the faults that this package returns.
const (
	// ReasonCSRInvalid: the request is not one well-formed, self-signed PKCS #10.
	ReasonCSRInvalid = "CSR_INVALID"
	// ReasonCSRKeyRefused: its public key is of a kind or size that is not certified.
	ReasonCSRKeyRefused = "CSR_KEY_REFUSED"
	// ReasonNoAuthority: the tenant has no certificate authority.
	ReasonNoAuthority = "TENANT_HAS_NO_AUTHORITY"
	// ReasonAuthorityExpired: the tenant's active signing key is not valid now.
	ReasonAuthorityExpired = "AUTHORITY_EXPIRED"
	// ReasonKMSUnavailable: the key service that has the signing key cannot be used now.
	ReasonKMSUnavailable = kms.ReasonUnavailable
	// ReasonKMSWrongKey: the key service has another key in its place.
	ReasonKMSWrongKey = kms.ReasonWrongKey
)

// Authority issues certificates for all tenants of an installation.
type Authority struct {
	config Config
	keys   Keys
	ring   *seal.Keyring

	// loading lets one reading of keys happen at a time, so that none replaces what a
	// later one has found.
	loading sync.Mutex
	// creating lets one authority be made at a time, which may wait for a key service.
	creating sync.Mutex
	mu       sync.RWMutex
	lines    map[line]*hierarchy // as last read from keys
	// generation is how many changes of keys there had been when they were last read anew.
	generation int64
}

// Open checks the policy and that the keyring opens what is stored already. It
// creates nothing: [Authority.EnsureTenant] does.
func Open(ctx context.Context, config Config, keys Keys, ring *seal.Keyring) (*Authority, error) {
	config, err := config.complete()
	if err != nil {
		return nil, err
	}
	a := &Authority{config: config, keys: keys, ring: ring, lines: make(map[line]*hierarchy)}
	if _, err := a.hierarchy(ctx, ofInstallation(fleet.SigningKeyServerRoot)); err != nil && !fault.Is(err, ReasonNoAuthority) {
		return nil, err
	}
	return a, nil
}

// EnsureTenant creates the tenant's root and first intermediate if it has no key
// but retired ones, and reads its keys anew in any case, so that it also makes a
// change by another process known here. Calling it again, or in two processes at
// once, is harmless. An authority whose keys exist but none of which is active is
// an error: replacing it is an operator's decision.
func (a *Authority) EnsureTenant(ctx context.Context, tenant fleet.TenantID, now time.Time) error {
	if _, err := identity.ParseTenantID(string(tenant)); err != nil {
		return fmt.Errorf("pki: tenant %q: %w", tenant, err)
	}
	_, err := a.ensure(ctx, ofTenant(tenant), func() ([]fleet.SigningKey, error) { return a.newTenantKeys(ctx, tenant, now) })
	return err
}

// Bundle returns what the tenant's certificates are verified against. The error
// is a fault with [ReasonNoAuthority] for a tenant without an authority.
func (a *Authority) Bundle(ctx context.Context, tenant fleet.TenantID) (Bundle, error) {
	h, err := a.hierarchy(ctx, ofTenant(tenant))
	if err != nil {
		return Bundle{}, err
	}
	return h.bundle, nil
}

// Bundle is a tenant's trust: the certificates of all keys that are not retired.
// Its slices are shared and must not be changed.
type Bundle struct {
	Roots         []*x509.Certificate
	Intermediates []*x509.Certificate
	// PEM holds the roots, then the intermediates; the others one of both.
	PEM, RootsPEM, IntermediatesPEM []byte
}

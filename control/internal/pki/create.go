// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/fault"
)

const (
	rootLifetime         = 10 * 365 * 24 * time.Hour
	intermediateLifetime = 5 * 365 * 24 * time.Hour
)

// ensure reads the authority's keys, after storing what create makes if there are
// none. Who loses the race to store goes on with what the winner stored.
func (a *Authority) ensure(ctx context.Context, l line, create func() ([]fleet.SigningKey, error)) (*hierarchy, error) {
	a.creating.Lock()
	defer a.creating.Unlock()
	h, err := a.reload(ctx, l)
	if !fault.Is(err, ReasonNoAuthority) {
		return h, err
	}
	created, err := create()
	if err != nil {
		return nil, err
	}
	// A key service may have taken its time. What it made is kept, also if the caller has left.
	ctx = context.WithoutCancel(ctx)
	lost := a.keys.CreateSigningKeys(ctx, l.tenant, created)
	if lost != nil {
		a.abandon(created...)
	}
	h, err = a.reload(ctx, l)
	if lost != nil && fault.Is(err, ReasonNoAuthority) {
		return nil, fmt.Errorf("pki: store signing keys: %w", lost)
	}
	return h, err
}

// intermediateUsages: below an intermediate stand agents and its OCSP responder. A stolen key shall not make
// servers that agents or browsers believe.
var intermediateUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageOCSPSigning}

// newTenantKeys makes a root and the intermediate below it, both active.
func (a *Authority) newTenantKeys(ctx context.Context, tenant fleet.TenantID, now time.Time) ([]fleet.SigningKey, error) {
	root, err := a.newKey(ctx, keyRequest{tenant: tenant, kind: fleet.SigningKeyRoot, lifetime: rootLifetime, pathLen: 1, now: now})
	if err != nil {
		return nil, err
	}
	intermediate, err := a.newIntermediate(ctx, tenant, root, a.config.Algorithm, now)
	if err != nil {
		a.abandon(root.stored)
		return nil, err
	}
	return []fleet.SigningKey{root.stored, intermediate.stored}, nil
}

// newIntermediate makes a key that signs for a tenant's agents.
func (a *Authority) newIntermediate(ctx context.Context, tenant fleet.TenantID, root *newKey, algorithm Algorithm, now time.Time) (*newKey, error) {
	return a.newKey(ctx, keyRequest{
		tenant: tenant, kind: fleet.SigningKeyIntermediate, algorithm: algorithm, lifetime: intermediateLifetime, pathLen: 0, now: now, parent: root,
		usages: intermediateUsages,
	})
}

// installed returns an authority of the installation, by the kind of its root, which the
// first process to ask makes: that of gateways certifies clients, every other servers.
func (a *Authority) installed(ctx context.Context, root fleet.SigningKeyKind, now time.Time) (*hierarchy, error) {
	of := ofInstallation(root)
	if h := a.loaded(of); h != nil {
		return h, nil
	}
	usage := x509.ExtKeyUsageServerAuth
	if root == fleet.SigningKeyGatewayRoot {
		usage = x509.ExtKeyUsageClientAuth
	}
	return a.ensure(ctx, of, func() ([]fleet.SigningKey, error) { return a.newRoot(ctx, root, usage, now) })
}

// newRoot makes a root of the installation, which signs leaves of one usage itself.
func (a *Authority) newRoot(ctx context.Context, kind fleet.SigningKeyKind, usage x509.ExtKeyUsage, now time.Time) ([]fleet.SigningKey, error) {
	root, err := a.newKey(ctx, keyRequest{
		tenant: installation, kind: kind, lifetime: rootLifetime, pathLen: 0, now: now, usages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return nil, err
	}
	return []fleet.SigningKey{root.stored}, nil
}

// keyRequest is what differs between the authorities that are made here.
type keyRequest struct {
	tenant    fleet.TenantID
	kind      fleet.SigningKeyKind
	algorithm Algorithm // empty: that of the policy
	lifetime  time.Duration
	pathLen   int
	usages    []x509.ExtKeyUsage // none: unrestricted
	now       time.Time
	parent    *newKey // nil: signed by itself
}

// newKey is a key between its making and its storing.
type newKey struct {
	stored      fleet.SigningKey
	certificate *x509.Certificate
	signer      crypto.Signer
}

// newKey makes a key pair, its certificate and what is stored of it.
func (a *Authority) newKey(ctx context.Context, r keyRequest) (*newKey, error) {
	signer, uri, err := a.generate(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("pki: generate %s key: %w", r.kind, err)
	}
	id, err := keyID(signer.Public())
	if err != nil {
		return nil, err
	}
	stored := fleet.SigningKey{
		ID: id, Tenant: r.tenant, State: fleet.SigningKeyActive, Kind: r.kind, Algorithm: string(orDefault(r.algorithm, a.config.Algorithm)),
		KeyURI: uri, CreatedAt: r.now, ActivatedAt: r.now,
	}
	if r.parent != nil {
		stored.Parent = r.parent.stored.ID
	}
	certificate, err := a.certify(r, id, signer)
	if err != nil {
		a.abandon(stored)
		return nil, fmt.Errorf("pki: certify %s key: %w", r.kind, err)
	}
	stored.CertificateDER = certificate.Raw
	if uri == "" {
		if stored.SealedKey, err = a.sealKey(r.tenant, id, signer); err != nil {
			return nil, err
		}
	}
	return &newKey{stored, certificate, signer}, nil
}

// certify makes the certificate of a new authority.
func (a *Authority) certify(r keyRequest, id fleet.KeyID, signer crypto.Signer) (*x509.Certificate, error) {
	window := window{r.now.Add(-a.config.Backdate), r.now.Add(r.lifetime)}
	if r.parent != nil && window.notAfter.After(r.parent.certificate.NotAfter) {
		window.notAfter = r.parent.certificate.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		// The key id is in the name, because clients look issuers and their CRLs up by
		// name: two generations must never share one.
		Subject:               pkix.Name{Organization: []string{"Ampora"}, CommonName: string(r.kind) + " " + string(id)},
		NotBefore:             window.notBefore,
		NotAfter:              window.notAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            r.pathLen,
		MaxPathLenZero:        r.pathLen == 0,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:           r.usages,
	}
	if r.tenant != installation {
		template.Subject.OrganizationalUnit = []string{string(r.tenant)}
	}
	parent, parentSigner := template, signer
	if r.parent != nil {
		parent, parentSigner = r.parent.certificate, r.parent.signer
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, signer.Public(), parentSigner)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (a *Authority) sealKey(tenant fleet.TenantID, id fleet.KeyID, signer crypto.Signer) ([]byte, error) {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return nil, fmt.Errorf("pki: encode key %s: %w", id, err)
	}
	defer clear(pkcs8)
	sealed, err := a.ring.Wrap(KeyBinding(tenant, id), pkcs8)
	if err != nil {
		return nil, fmt.Errorf("pki: seal key %s: %w", id, err)
	}
	return sealed, nil
}

// keyID names a public key by the first 128 bits of its SHA-256.
func keyID(public crypto.PublicKey) (fleet.KeyID, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("pki: encode public key: %w", err)
	}
	sum := sha256.Sum256(spki)
	return fleet.KeyID(hex.EncodeToString(sum[:16])), nil
}

// newSerial returns a random serial number of 128 bits, positive and within 20
// octets as RFC 5280, section 4.1.2.2, demands.
func newSerial() *big.Int {
	var raw [16]byte
	rand.Read(raw[:]) // never fails, see crypto/rand
	raw[0] |= 0x40    // never zero, and of one length in every encoding
	raw[0] &= 0x7f
	return new(big.Int).SetBytes(raw[:])
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Import is an authority that exists, to certify a tenant's agents from now on, or when its key is activated.
type Import struct {
	Tenant fleet.TenantID
	// Chain is the certificate of the authority, and that of the root above it unless it is one itself.
	Chain []*x509.Certificate
	// Key of the authority; nil: it is the one in a key service that KeyURI names.
	Key    crypto.Signer
	KeyURI string
	Now    time.Time
}

// Imported is what became of it.
type Imported struct {
	// Keys that are stored: a root and an intermediate.
	Keys []fleet.SigningKey
	// Active says that the intermediate signs from now on: the tenant had no authority. Otherwise it is a draft.
	Active bool
	// OCSP says that its usages allow OCSP responders below it.
	OCSP bool
}

// Import takes an authority over. A root gets an intermediate of ours below it, made like those of every other tenant; an
// intermediate comes with the certificate of its root, which is trusted and never signs, since its key is not ours.
// All is checked before anything is stored, by issuing a certificate below it that goes nowhere. Errors are faults with a
// reason that begins with CA_, or those of a key service.
func (a *Authority) Import(ctx context.Context, i Import) (Imported, error) {
	root, err := a.checkChain(i.Chain, i.Now)
	if err != nil {
		return Imported{}, err
	}
	key, err := a.importedKey(ctx, i)
	if err != nil {
		return Imported{}, err
	}
	a.creating.Lock()
	defer a.creating.Unlock()
	there, err := a.keys.SigningKeys(ctx, i.Tenant)
	if err != nil {
		return Imported{}, fmt.Errorf("pki: read signing keys: %w", err)
	}
	if slices.ContainsFunc(there, func(k fleet.SigningKey) bool { return k.ID == key.stored.ID }) {
		return Imported{}, fault.New(fault.AlreadyExists, ReasonCAThere, "the tenant has this key already").With("key", string(key.stored.ID))
	}
	keys, err := a.hierarchyOf(ctx, i, key, root)
	if err != nil {
		return Imported{}, err
	}
	imported := Imported{Active: len(there) == 0, OCSP: !slices.ContainsFunc(i.Chain, without(x509.ExtKeyUsageOCSPSigning))}
	imported.Keys = stateOf(keys, imported.Active, i.Now)
	if err := a.probe(i.Tenant, imported, keys[1].signer, i.Now); err != nil {
		a.abandonMade(i, imported.Keys)
		return Imported{}, err
	}
	if err := a.keys.CreateSigningKeys(context.WithoutCancel(ctx), i.Tenant, imported.Keys); err != nil {
		a.abandonMade(i, imported.Keys)
		return Imported{}, fmt.Errorf("pki: store the imported keys: %w", err)
	}
	_, err = a.reload(ctx, ofTenant(i.Tenant))
	return imported, err
}

// importedKey is the authority's own key, as it will be stored, once it is known to be that of the certificate.
func (a *Authority) importedKey(ctx context.Context, i Import) (*newKey, error) {
	certificate := i.Chain[0]
	algorithm, err := algorithmOf(certificate.PublicKey)
	if err != nil {
		return nil, err
	}
	id, err := keyID(certificate.PublicKey)
	if err != nil {
		return nil, err
	}
	key := &newKey{certificate: certificate, signer: i.Key, stored: fleet.SigningKey{
		ID: id, Tenant: i.Tenant, Kind: fleet.SigningKeyIntermediate, Algorithm: string(algorithm), CertificateDER: certificate.Raw,
		KeyURI: i.KeyURI, CreatedAt: i.Now,
	}}
	if i.KeyURI != "" {
		found, err := a.config.KeyServices.Find(ctx, i.KeyURI)
		if err != nil {
			return nil, err //nolint:wrapcheck // a fault, or a sentence about the URI
		}
		if !kms.Same(found.Public, certificate.PublicKey) {
			return nil, errKeyMismatch
		}
		key.signer = a.config.KeyServices.Signer(i.KeyURI, certificate.PublicKey)
		return key, nil
	}
	if !kms.Same(i.Key.Public(), certificate.PublicKey) {
		return nil, errKeyMismatch
	}
	key.stored.SealedKey, err = a.sealKey(i.Tenant, id, i.Key)
	return key, err
}

// hierarchyOf returns the root and the intermediate that the authority amounts to.
func (a *Authority) hierarchyOf(ctx context.Context, i Import, key *newKey, root *x509.Certificate) ([]*newKey, error) {
	if root != i.Chain[0] {
		id, err := keyID(root.PublicKey)
		if err != nil {
			return nil, err
		}
		above := &newKey{certificate: root, stored: fleet.SigningKey{
			ID: id, Tenant: i.Tenant, Kind: fleet.SigningKeyRoot, Algorithm: root.PublicKeyAlgorithm.String(), CertificateDER: root.Raw, CreatedAt: i.Now,
		}}
		key.stored.Parent = id
		return []*newKey{above, key}, nil
	}
	key.stored.Kind = fleet.SigningKeyRoot
	below, err := a.newKey(ctx, keyRequest{
		tenant: i.Tenant, kind: fleet.SigningKeyIntermediate, lifetime: min(intermediateLifetime, root.NotAfter.Sub(i.Now)), pathLen: 0,
		now: i.Now, parent: key, usages: slices.DeleteFunc(slices.Clone(intermediateUsages), func(usage x509.ExtKeyUsage) bool { return !allows(root, usage) }),
	})
	if err != nil {
		return nil, err
	}
	return []*newKey{key, below}, nil
}

// stateOf says how the root and the intermediate are stored. A root whose key is not ours never signs.
func stateOf(keys []*newKey, active bool, now time.Time) []fleet.SigningKey {
	stored := make([]fleet.SigningKey, len(keys))
	for n, key := range keys {
		stored[n] = key.stored
		k := &stored[n]
		k.State, k.ActivatedAt = fleet.SigningKeyDraft, time.Time{}
		switch {
		case key.signer == nil:
			k.State = fleet.SigningKeyTrusted
		case active:
			k.State, k.ActivatedAt = fleet.SigningKeyActive, now
		}
	}
	return stored
}

// abandonMade tells of the key that was made for an import that failed.
func (a *Authority) abandonMade(i Import, keys []fleet.SigningKey) {
	for _, key := range keys {
		if key.KeyURI != i.KeyURI {
			a.abandon(key)
		}
	}
}

// probe issues a certificate as agents get it and verifies it as gateways do. What it finds wrong is what every agent
// would be refused for.
func (a *Authority) probe(tenant fleet.TenantID, imported Imported, signer crypto.Signer, now time.Time) error {
	trusted, err := parseTrusted(tenant, imported.Keys)
	if err != nil {
		return refuseChain("%s", err)
	}
	below := trusted[slices.IndexFunc(trusted, func(k parsedKey) bool { return k.Kind == fleet.SigningKeyIntermediate })]
	by := newIssuer(below.ID, below.certificate, trusted.rootOf(below), signer)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // like that of any agent
	if err != nil {
		return err
	}
	agent, err := a.agent(LeafRequest{Tenant: tenant, Agent: probed})
	if err != nil {
		return err
	}
	valid, err := by.validity(now, a.config.Backdate, a.config.LeafLifetime)
	if err != nil {
		return err
	}
	leaf, err := by.sign(key.Public(), a.leafTemplate(agent, by, valid))
	switch {
	case fault.Is(err, ReasonKMSUnavailable), fault.Is(err, ReasonKMSWrongKey):
		return err
	case err != nil:
		return refuseCertificate("no certificate can be issued below it: %s", err)
	}
	return verifies(leaf, trusted.bundle(), now)
}

// probed is the agent of a certificate that nobody is given.
const probed fleet.AgentID = "00000000-0000-7000-8000-000000000000"

func verifies(leaf *x509.Certificate, trust Bundle, now time.Time) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range trust.Roots {
		roots.AddCert(root)
	}
	for _, intermediate := range trust.Intermediates {
		intermediates.AddCert(intermediate)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return refuseCertificate("certificates below it would be refused: %s", err)
	}
	return nil
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/shared/fault"
)

// line is one authority: the kind of key that signs its leaves, and the tenant it
// belongs to. A tenant has one; the installation has one for each purpose, so that a
// key for one of them certifies nothing for another.
type line struct {
	tenant fleet.TenantID
	signer fleet.SigningKeyKind
}

// ofTenant is the authority of the tenant's agents.
func ofTenant(tenant fleet.TenantID) line { return line{tenant, fleet.SigningKeyIntermediate} }

// ofInstallation is the authority of no tenant whose root is of the kind.
func ofInstallation(root fleet.SigningKeyKind) line { return line{installation, root} }

// holds says whether a stored key belongs to the authority.
func (l line) holds(key fleet.SigningKey) bool {
	return l.tenant != installation || key.Kind == l.signer
}

// hierarchy is what the stored keys of one authority amount to. It does not change; a
// change of the keys makes a new one.
type hierarchy struct {
	bundle Bundle
	active *issuer
	// issuers are the active one, those whose certificates are still about and those that are to sign, by key.
	issuers map[fleet.KeyID]*issuer
}

// hierarchy returns the authority's keys as last read, or reads them.
func (a *Authority) hierarchy(ctx context.Context, l line) (*hierarchy, error) {
	if h := a.loaded(l); h != nil {
		return h, nil
	}
	a.loading.Lock()
	defer a.loading.Unlock()
	if h := a.loaded(l); h != nil {
		return h, nil
	}
	return a.load(ctx, l)
}

func (a *Authority) loaded(l line) *hierarchy {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.lines[l]
}

// reload reads the authority's keys anew.
func (a *Authority) reload(ctx context.Context, l line) (*hierarchy, error) {
	a.loading.Lock()
	defer a.loading.Unlock()
	return a.load(ctx, l)
}

// load reads the authority's keys and keeps what they amount to. Only authorities that
// exist are kept, so strangers' guesses do not fill the memory. The caller holds
// a.loading.
func (a *Authority) load(ctx context.Context, l line) (*hierarchy, error) {
	keys, err := a.keys.SigningKeys(ctx, l.tenant)
	if err != nil {
		return nil, fmt.Errorf("pki: read signing keys: %w", err)
	}
	keys = slices.DeleteFunc(slices.Clone(keys), func(key fleet.SigningKey) bool { return !l.holds(key) })
	if len(keys) == 0 {
		return nil, fault.New(fault.FailedPrecondition, ReasonNoAuthority, "the tenant has no certificate authority")
	}
	h, err := a.assemble(l, keys)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lines[l] = h
	return h, nil
}

// assemble verifies every key that is not retired and opens those that sign.
// The private key of a tenant's root stays sealed.
func (a *Authority) assemble(l line, keys []fleet.SigningKey) (*hierarchy, error) {
	trusted, err := parseTrusted(l.tenant, keys)
	if err != nil {
		return nil, err
	}
	h := &hierarchy{bundle: trusted.bundle(), issuers: map[fleet.KeyID]*issuer{}}
	for _, key := range trusted {
		active := key.State == fleet.SigningKeyActive
		if key.Kind != l.signer {
			continue
		}
		if active && h.active != nil {
			return nil, fmt.Errorf("pki: tenant %q has two active keys: %s and %s", l.tenant, h.active.keyID, key.ID)
		}
		opened, err := a.openIssuer(key, trusted.rootOf(key))
		if err != nil {
			return nil, fmt.Errorf("pki: open key %s: %w", key.ID, err)
		}
		if h.issuers[key.ID] = opened; active {
			h.active = opened
		}
	}
	if h.active == nil {
		return nil, fmt.Errorf("pki: tenant %q has keys, but none that is active", l.tenant)
	}
	return h, nil
}

// openIssuer makes a key sign. One in a key service is not opened before it does.
func (a *Authority) openIssuer(key parsedKey, root *x509.Certificate) (*issuer, error) {
	signer, err := a.signerOf(key)
	if err != nil {
		return nil, err
	}
	if !kms.Same(key.certificate.PublicKey, signer.Public()) {
		return nil, fmt.Errorf("the private key is not that of the certificate")
	}
	return newIssuer(key.ID, key.certificate, root, signer), nil
}

func (a *Authority) unsealKey(key fleet.SigningKey) (crypto.Signer, error) {
	pkcs8, err := a.ring.Unwrap(KeyBinding(key.Tenant, key.ID), key.SealedKey)
	if err != nil {
		return nil, err
	}
	defer clear(pkcs8)
	private, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, fmt.Errorf("decode private key: %w", err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", private)
	}
	return signer, nil
}

// parsedKey is a stored key with its certificate read.
type parsedKey struct {
	fleet.SigningKey
	certificate *x509.Certificate
}

// trustedKeys are the keys of one tenant that are not retired, oldest first, each
// signed by another one of them or by itself.
type trustedKeys []parsedKey

func parseTrusted(tenant fleet.TenantID, keys []fleet.SigningKey) (trustedKeys, error) {
	var trusted trustedKeys
	for _, key := range keys {
		if key.State == fleet.SigningKeyRetired {
			continue
		}
		certificate, err := x509.ParseCertificate(key.CertificateDER)
		if err != nil {
			return nil, fmt.Errorf("pki: certificate of key %s: %w", key.ID, err)
		}
		if key.Tenant != tenant {
			return nil, fmt.Errorf("pki: key %s belongs to tenant %q, not %q", key.ID, key.Tenant, tenant)
		}
		trusted = append(trusted, parsedKey{key, certificate})
	}
	slices.SortFunc(trusted, func(x, y parsedKey) int {
		return cmp.Or(x.CreatedAt.Compare(y.CreatedAt), cmp.Compare(x.ID, y.ID))
	})
	for _, key := range trusted {
		root := trusted.rootOf(key)
		if root == nil {
			return nil, fmt.Errorf("pki: key %s has no trusted parent", key.ID)
		}
		if err := key.certificate.CheckSignatureFrom(root); err != nil {
			return nil, fmt.Errorf("pki: certificate of key %s was not signed by its parent: %w", key.ID, err)
		}
	}
	return trusted, nil
}

// rootOf returns the certificate that signed the key's: its own for a root, nil if
// the parent is not trusted.
func (t trustedKeys) rootOf(key parsedKey) *x509.Certificate {
	if key.Kind != fleet.SigningKeyIntermediate {
		return key.certificate
	}
	for _, candidate := range t {
		if candidate.Kind == fleet.SigningKeyRoot && candidate.ID == key.Parent {
			return candidate.certificate
		}
	}
	return nil
}

func (t trustedKeys) bundle() Bundle {
	var b Bundle
	for _, key := range t {
		if key.Kind == fleet.SigningKeyIntermediate {
			b.Intermediates = append(b.Intermediates, key.certificate)
		} else {
			b.Roots = append(b.Roots, key.certificate)
		}
	}
	b.RootsPEM, b.IntermediatesPEM = EncodePEM(b.Roots...), EncodePEM(b.Intermediates...)
	b.PEM = slices.Concat(b.RootsPEM, b.IntermediatesPEM)
	return b
}

// EncodePEM returns the certificates as PEM blocks, in the order given.
func EncodePEM(certificates ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range certificates {
		// Writing to memory and a block without headers cannot fail.
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return out.Bytes()
}

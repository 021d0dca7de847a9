// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/fault"
)

// ReasonNoRoot says that the tenant has no root whose private key is here, so nothing can be certified below it.
const ReasonNoRoot = "TENANT_HAS_NO_ROOT"

// Draft makes a key that is to sign for the tenant's agents one day, certified by the tenant's root and never for longer
// than that is valid. It is not stored. An empty algorithm is that of the policy. Errors are faults with
// [ReasonNoAuthority], [ReasonNoRoot] or [ReasonAuthorityExpired]. It may wait for a key service.
func (a *Authority) Draft(ctx context.Context, tenant fleet.TenantID, algorithm Algorithm, now time.Time) (fleet.SigningKey, error) {
	algorithm = orDefault(algorithm, a.config.Algorithm)
	if err := algorithm.Check(); err != nil {
		return fleet.SigningKey{}, err
	}
	root, err := a.openRoot(ctx, tenant)
	if err != nil {
		return fleet.SigningKey{}, err
	}
	if !now.Before(root.certificate.NotAfter) {
		return fleet.SigningKey{}, fault.New(fault.FailedPrecondition, ReasonAuthorityExpired, "the tenant's root is not valid any more").With("key", string(root.stored.ID))
	}
	made, err := a.newIntermediate(ctx, tenant, root, algorithm, now)
	if err != nil {
		return fleet.SigningKey{}, err
	}
	made.stored.State, made.stored.ActivatedAt = fleet.SigningKeyDraft, time.Time{}
	return made.stored, nil
}

// openRoot opens the tenant's root. Its key is used for nothing but to certify the next signing key, so it is opened for
// that alone.
func (a *Authority) openRoot(ctx context.Context, tenant fleet.TenantID) (*newKey, error) {
	keys, err := a.keys.SigningKeys(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("pki: read signing keys: %w", err)
	}
	if len(keys) == 0 {
		return nil, fault.New(fault.FailedPrecondition, ReasonNoAuthority, "the tenant has no certificate authority")
	}
	i := slices.IndexFunc(keys, func(k fleet.SigningKey) bool {
		return k.Kind == fleet.SigningKeyRoot && k.State == fleet.SigningKeyActive && (len(k.SealedKey) > 0 || k.KeyURI != "")
	})
	if i < 0 {
		return nil, fault.New(fault.FailedPrecondition, ReasonNoRoot, "the private key of the tenant's root is not here")
	}
	certificate, err := x509.ParseCertificate(keys[i].CertificateDER)
	if err != nil {
		return nil, fmt.Errorf("pki: certificate of key %s: %w", keys[i].ID, err)
	}
	signer, err := a.signerOf(parsedKey{keys[i], certificate})
	if err != nil {
		return nil, fmt.Errorf("pki: open key %s: %w", keys[i].ID, err)
	}
	return &newKey{keys[i], certificate, signer}, nil
}

// Refresh reads keys anew if any was changed since the last time, by whichever process, and returns how many changes there
// had been before it read. Until it is called, what was read last is used. A hierarchy that cannot be read stays as it was.
func (a *Authority) Refresh(ctx context.Context) (generation int64, err error) {
	if generation, err = a.keys.TrustGeneration(ctx); err != nil {
		return 0, fmt.Errorf("pki: %w", err)
	}
	a.mu.RLock()
	current := a.generation == generation
	a.mu.RUnlock()
	if current {
		return generation, nil
	}
	a.loading.Lock()
	defer a.loading.Unlock()
	var failed []error
	for _, l := range a.known() {
		if _, err := a.load(ctx, l); err != nil {
			failed = append(failed, err)
		}
	}
	if err := errors.Join(failed...); err != nil {
		return 0, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.generation = generation
	return generation, nil
}

// known are the authorities that were read.
func (a *Authority) known() []line {
	a.mu.RLock()
	defer a.mu.RUnlock()
	lines := make([]line, 0, len(a.lines))
	for l := range a.lines {
		lines = append(lines, l)
	}
	return lines
}

// Ends is when the first key ends that signs for agents of a tenant, of those that were read, and whether any was.
func (a *Authority) Ends() (ends time.Time, known bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for l, h := range a.lines {
		if at := h.active.certificate.NotAfter; l.tenant != installation && (!known || at.Before(ends)) {
			ends, known = at, true
		}
	}
	return ends, known
}

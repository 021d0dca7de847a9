// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"crypto/x509"
	"strconv"
	"time"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
)

// signingKeys is the SigningKeyService.
type signingKeys struct {
	store     store.SigningKeys
	authority *pki.Authority
	now       func() time.Time
}

// ListSigningKeys lists all keys, oldest first.
func (s *signingKeys) ListSigningKeys(ctx context.Context, _ *amporav1.ListSigningKeysRequest) (*amporav1.ListSigningKeysResponse, error) {
	uses, err := s.store.SigningKeyUses(ctx, auth.By(ctx).Tenant, s.now())
	return &amporav1.ListSigningKeysResponse{SigningKeys: each(uses, signingKey)}, err
}

// CreateSigningKey makes a draft.
func (s *signingKeys) CreateSigningKey(ctx context.Context, r *amporav1.CreateSigningKeyRequest) (*amporav1.CreateSigningKeyResponse, error) {
	by := auth.By(ctx)
	draft, err := s.authority.Draft(ctx, by.Tenant, algorithms[r.GetAlgorithm()], by.At)
	if err != nil {
		return nil, err
	}
	if err := s.store.AddSigningKey(ctx, by, draft); err != nil {
		return nil, err
	}
	key, err := s.current(ctx, draft.ID)
	return &amporav1.CreateSigningKeyResponse{SigningKey: key}, err
}

// ActivateSigningKey makes a key the one that signs.
func (s *signingKeys) ActivateSigningKey(ctx context.Context, r *amporav1.ActivateSigningKeyRequest) (*amporav1.ActivateSigningKeyResponse, error) {
	key, err := s.change(ctx, fleet.KeyChange{Key: fleet.KeyID(r.GetId()), To: fleet.SigningKeyActive, Force: r.GetForce()})
	return &amporav1.ActivateSigningKeyResponse{SigningKey: key}, err
}

// RetireSigningKey lets go of a key.
func (s *signingKeys) RetireSigningKey(ctx context.Context, r *amporav1.RetireSigningKeyRequest) (*amporav1.RetireSigningKeyResponse, error) {
	key, err := s.change(ctx, fleet.KeyChange{Key: fleet.KeyID(r.GetId()), To: fleet.SigningKeyRetired, Force: r.GetForce()})
	return &amporav1.RetireSigningKeyResponse{SigningKey: key}, err
}

func (s *signingKeys) change(ctx context.Context, c fleet.KeyChange) (*amporav1.SigningKey, error) {
	was, reason, err := s.store.ChangeSigningKey(ctx, auth.By(ctx), c)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return nil, notChanged(reason, c, was)
	}
	return s.current(ctx, c.Key)
}

// current is a key after a change, which this process knows from now on.
func (s *signingKeys) current(ctx context.Context, id fleet.KeyID) (*amporav1.SigningKey, error) {
	if _, err := s.authority.Refresh(ctx); err != nil {
		return nil, err
	}
	uses, err := s.store.SigningKeyUses(ctx, auth.By(ctx).Tenant, s.now())
	if err != nil {
		return nil, err
	}
	for _, u := range uses {
		if u.ID == id {
			return signingKey(u), nil
		}
	}
	return nil, store.ErrNotFound
}

// notChanged says why a key stays as it is.
func notChanged(reason string, c fleet.KeyChange, was fleet.KeyUse) error {
	refused := func(format string, a ...any) error {
		return fault.New(fault.FailedPrecondition, reason, format, a...).With("key", string(c.Key)).With("agents", strconv.Itoa(was.Agents))
	}
	switch reason {
	case fleet.KeyNotConfirmed:
		return refused("%d of %d gateways do not know the key yet: wait for them, or force it", was.Gateways-was.Confirmed, was.Gateways)
	case fleet.KeyInUse:
		return refused("%d agents have no certificate of another key, %d of them are online: renew them first, or force it", was.Agents, was.Online)
	default:
		return refused("a %s key that is %s cannot become %s", was.Kind, was.State, c.To)
	}
}

var algorithms = map[amporav1.SigningKeyAlgorithm]pki.Algorithm{
	amporav1.SigningKeyAlgorithm_SIGNING_KEY_ALGORITHM_ECDSA_P256: pki.ECDSAP256,
	amporav1.SigningKeyAlgorithm_SIGNING_KEY_ALGORITHM_RSA_3072:   pki.RSA3072,
}

var signingKeyStates = map[fleet.SigningKeyState]amporav1.SigningKeyState{
	fleet.SigningKeyDraft:   amporav1.SigningKeyState_SIGNING_KEY_STATE_DRAFT,
	fleet.SigningKeyActive:  amporav1.SigningKeyState_SIGNING_KEY_STATE_ACTIVE,
	fleet.SigningKeyTrusted: amporav1.SigningKeyState_SIGNING_KEY_STATE_TRUSTED,
	fleet.SigningKeyRetired: amporav1.SigningKeyState_SIGNING_KEY_STATE_RETIRED,
}

func signingKey(u fleet.KeyUse) *amporav1.SigningKey {
	key := &amporav1.SigningKey{
		Id: string(u.ID), Kind: string(u.Kind), State: signingKeyStates[u.State], ParentId: string(u.Parent), CreatedAt: moment(u.CreatedAt),
		ActivatedAt: moment(u.ActivatedAt), TrustedAt: moment(u.TrustedAt), RetiredAt: moment(u.RetiredAt), Leaves: int64(u.Leaves),
		DependentAgents: int64(u.Agents), OnlineDependentAgents: int64(u.Online), Gateways: int64(u.Gateways), ConfirmedGateways: int64(u.Confirmed),
	}
	for name, algorithm := range algorithms {
		if string(algorithm) == u.Algorithm {
			key.Algorithm = name
		}
	}
	if certificate, err := x509.ParseCertificate(u.CertificateDER); err == nil { // ours, but a bad one shall not hide the others
		key.NotAfter, key.CertificatePem = moment(certificate.NotAfter), string(pki.EncodePEM(certificate))
	}
	return key
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/identity"
)

// What is here is for the installation's operator, who decides over gateways of several tenants: whoever can run it has
// the database and the master key anyway.

// JoinToken is what IssueJoinToken needs.
type JoinToken struct {
	Database Database
	Keys     Keys
	PKI      PKI
	// KeyServices are as in [Deps].
	KeyServices []kms.Driver
	// Gateway that joins with it, to serve the Tenants, or all of them, now and later, if there are none here.
	Gateway string
	Tenants []string
	TTL     time.Duration // 0 is a day
	Now     time.Time
	Log     *slog.Logger
}

// Check refuses what cannot be, with a sentence.
func (j JoinToken) Check() error {
	if _, err := identity.ParseGatewayID(j.Gateway); err != nil {
		return fmt.Errorf("--gateway: %w", err)
	}
	for _, tenant := range j.Tenants {
		if _, err := identity.ParseTenantID(tenant); err != nil {
			return fmt.Errorf("--tenant: %w", err)
		}
	}
	if j.TTL != 0 && (j.TTL < fleet.JoinTokenMinTTL || j.TTL > fleet.JoinTokenMaxTTL) {
		return fmt.Errorf("--ttl: a join token lives from %s to %s", fleet.JoinTokenMinTTL, fleet.JoinTokenMaxTTL)
	}
	if j.PKI.TrustDomain == "" {
		return errors.New("AMPORA_TRUST_DOMAIN is required: that of the installation")
	}
	return nil
}

// IssueJoinToken makes a join token and returns its secret, which is not stored anywhere, and the root in PEM that the
// gateway verifies the control plane with.
func IssueJoinToken(ctx context.Context, j JoinToken) (secret identity.Token, controlCA []byte, err error) {
	db, err := openStore(ctx, j.Database, j.Log)
	if err != nil {
		return identity.Token{}, nil, err
	}
	defer func() { _ = db.Close() }()
	if controlCA, err = controlRoot(ctx, j, db); err != nil {
		return identity.Token{}, nil, err
	}
	secret = identity.NewToken(identity.GatewayToken)
	token, err := j.token(secret)
	if err != nil {
		return identity.Token{}, nil, err
	}
	err = db.IssueJoinToken(ctx, fleet.System("", j.Now), token)
	if errors.Is(err, store.ErrNotFound) {
		return identity.Token{}, nil, fmt.Errorf("--tenant: there is no such tenant: %w", err)
	}
	if err != nil {
		return identity.Token{}, nil, fmt.Errorf("issue the join token: %w", err)
	}
	return secret, controlCA, nil
}

func controlRoot(ctx context.Context, j JoinToken, db store.Store) ([]byte, error) {
	ring, err := openKeyring(ctx, j.Keys, db)
	if err != nil {
		return nil, err
	}
	if err := fixTrustDomain(ctx, db, j.PKI.TrustDomain); err != nil {
		return nil, err
	}
	services, err := j.PKI.keyServices(j.KeyServices, j.Log, noop.Meter{})
	if err != nil {
		return nil, err
	}
	defer services.Close()
	authority, err := j.PKI.authority(ctx, services, db, ring)
	if err != nil {
		return nil, err
	}
	trust, err := authority.ControlTrust(ctx, j.Now)
	if err != nil {
		return nil, err
	}
	return trust.PEM, nil
}

func (j JoinToken) token(secret identity.Token) (fleet.JoinToken, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return fleet.JoinToken{}, fmt.Errorf("token id: %w", err)
	}
	scope := fleet.Scope{Every: len(j.Tenants) == 0}
	if !scope.Every {
		tenants := make([]fleet.TenantID, len(j.Tenants))
		for i, tenant := range j.Tenants {
			tenants[i] = fleet.TenantID(tenant)
		}
		scope = fleet.ScopeOf(tenants...)
	}
	life := j.TTL
	if life == 0 {
		life = fleet.JoinTokenDefaultTTL
	}
	return fleet.JoinToken{
		ID: fleet.TokenID(id.String()), Hash: secret.Hash(), Gateway: fleet.GatewayID(j.Gateway), Scope: scope,
		CreatedBy: "ampora-control join-token", CreatedAt: j.Now, ExpiresAt: j.Now.Add(life),
	}, nil
}

// Revocation is what RevokeGateway needs.
type Revocation struct {
	Database Database
	Gateway  string
	Now      time.Time
	Log      *slog.Logger
}

// RevokeGateway refuses a gateway, whomever it serves, from now on.
func RevokeGateway(ctx context.Context, r Revocation) error {
	db, err := openStore(ctx, r.Database, r.Log)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.RevokeGateway(ctx, fleet.System("", r.Now), fleet.GatewayID(r.Gateway))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("there is no gateway %q", r.Gateway)
	case errors.Is(err, store.ErrState):
		return fmt.Errorf("the gateway %q is revoked already", r.Gateway)
	case err != nil:
		return fmt.Errorf("revoke the gateway: %w", err)
	default:
		return nil
	}
}

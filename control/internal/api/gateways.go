// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/identity"
)

// ReasonShared says that a gateway is not the caller's tenant's alone to decide over.
const ReasonShared = "GATEWAY_SHARED"

func shared() error {
	return fault.New(fault.PermissionDenied, ReasonShared, "a gateway of this name serves other tenants: only the installation's operator decides over it")
}

// gateways is the GatewayService.
type gateways struct{ store store.Gateways }

// ListGateways lists by id.
func (s *gateways) ListGateways(ctx context.Context, r *amporav1.ListGatewaysRequest) (*amporav1.ListGatewaysResponse, error) {
	by := auth.By(ctx)
	page, err := pageOf(listGateways, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.Gateways(ctx, by.Tenant, page)
	return &amporav1.ListGatewaysResponse{Gateways: each(list, gatewayFor(by)), NextPageToken: place(listGateways, next)}, err
}

// GetGateway returns one that may serve the tenant.
func (s *gateways) GetGateway(ctx context.Context, r *amporav1.GetGatewayRequest) (*amporav1.GetGatewayResponse, error) {
	by := auth.By(ctx)
	g, err := s.store.GatewayOf(ctx, by.Tenant, fleet.GatewayID(r.GetId()))
	return &amporav1.GetGatewayResponse{Gateway: gatewayFor(by)(g)}, err
}

// RevokeGateway refuses a gateway of the tenant alone.
func (s *gateways) RevokeGateway(ctx context.Context, r *amporav1.RevokeGatewayRequest) (*amporav1.RevokeGatewayResponse, error) {
	by, id := auth.By(ctx), fleet.GatewayID(r.GetId())
	g, err := s.store.GatewayOf(ctx, by.Tenant, id)
	if err != nil {
		return nil, err
	}
	if !g.Scope.Alone(by.Tenant) {
		return nil, shared()
	}
	g, err = s.store.RevokeGateway(ctx, by, id)
	return &amporav1.RevokeGatewayResponse{Gateway: gatewayFor(by)(g)}, err
}

// joinTokens is the JoinTokenService.
type joinTokens struct {
	store     store.Gateways
	authority *pki.Authority
}

// IssueJoinToken makes a token for a gateway of the tenant alone, and shows its secret. Whether the name is still free
// when the gateway joins is for the store to say.
func (s *joinTokens) IssueJoinToken(ctx context.Context, r *amporav1.IssueJoinTokenRequest) (*amporav1.IssueJoinTokenResponse, error) {
	by, secret := auth.By(ctx), identity.NewToken(identity.GatewayToken)
	token := fleet.JoinToken{
		ID: newID[fleet.TokenID](), Hash: secret.Hash(), Gateway: fleet.GatewayID(r.GetGatewayId()), Scope: fleet.ScopeOf(by.Tenant),
		Tenant: by.Tenant, CreatedBy: by.Principal.Name, CreatedAt: by.At, ExpiresAt: by.At.Add(ttl(r.GetTtl(), fleet.JoinTokenDefaultTTL)),
	}
	known, err := s.store.Gateway(ctx, token.Gateway)
	switch {
	case err == nil && !known.Scope.Alone(by.Tenant):
		return nil, shared()
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	trust, err := s.authority.ControlTrust(ctx, by.At)
	if err != nil {
		return nil, err
	}
	if err := s.store.IssueJoinToken(ctx, by, token); err != nil {
		return nil, err
	}
	return &amporav1.IssueJoinTokenResponse{Token: joinTokenAt(by.At)(token), Secret: secret.Reveal(), ControlCaPem: trust.PEM}, nil
}

// ListJoinTokens lists newest first.
func (s *joinTokens) ListJoinTokens(ctx context.Context, r *amporav1.ListJoinTokensRequest) (*amporav1.ListJoinTokensResponse, error) {
	by := auth.By(ctx)
	page, err := pageOf(listJoinTokens, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.JoinTokens(ctx, by.Tenant, page)
	return &amporav1.ListJoinTokensResponse{Tokens: each(list, joinTokenAt(by.At)), NextPageToken: place(listJoinTokens, next)}, err
}

// RevokeJoinToken kills a token.
func (s *joinTokens) RevokeJoinToken(ctx context.Context, r *amporav1.RevokeJoinTokenRequest) (*amporav1.RevokeJoinTokenResponse, error) {
	by := auth.By(ctx)
	token, err := s.store.RevokeJoinToken(ctx, by, fleet.TokenID(r.GetId()))
	return &amporav1.RevokeJoinTokenResponse{Token: joinTokenAt(by.At)(token)}, err
}

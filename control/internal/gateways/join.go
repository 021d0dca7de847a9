// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateways

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/identity"
)

// ReasonJoinToken stands for all that can be wrong with a join token: the caller is told no more.
const ReasonJoinToken = "JOIN_TOKEN_INVALID" //nolint:gosec // a reason, no credential

func joinRefused(cause error) error {
	return fault.New(fault.Unauthenticated, ReasonJoinToken, "the join token is not valid").WithCause(cause)
}

// Join trades a join token for a gateway's certificate. As for agents, it is signed outside of any transaction, and what
// was not recorded is never admitted.
func (s *Service) Join(ctx context.Context, r *internalv1.JoinRequest) (*internalv1.JoinResponse, error) {
	token, err := s.joinToken(ctx, r.GetToken())
	if err != nil {
		return nil, err
	}
	now := s.d.Now()
	csr, leaf, err := s.certify(ctx, token.Gateway, r.GetCsrPem(), now)
	if err != nil {
		return nil, err
	}
	_, err = s.d.Gateways.Join(ctx, store.Joining{
		Token: token.ID, PublicKey: csr, Serial: leaf.Serial, NotAfter: leaf.NotAfter, At: now, Source: peerOf(ctx),
	})
	switch {
	case errors.Is(err, store.ErrState), errors.Is(err, store.ErrConflict):
		return nil, joinRefused(err)
	case err != nil:
		return nil, fmt.Errorf("join: %w", err)
	}
	return &internalv1.JoinResponse{
		GatewayId: string(token.Gateway), CertificateChainPem: leaf.ChainPEM, NotAfter: timestamppb.New(leaf.NotAfter),
	}, nil
}

// joinToken finds the token behind a secret. Whether it may still be used is for the store to say, in the transaction
// that uses it.
func (s *Service) joinToken(ctx context.Context, secret string) (fleet.JoinToken, error) {
	parsed, err := identity.ParseToken(identity.GatewayToken, secret)
	if err != nil {
		return fleet.JoinToken{}, joinRefused(err)
	}
	hash := parsed.Hash()
	token, err := s.d.Gateways.JoinTokenByHash(ctx, hash)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fleet.JoinToken{}, joinRefused(err)
	case err != nil:
		return fleet.JoinToken{}, fmt.Errorf("join token: %w", err)
	case subtle.ConstantTimeCompare(token.Hash[:], hash[:]) != 1:
		return fleet.JoinToken{}, joinRefused(store.ErrNotFound)
	}
	// A dead token costs no signature.
	if state := token.State(s.d.Now()); state != fleet.TokenLive && state != fleet.TokenRedeemed {
		return fleet.JoinToken{}, joinRefused(store.ErrState)
	}
	return token, nil
}

// RenewIdentity certifies a new key of the caller.
func (s *Service) RenewIdentity(ctx context.Context, r *internalv1.RenewIdentityRequest) (*internalv1.RenewIdentityResponse, error) {
	by, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	_, leaf, err := s.certify(ctx, by.id, r.GetCsrPem(), s.d.Now())
	if err != nil {
		return nil, err
	}
	if err := s.d.Gateways.RenewGateway(ctx, by.id, by.serial, leaf.Serial, leaf.NotAfter); err != nil {
		return nil, fmt.Errorf("renew the gateway's certificate: %w", err)
	}
	return &internalv1.RenewIdentityResponse{CertificateChainPem: leaf.ChainPEM, NotAfter: timestamppb.New(leaf.NotAfter)}, nil
}

// certify signs a gateway's certificate and names the key it is for.
func (s *Service) certify(ctx context.Context, gateway fleet.GatewayID, csrPEM []byte, now time.Time) (key [sha256.Size]byte, leaf pki.Leaf, err error) {
	csr, err := pki.CheckCSR(csrPEM)
	if err != nil {
		return key, leaf, err
	}
	leaf, err = s.d.Authority.IssueGateway(ctx, pki.GatewayRequest{Gateway: gateway, CSR: csr, Now: now})
	return csr.KeyHash(), leaf, err
}

// peerOf is the address of the caller.
func peerOf(ctx context.Context) string {
	if info, ok := connect.CallInfoForServerContext(ctx); ok {
		return info.PeerAddr
	}
	return ""
}

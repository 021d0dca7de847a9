// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"strings"
	"time"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Reasons of an unauthenticated call.
const (
	ReasonTokenMissing = "TOKEN_MISSING"
	// ReasonTokenInvalid stands for all that can be wrong with a token: the caller is told no more.
	ReasonTokenInvalid = "TOKEN_INVALID"
)

// What is wrong with a token, for the log.
var (
	errScheme  = errors.New("the Authorization header is not one bearer token")
	errUnknown = errors.New("no such token")
	errExpired = errors.New("the token has expired")
	errRevoked = errors.New("the token was revoked")
)

func tokenMissing(cause error) error {
	return fault.New(fault.Unauthenticated, ReasonTokenMissing, "an API token is needed: Authorization: Bearer amp-pat.…").WithCause(cause)
}

func tokenInvalid(cause error) error {
	return fault.New(fault.Unauthenticated, ReasonTokenInvalid, "the API token is not valid").WithCause(cause)
}

// principal finds who calls. A token that is presented decides alone: a bad one is never overlooked in favour of the
// development login. With the error of a token that was good once comes its principal, for the audit log.
func (g *gate) principal(ctx context.Context, spec connect.Spec, now time.Time) (fleet.Principal, error) {
	access, _ := Declared(spec.Schema)
	info, ok := connect.CallInfoForServerContext(ctx)
	if !ok {
		return fleet.Principal{}, tokenMissing(nil)
	}
	presented := info.RequestHeader().Values("Authorization")
	switch {
	case access.GetPoolSecret():
		return g.poolPrincipal(ctx, presented, now)
	case len(presented) > 0:
		return g.tokenPrincipal(ctx, presented, now)
	}
	if !g.Development {
		return fleet.Principal{}, tokenMissing(nil)
	}
	if err := developmentCall(info); err != nil {
		return fleet.Principal{}, tokenMissing(err)
	}
	return developer(g.DevelopmentTenant), nil
}

func (g *gate) tokenPrincipal(ctx context.Context, presented []string, now time.Time) (fleet.Principal, error) {
	hash, err := bearer(identity.APIToken, presented)
	if err != nil {
		return fleet.Principal{}, tokenInvalid(err)
	}
	stored, err := g.Tokens.APITokenByHash(ctx, hash)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fleet.Principal{}, tokenInvalid(errUnknown)
	case err != nil:
		return fleet.Principal{}, err
	case subtle.ConstantTimeCompare(stored.Hash[:], hash[:]) != 1:
		return fleet.Principal{}, tokenInvalid(errUnknown)
	}
	return tokenOwner(stored), tokenAlive(stored, now)
}

// bearer is the hash of the one token of a kind in the values of an Authorization header.
func bearer(kind identity.TokenKind, presented []string) ([32]byte, error) {
	scheme, secret, found := strings.Cut(presented[0], " ")
	if len(presented) != 1 || !found || !strings.EqualFold(scheme, "Bearer") { // RFC 6750, section 2.1; RFC 9110, section 11.1
		return [32]byte{}, errScheme
	}
	token, err := identity.ParseToken(kind, secret)
	if err != nil {
		return [32]byte{}, err //nolint:wrapcheck // for the log, beside what it is about
	}
	return token.Hash(), nil
}

// tokenOwner is the principal a token stands for.
func tokenOwner(t fleet.APIToken) fleet.Principal {
	return fleet.Principal{
		Kind: fleet.PrincipalAPIToken, ID: string(t.ID), Name: t.Name,
		Tenant: t.Tenant, Role: t.Role, Procedures: t.Procedures,
	}
}

func tokenAlive(t fleet.APIToken, now time.Time) error {
	switch t.State(now) {
	case fleet.TokenLive:
		return nil
	case fleet.TokenExpired:
		return tokenInvalid(errExpired)
	default:
		return tokenInvalid(errRevoked)
	}
}

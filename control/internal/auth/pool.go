// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/identity"
)

// errFormer is for the log, as those of other tokens are.
var errFormer = errors.New("the pool is deleted, or the secret is a former one")

// poolPrincipal is the pool whose secret is presented. Whoever presents another hears the same, whatever is wrong with it.
// A pool that is disabled is one all the same: who has its secret may know.
func (g *gate) poolPrincipal(ctx context.Context, presented []string, now time.Time) (fleet.Principal, error) {
	if len(presented) == 0 {
		return fleet.Principal{}, fault.New(fault.Unauthenticated, ReasonTokenMissing, "the secret of a token pool is needed: Authorization: Bearer amp-pool.…")
	}
	hash, err := bearer(identity.PoolToken, presented)
	if err != nil {
		return fleet.Principal{}, poolInvalid(err)
	}
	pool, err := g.Tokens.TokenPoolByHash(ctx, hash)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fleet.Principal{}, poolInvalid(errUnknown)
	case err != nil:
		return fleet.Principal{}, err
	}
	principal := fleet.Principal{Kind: fleet.PrincipalTokenPool, ID: string(pool.ID), Name: pool.Name, Tenant: pool.Tenant}
	if !pool.Accepts(hash, now) {
		return principal, poolInvalid(errFormer)
	}
	return principal, nil
}

func poolInvalid(cause error) error {
	return fault.New(fault.Unauthenticated, ReasonTokenInvalid, "the secret of the token pool is not valid").WithCause(cause)
}

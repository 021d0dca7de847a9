// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"context"
	"math"
	"strconv"
	"time"

	"connectrpc.com/connect/v2"
	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/instrument"
)

// tokenPools is the TokenPoolService.
type tokenPools struct {
	store    store.TokenPools
	now      func() time.Time
	opampURL string
	draws    instrument.Counter
}

// CreateTokenPool makes a pool and shows its secret.
func (s *tokenPools) CreateTokenPool(ctx context.Context, r *amporav1.CreateTokenPoolRequest) (*amporav1.CreateTokenPoolResponse, error) {
	by, secret := auth.By(ctx), identity.NewToken(identity.PoolToken)
	pool, err := s.store.CreateTokenPool(ctx, by, fleet.TokenPool{
		ID: newID[fleet.PoolID](), Tenant: by.Tenant, Name: r.GetName(), Description: r.GetDescription(), Group: fleet.GroupID(r.GetGroupId()), Tags: r.GetTags(),
		TTL: ttl(r.GetTtl(), fleet.PoolDefaultTTL).Truncate(time.Second), LiveLimit: int(r.GetLiveLimit()),
		PerHour: cmp.Or(int(r.GetPerHour()), fleet.PoolDefaultPerHour), Burst: cmp.Or(int(r.GetBurst()), fleet.PoolDefaultBurst),
		Hash: secret.Hash(), RotatedAt: by.At, CreatedBy: by.Principal.Name, CreatedAt: by.At,
	})
	if err != nil {
		return nil, err
	}
	return &amporav1.CreateTokenPoolResponse{Pool: tokenPoolAt(by.At)(pool), Secret: secret.Reveal()}, nil
}

// ListTokenPools lists by name.
func (s *tokenPools) ListTokenPools(ctx context.Context, r *amporav1.ListTokenPoolsRequest) (*amporav1.ListTokenPoolsResponse, error) {
	by := auth.By(ctx)
	page, err := pageOf(listTokenPools, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.TokenPools(ctx, by.Tenant, by.At, page)
	return &amporav1.ListTokenPoolsResponse{Pools: each(list, tokenPoolAt(by.At)), NextPageToken: place(listTokenPools, next)}, err
}

// GetTokenPool finds one by id or name.
func (s *tokenPools) GetTokenPool(ctx context.Context, r *amporav1.GetTokenPoolRequest) (*amporav1.GetTokenPoolResponse, error) {
	by := auth.By(ctx)
	pool, err := s.store.TokenPool(ctx, by.Tenant, r.GetPool(), by.At)
	return &amporav1.GetTokenPoolResponse{Pool: tokenPoolAt(by.At)(pool)}, err
}

// UpdateTokenPool changes what is given.
func (s *tokenPools) UpdateTokenPool(ctx context.Context, r *amporav1.UpdateTokenPoolRequest) (*amporav1.UpdateTokenPoolResponse, error) {
	by := auth.By(ctx)
	change := fleet.PoolChange{
		Description: r.Description, Disabled: r.Disabled,
		LiveLimit: whole(r.LiveLimit), PerHour: whole(r.PerHour), Burst: whole(r.Burst),
	}
	if r.GroupId != nil {
		group := fleet.GroupID(r.GetGroupId())
		change.Group = &group
	}
	if r.GetTags() != nil {
		tags := fleet.Tags(r.GetTags().GetTags())
		change.Tags = &tags
	}
	if r.GetTtl() != nil {
		life := r.GetTtl().AsDuration().Truncate(time.Second)
		change.TTL = &life
	}
	pool, err := s.store.UpdateTokenPool(ctx, by, fleet.PoolID(r.GetId()), change)
	return &amporav1.UpdateTokenPoolResponse{Pool: tokenPoolAt(by.At)(pool)}, err
}

func whole(n *int32) *int {
	if n == nil {
		return nil
	}
	i := int(*n)
	return &i
}

// RotateTokenPoolSecret makes another secret and shows it.
func (s *tokenPools) RotateTokenPoolSecret(ctx context.Context, r *amporav1.RotateTokenPoolSecretRequest) (*amporav1.RotateTokenPoolSecretResponse, error) {
	by, secret := auth.By(ctx), identity.NewToken(identity.PoolToken)
	var until time.Time
	if overlap := r.GetOverlap().AsDuration(); overlap > 0 {
		until = by.At.Add(overlap)
	}
	pool, err := s.store.RotateTokenPool(ctx, by, fleet.PoolID(r.GetId()), secret.Hash(), until)
	if err != nil {
		return nil, err
	}
	return &amporav1.RotateTokenPoolSecretResponse{Pool: tokenPoolAt(by.At)(pool), Secret: secret.Reveal()}, nil
}

// DeleteTokenPool ends a pool, and its tokens that nobody redeemed.
func (s *tokenPools) DeleteTokenPool(ctx context.Context, r *amporav1.DeleteTokenPoolRequest) (*amporav1.DeleteTokenPoolResponse, error) {
	revoked, err := s.store.DeleteTokenPool(ctx, auth.By(ctx), fleet.PoolID(r.GetId()))
	return &amporav1.DeleteTokenPoolResponse{RevokedTokens: int32(revoked)}, err //nolint:gosec // bounded by the live limit and the rate
}

// DrawToken makes a token for whoever has the secret of the pool, which is the caller. Rates of several processes are held
// to one clock, the database's.
func (s *tokenPools) DrawToken(ctx context.Context, r *amporav1.DrawTokenRequest) (*amporav1.DrawTokenResponse, error) {
	by, secret := auth.By(ctx), identity.NewToken(identity.BootstrapToken)
	by.At = s.now()
	drawn, err := s.store.DrawToken(ctx, by, fleet.PoolID(by.Principal.ID), fleet.BootstrapToken{
		ID: newID[fleet.TokenID](), Hash: secret.Hash(), Description: r.GetDescription(), CreatedBy: by.Principal.Name,
	})
	if err != nil {
		return nil, err
	}
	s.draws.Add(ctx, 1, outcomeOf(drawn))
	if drawn.Reason != "" {
		return nil, notDrawn(ctx, drawn)
	}
	return &amporav1.DrawTokenResponse{
		Secret: secret.Reveal(), TokenId: string(drawn.Token.ID), ExpiresAt: moment(drawn.Token.ExpiresAt), OpampUrl: s.opampURL,
	}, nil
}

// newDraws counts what became of draws.
func newDraws(meter metric.Meter) (instrument.Counter, error) {
	made := instrument.On(meter)
	draws := made.Counter("ampora_control_token_pool_draws", "{draw}", "Draws from token pools, by what became of them.",
		instrument.By("outcome", outcomeDrawn, fleet.RefusedPoolRateLimited, fleet.RefusedPoolExhausted, fleet.RefusedPoolDisabled))
	return draws, made.Err()
}

const outcomeDrawn = "drawn"

func outcomeOf(v fleet.DrawVerdict) string { return cmp.Or(v.Reason, outcomeDrawn) }

// notDrawn says why a pool hands out nothing, and when it is worth asking again: in the error, and in the header that
// clients of HTTP know (RFC 9110, section 10.2.3).
func notDrawn(ctx context.Context, v fleet.DrawVerdict) error {
	switch v.Reason {
	case fleet.RefusedPoolDisabled:
		return fault.New(fault.FailedPrecondition, v.Reason, "the token pool is disabled")
	case fleet.RefusedPoolExhausted:
		return fault.New(fault.ResourceExhausted, v.Reason, "as many tokens of the pool are live as may be: some must be redeemed, or expire")
	default:
		seconds := strconv.Itoa(int(math.Ceil(v.RetryAfter.Seconds())))
		if info, ok := connect.CallInfoForServerContext(ctx); ok {
			info.ResponseHeader().Set("Retry-After", seconds)
		}
		return fault.New(fault.ResourceExhausted, v.Reason, "the token pool has handed out as many tokens as it may for now").
			With("retry_after_seconds", seconds)
	}
}

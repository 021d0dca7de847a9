// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"errors"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

func TestOfRedemption(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	live := fleet.BootstrapToken{CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
	with := func(edit func(*fleet.BootstrapToken)) fleet.BootstrapToken {
		token := live
		edit(&token)
		return token
	}
	for name, c := range map[string]struct {
		token    fleet.BootstrapToken
		identity fleet.AgentID
		want     error
	}{
		"live":                 {live, "", nil},
		"redeemed":             {with(func(t *fleet.BootstrapToken) { t.RedeemedAt = now }), "", store.ErrConflict},
		"redeemed for another": {with(func(t *fleet.BootstrapToken) { t.RedeemedAt, t.For = now, "b" }), "a", store.ErrConflict},
		"revoked":              {with(func(t *fleet.BootstrapToken) { t.RevokedAt = now }), "", store.ErrState},
		"over":                 {with(func(t *fleet.BootstrapToken) { t.ExpiresAt = now }), "", store.ErrState},
		"for the identity":     {with(func(t *fleet.BootstrapToken) { t.For = "a" }), "a", nil},
		"for another":          {with(func(t *fleet.BootstrapToken) { t.For = "b" }), "a", store.ErrState},
		"for none":             {live, "a", store.ErrState},
		"not for a new one":    {with(func(t *fleet.BootstrapToken) { t.For = "a" }), "", store.ErrState},
	} {
		if err := verdict.OfRedemption(c.token, c.identity, now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestOfReturn(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for name, c := range map[string]struct {
		on            verdict.Returning
		without, with string
	}{
		"whose certificates are over": {},
		"with a good one":             {on: verdict.Returning{Good: 1}, without: fleet.RefusedHasCertificate},
		"revoked":                     {on: verdict.Returning{Revoked: 1}, without: fleet.RefusedWasRevoked},
		"revoked, with a good one":    {on: verdict.Returning{Good: 1, Revoked: 1}, without: fleet.RefusedWasRevoked},
		"quarantined":                 {on: verdict.Returning{QuarantinedAt: now}, without: fleet.RefusedQuarantined, with: fleet.RefusedQuarantined},
		"a child":                     {on: verdict.Returning{Parent: "p", QuarantinedAt: now}, without: fleet.RefusedChild, with: fleet.RefusedChild},
	} {
		if got := verdict.OfReturn(c.on, false); got != c.without {
			t.Errorf("%s: %q, want %q", name, got, c.without)
		}
		if got := verdict.OfReturn(c.on, true); got != c.with {
			t.Errorf("%s, replacing: %q, want %q", name, got, c.with)
		}
	}
}

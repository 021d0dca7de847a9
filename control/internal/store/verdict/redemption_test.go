// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"errors"
	"slices"
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
	good, retired := fleet.Certificate{Serial: "1"}, fleet.Certificate{Serial: "2", KeyRetired: true}
	revoked := fleet.Certificate{Serial: "3", RevokedAt: now, Reason: fleet.ReasonKeyCompromise}
	superseded := fleet.Certificate{Serial: "4", RevokedAt: now, Reason: fleet.ReasonSuperseded}
	of := func(certificates ...fleet.Certificate) verdict.Returning {
		return verdict.Returning{Certificates: certificates}
	}
	keyed := func(shown fleet.Serial, certificates ...fleet.Certificate) verdict.Returning {
		return verdict.Returning{Method: fleet.EnrolledByServerKey, Shown: shown, Certificates: certificates}
	}
	for name, c := range map[string]struct {
		on            verdict.Returning
		without, with string
		lost          []fleet.Serial
	}{
		"whose certificates are over":           {},
		"with a good one":                       {on: of(superseded, good), without: fleet.RefusedHasCertificate},
		"of a retired key":                      {on: of(retired)},
		"superseded":                            {on: of(superseded)},
		"revoked":                               {on: of(revoked), without: fleet.RefusedWasRevoked},
		"revoked, with a good one":              {on: of(good, revoked), without: fleet.RefusedWasRevoked},
		"quarantined":                           {on: verdict.Returning{QuarantinedAt: now}, without: fleet.RefusedQuarantined, with: fleet.RefusedQuarantined},
		"a child":                               {on: verdict.Returning{Parent: "p", QuarantinedAt: now}, without: fleet.RefusedChild, with: fleet.RefusedChild},
		"keyed, with one that it shows":         {on: keyed("1", good), without: fleet.RefusedHasCertificate},
		"keyed, never seen":                     {on: keyed("", good), without: fleet.RefusedHasCertificate},
		"keyed, with one that it did not take":  {on: keyed("9", retired, good), lost: []fleet.Serial{"1"}},
		"keyed, with one taken and one revoked": {on: keyed("9", good, revoked), without: fleet.RefusedWasRevoked},
	} {
		if got, lost := verdict.OfReturn(c.on, false); got != c.without || !slices.Equal(lost, c.lost) {
			t.Errorf("%s: %q and lost %v, want %q and %v", name, got, lost, c.without, c.lost)
		}
		if got, lost := verdict.OfReturn(c.on, true); got != c.with || lost != nil {
			t.Errorf("%s, replacing: %q and lost %v, want %q", name, got, lost, c.with)
		}
	}
}

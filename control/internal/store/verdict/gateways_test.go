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

func TestOfJoin(t *testing.T) {
	key, otherKey := [32]byte{1}, [32]byte{2}
	live := fleet.JoinToken{Gateway: "gw", Scope: fleet.ScopeOf("acme"), Tenant: "acme", ExpiresAt: now.Add(time.Hour)}
	used := live
	used.UsedAt, used.PublicKey = now.Add(-time.Minute), key
	joined := fleet.Gateway{ID: "gw", Scope: live.Scope, JoinedAt: used.UsedAt}
	for name, c := range map[string]struct {
		token   fleet.JoinToken
		gateway fleet.Gateway
		change  func(j *store.Joining, t *fleet.JoinToken, g *fleet.Gateway)
		refused bool
	}{
		"a new name":        {token: live},
		"a name of its own": {token: live, gateway: joined},
		"revoked before":    {token: live, gateway: joined, change: func(_ *store.Joining, _ *fleet.JoinToken, g *fleet.Gateway) { g.RevokedAt = now }},
		"a revoked token":   {token: live, change: func(_ *store.Joining, t *fleet.JoinToken, _ *fleet.Gateway) { t.RevokedAt = now }, refused: true},
		"an expired token":  {token: live, change: func(j *store.Joining, _ *fleet.JoinToken, _ *fleet.Gateway) { j.At = live.ExpiresAt }, refused: true},
		"the gateway of another tenant": {token: live, gateway: joined, change: func(_ *store.Joining, _ *fleet.JoinToken, g *fleet.Gateway) {
			g.Scope = fleet.ScopeOf("theirs")
		}, refused: true},
		"a gateway of others too": {token: live, gateway: joined, change: func(_ *store.Joining, _ *fleet.JoinToken, g *fleet.Gateway) {
			g.Scope = fleet.ScopeOf("acme", "theirs")
		}, refused: true},
		"the gateway of the all-in-one": {
			token: live, gateway: fleet.Gateway{ID: "gw", Scope: fleet.Scope{Every: true}, BootID: 7}, refused: true,
		},
		"any gateway, for the operator": {token: live, gateway: joined, change: func(_ *store.Joining, t *fleet.JoinToken, g *fleet.Gateway) {
			t.Tenant, g.Scope = "", fleet.Scope{Every: true}
		}},
		"again": {token: used, gateway: joined},
		"again with another key": {token: used, gateway: joined, change: func(j *store.Joining, _ *fleet.JoinToken, _ *fleet.Gateway) {
			j.PublicKey = otherKey
		}, refused: true},
		"again, too late": {token: used, gateway: joined, change: func(j *store.Joining, _ *fleet.JoinToken, _ *fleet.Gateway) {
			j.At = used.UsedAt.Add(fleet.RedemptionWindow)
		}, refused: true},
		"again, once it runs": {token: used, gateway: joined, change: func(_ *store.Joining, _ *fleet.JoinToken, g *fleet.Gateway) {
			g.BootID = 1
		}, refused: true},
		"again, once it was revoked": {token: used, gateway: joined, change: func(_ *store.Joining, _ *fleet.JoinToken, g *fleet.Gateway) {
			g.RevokedAt = now
		}, refused: true},
		"again, once it joined anew": {token: used, gateway: joined, change: func(_ *store.Joining, _ *fleet.JoinToken, g *fleet.Gateway) {
			g.JoinedAt = now
		}, refused: true},
	} {
		j := store.Joining{PublicKey: key, At: now}
		if c.change != nil {
			c.change(&j, &c.token, &c.gateway)
		}
		if err := verdict.OfJoin(j, c.token, c.gateway); errors.Is(err, store.ErrState) != c.refused || (err == nil) == c.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOfRevocation(t *testing.T) {
	acme, operator := fleet.System("acme", now), fleet.System("", now)
	for name, c := range map[string]struct {
		by    fleet.By
		scope fleet.Scope
		since time.Time
		want  error
	}{
		"its own":                {acme, fleet.ScopeOf("acme"), time.Time{}, nil},
		"its own, again":         {acme, fleet.ScopeOf("acme"), now, store.ErrState},
		"shared":                 {acme, fleet.ScopeOf("acme", "theirs"), time.Time{}, store.ErrState},
		"everybody's":            {acme, fleet.Scope{Every: true}, time.Time{}, store.ErrState},
		"theirs":                 {acme, fleet.ScopeOf("theirs"), time.Time{}, store.ErrNotFound},
		"by the operator":        {operator, fleet.Scope{Every: true}, time.Time{}, nil},
		"by the operator, again": {operator, fleet.ScopeOf("acme"), now, store.ErrState},
	} {
		if err := verdict.OfRevocation(c.by, fleet.Gateway{ID: "gw", Scope: c.scope, RevokedAt: c.since}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

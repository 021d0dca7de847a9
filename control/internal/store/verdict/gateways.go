// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// OfJoin says whether the token may be used so, with what is on record of the gateway it names: nil or store.ErrState.
// A gateway that did not join and has no process is none.
func OfJoin(j store.Joining, t fleet.JoinToken, g fleet.Gateway) error {
	known := !g.JoinedAt.IsZero() || g.BootID != 0
	switch state := t.State(j.At); {
	case state != fleet.TokenLive && !(state == fleet.TokenRedeemed && repeated(j, t, g)):
		return fmt.Errorf("the join token is not live: %w", store.ErrState)
	case known && t.Tenant != "" && !g.Scope.Alone(t.Tenant):
		return fmt.Errorf("the gateway %s serves others than the token's tenant: %w", t.Gateway, store.ErrState)
	default:
		return nil
	}
}

// repeated reports whether the token is used again because an answer was lost: with its key, for the gateway as that use
// left it.
func repeated(j store.Joining, t fleet.JoinToken, g fleet.Gateway) bool {
	return t.PublicKey == j.PublicKey && j.At.Before(t.UsedAt.Add(fleet.RedemptionWindow)) &&
		g.JoinedAt.Equal(t.UsedAt) && g.BootID == 0 && g.RevokedAt.IsZero()
}

// Joined is the gateway that the token makes of it: no process has it, and its certificate is the only one. It joined
// when the token was first used.
func Joined(j store.Joining, t fleet.JoinToken) fleet.Gateway {
	at := t.UsedAt
	if at.IsZero() {
		at = j.At
	}
	return fleet.Gateway{ID: t.Gateway, Scope: t.Scope, Serial: j.Serial, NotAfter: j.NotAfter, JoinedAt: at}
}

// OfRevocation says whether by may revoke the gateway: nil, store.ErrNotFound if it does not serve by.Tenant, or
// store.ErrState. Whoever acts for no tenant is the installation's operator.
func OfRevocation(by fleet.By, g fleet.Gateway) error {
	switch {
	case by.Tenant != "" && !g.Scope.Serves(by.Tenant):
		return fmt.Errorf("revoke the gateway %s: %w", g.ID, store.ErrNotFound)
	case by.Tenant != "" && !g.Scope.Alone(by.Tenant):
		return fmt.Errorf("revoke the gateway %s, which serves other tenants too: %w", g.ID, store.ErrState)
	case !g.RevokedAt.IsZero():
		return fmt.Errorf("revoke the gateway %s again: %w", g.ID, store.ErrState)
	default:
		return nil
	}
}

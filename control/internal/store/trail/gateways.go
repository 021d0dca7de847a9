// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import (
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// EndGatewayRevoked is the end reason of sessions whose gateway was revoked.
const EndGatewayRevoked = "GATEWAY_REVOKED"

// JoinTokenIssued is the entry of a new join token.
func JoinTokenIssued(t fleet.JoinToken) Entry {
	return Entry{
		Action: "join_token.issue", EntityKind: "join_token", EntityID: string(t.ID),
		After: Fields{"gateway": t.Gateway, "expires_at": t.ExpiresAt},
	}
}

// JoinTokenRevoked is the entry of a join token that is not valid any more.
func JoinTokenRevoked(t fleet.JoinToken) Entry {
	return Entry{
		Action: "join_token.revoke", EntityKind: "join_token", EntityID: string(t.ID), After: Fields{"gateway": t.Gateway},
	}
}

// GatewayJoined is what a tenant is told of a gateway that has a certificate for itself. Which other tenants it serves
// is not theirs to know: whether there are any is.
func GatewayJoined(tenant fleet.TenantID, j store.Joining, g fleet.Gateway) (fleet.By, Entry) {
	name := string(g.ID)
	by := fleet.By{
		Principal: fleet.Principal{Kind: fleet.PrincipalGateway, ID: name, Name: name, Tenant: tenant}, Tenant: tenant, At: j.At, Source: j.Source,
	}
	return by, ofGateway("gateway.join", g.ID, Fields{
		"token": j.Token, "serial": g.Serial, "not_after": g.NotAfter.UTC(), "serves": g.Scope.Serves(tenant), "shared": !g.Scope.Alone(tenant),
	})
}

// GatewayRevoked is what a tenant is told of a gateway that is refused from now on.
func GatewayRevoked(g fleet.Gateway) Entry {
	return ofGateway("gateway.revoke", g.ID, Fields{"serial": g.Serial})
}

func ofGateway(action string, id fleet.GatewayID, after Fields) Entry {
	return Entry{Action: action, EntityKind: "gateway", EntityID: string(id), After: after}
}

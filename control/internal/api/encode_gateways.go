// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

var gatewayStates = word[fleet.GatewayState, amporav1.GatewayState]{
	{fleet.GatewayJoined, amporav1.GatewayState_GATEWAY_STATE_JOINED},
	{fleet.GatewayOnline, amporav1.GatewayState_GATEWAY_STATE_ONLINE},
	{fleet.GatewayAway, amporav1.GatewayState_GATEWAY_STATE_AWAY},
	{fleet.GatewayRevoked, amporav1.GatewayState_GATEWAY_STATE_REVOKED},
}

// gatewayFor encodes a gateway for a caller: which other tenants it serves is nobody's business but theirs.
func gatewayFor(by fleet.By) func(fleet.Gateway) *amporav1.Gateway {
	return func(g fleet.Gateway) *amporav1.Gateway {
		return &amporav1.Gateway{
			Id: string(g.ID), State: gatewayStates.encode(g.State(by.At)), Shared: !g.Scope.Alone(by.Tenant), BusLost: g.BusLost,
			Sessions: count(g.Sessions), Version: g.Version, StartedAt: moment(g.StartedAt), LeaseUntil: moment(g.LeaseUntil),
			JoinedAt: moment(g.JoinedAt), Serial: string(g.Serial), NotAfter: moment(g.NotAfter), RevokedAt: moment(g.RevokedAt),
		}
	}
}

// joinTokenAt encodes a token without its hash, its state judged at now.
func joinTokenAt(now time.Time) func(fleet.JoinToken) *amporav1.JoinToken {
	return func(t fleet.JoinToken) *amporav1.JoinToken {
		return &amporav1.JoinToken{
			Id: string(t.ID), GatewayId: string(t.Gateway), State: tokenStates.encode(t.State(now)), CreatedBy: t.CreatedBy,
			CreatedAt: moment(t.CreatedAt), ExpiresAt: moment(t.ExpiresAt), UsedAt: moment(t.UsedAt),
		}
	}
}

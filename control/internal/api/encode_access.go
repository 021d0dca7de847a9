// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

var tokenStates = word[fleet.TokenState, amporav1.TokenState]{
	{fleet.TokenLive, amporav1.TokenState_TOKEN_STATE_LIVE},
	{fleet.TokenRedeemed, amporav1.TokenState_TOKEN_STATE_REDEEMED},
	{fleet.TokenExpired, amporav1.TokenState_TOKEN_STATE_EXPIRED},
	{fleet.TokenRevoked, amporav1.TokenState_TOKEN_STATE_REVOKED},
}

// bootstrapTokenAt encodes a token without its hash, its state judged at now.
func bootstrapTokenAt(now time.Time) func(fleet.BootstrapToken) *amporav1.BootstrapToken {
	return func(t fleet.BootstrapToken) *amporav1.BootstrapToken {
		return &amporav1.BootstrapToken{
			Id: string(t.ID), Description: t.Description, GroupId: string(t.Group), State: tokenStates.encode(t.State(now)),
			CreatedBy: t.CreatedBy, CreatedAt: moment(t.CreatedAt), ExpiresAt: moment(t.ExpiresAt),
			RedeemedAt: moment(t.RedeemedAt), AgentId: string(t.Agent), PoolId: string(t.Pool), Pool: t.PoolName, Tags: t.Tags,
			ForAgentId: string(t.For), Replace: t.Replaces,
		}
	}
}

// tokenPoolAt encodes a pool without its hashes, as it stands at now.
func tokenPoolAt(now time.Time) func(fleet.TokenPool) *amporav1.TokenPool {
	return func(p fleet.TokenPool) *amporav1.TokenPool {
		pool := &amporav1.TokenPool{
			Id: string(p.ID), Name: p.Name, Description: p.Description, GroupId: string(p.Group), Ttl: durationpb.New(p.TTL),
			LiveLimit: int32(p.LiveLimit), PerHour: int32(p.PerHour), Burst: int32(p.Burst), Live: int32(p.Live), //nolint:gosec // bounded by the message's rules
			Disabled: !p.DisabledAt.IsZero(), CreatedBy: p.CreatedBy, CreatedAt: moment(p.CreatedAt), RotatedAt: moment(p.RotatedAt), Tags: p.Tags,
		}
		if now.Before(p.PreviousUntil) {
			pool.FormerSecretUntil = moment(p.PreviousUntil)
		}
		return pool
	}
}

// apiTokenAt encodes a token without its hash, its state judged at now.
func apiTokenAt(now time.Time) func(fleet.APIToken) *amporav1.ApiToken {
	return func(t fleet.APIToken) *amporav1.ApiToken {
		return &amporav1.ApiToken{
			Id: string(t.ID), Name: t.Name, Role: role(t.Role), State: tokenStates.encode(t.State(now)), Procedures: t.Procedures,
			CreatedBy: t.CreatedBy, CreatedAt: moment(t.CreatedAt), ExpiresAt: moment(t.ExpiresAt),
		}
	}
}

// auditEvent encodes a line of the audit log. Events and counted refusals are numbered apart: a refusal's id begins with r.
func auditEvent(r fleet.AuditRecord) *amporav1.AuditEvent {
	id := strconv.FormatInt(r.ID, 10)
	if r.RefusalReason != "" {
		id = "r" + id
	}
	return &amporav1.AuditEvent{
		Id:            id,
		Time:          moment(r.At),
		Actor:         r.ActorName,
		ActorKind:     string(r.ActorKind),
		Role:          role(r.Role),
		Action:        r.Action,
		EntityKind:    r.EntityKind,
		EntityId:      r.EntityID,
		Before:        string(r.Before),
		After:         string(r.After),
		SourceAddress: r.Source,
		TraceId:       r.TraceID,
		RefusalReason: r.RefusalReason,
		Count:         r.Count,
	}
}

func event(e fleet.Event) *amporav1.Event {
	return &amporav1.Event{
		Cursor: cursorText(e.Cursor), Time: moment(e.At), Kind: string(e.Kind), AgentId: string(e.Agent),
		Message: e.Message, Attributes: e.Attributes,
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gatewaytest

import (
	"context"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// Watch gives the control plane a bus, on which it has the holders of contested sessions
// pinged and reads their marks.
func (c *Control) Watch(b bus.Bus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bus = b
}

// ClaimSessions implements the service.
func (c *Control) ClaimSessions(ctx context.Context, r *internalv1.ClaimSessionsRequest) (*internalv1.ClaimSessionsResponse, error) {
	leave, err := c.enter()
	if err != nil {
		return nil, err
	}
	if c.failing > 0 {
		c.failing--
		leave()
		return nil, connect.NewError(connect.CodeUnavailable, "busy")
	}
	response := &internalv1.ClaimSessionsResponse{}
	for _, claim := range r.GetClaims() {
		response.Results = append(response.Results, c.claim(ctx, r.GetGatewayId(), claim))
	}
	onClaim := c.onClaim
	c.onClaim = nil
	leave()
	if onClaim != nil {
		onClaim()
	}
	return response, nil
}

// Contested is how many claims were answered that the session is held.
func (c *Control) Contested() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.contested
}

func refused(reason string) *internalv1.ClaimResult {
	return &internalv1.ClaimResult{Outcome: internalv1.ClaimOutcome_CLAIM_OUTCOME_REFUSED, Reason: reason}
}

func (c *Control) claim(ctx context.Context, gateway string, claim *internalv1.Claim) *internalv1.ClaimResult {
	uid := identity.InstanceUID(claim.GetInstanceUid())
	holder := claim.GetTenant() + "/" + claim.GetAgentId()
	if reason := c.refuses(claim, uid, holder); reason != "" {
		return refused(reason)
	}
	c.uids[uid] = holder
	agent := identity.AgentID(claim.GetAgentId())
	current := c.sessions[holder]
	if current != nil && current.Gateway != "" && current.UID != uid && c.parents[agent] {
		agent = c.child(holder, uid)
		holder = claim.GetTenant() + "/" + string(agent)
		current = c.sessions[holder]
	}
	result := &internalv1.ClaimResult{AgentId: string(agent), Outcome: internalv1.ClaimOutcome_CLAIM_OUTCOME_CLAIMED}
	if current != nil {
		result.LastSequence, result.StateKnown = current.Sequence, current.Known
	}
	takeover := claim.GetTakeover()
	switch {
	case current == nil || current.Gateway == "":
	case takeover != 0 && claim.GetHolderEpoch() == current.Epoch:
		takeover = c.judge(ctx, gateway, current, claim, agent)
	case current.polledAs(uid) && claim.GetTransport() == internalv1.Transport_TRANSPORT_HTTP:
		if current.Serial != claim.GetSerial() {
			break // it goes on with another certificate, which everybody must know
		}
		result.Epoch, result.Shared = current.Epoch, true
		return result
	default:
		c.hold(ctx, gateway, current, claim, result)
		return result
	}
	c.epoch++
	result.Epoch = c.epoch
	c.sessions[holder] = &Session{Epoch: c.epoch, Gateway: gateway, UID: uid, Serial: claim.GetSerial(), Transport: claim.GetTransport(), Takeover: takeover}
	return result
}

// refuses says why the claim of a holder has no chance; "" if it has.
func (c *Control) refuses(claim *internalv1.Claim, uid identity.InstanceUID, holder string) string {
	if !c.recorded[claim.GetTenant()+"/"+claim.GetSerial()] {
		return "CERTIFICATE_NOT_RECORDED"
	}
	if owner := c.uids[uid]; owner != "" && owner != holder {
		return "UID_FOREIGN"
	}
	return ""
}

func (s *Session) polledAs(uid identity.InstanceUID) bool {
	return s.Transport == internalv1.Transport_TRANSPORT_HTTP && s.UID == uid
}

// hold refuses a claim because of another session. A holder at another gateway is
// pinged, and its mark goes along.
func (c *Control) hold(ctx context.Context, gateway string, current *Session, claim *internalv1.Claim, result *internalv1.ClaimResult) {
	c.contested++
	result.Outcome = internalv1.ClaimOutcome_CLAIM_OUTCOME_HELD
	result.HolderGatewayId, result.HolderEpoch = current.Gateway, current.Epoch
	if c.bus == nil || current.Gateway == gateway {
		return
	}
	result.HolderMark = c.mark(ctx, current.Gateway, claim.GetTenant(), result.GetAgentId())
	ping := c.Sign(&relayv1.Downlink{
		GatewayId: current.Gateway, Tenant: claim.GetTenant(), Kind: relayv1.Downlink_KIND_PING, NotAfter: timestamppb.New(c.now().Add(time.Minute)),
		Targets: []*relayv1.Target{{AgentId: result.GetAgentId(), Epoch: current.Epoch}},
	})
	if err := c.bus.Send(ctx, identity.GatewayID(current.Gateway), time.Minute, ping); err != nil {
		c.t.Errorf("ping: %v", err)
	}
}

// judge says what a takeover is: of a holder at another gateway that has been heard
// since the claim was refused, one by a clone.
func (c *Control) judge(ctx context.Context, gateway string, current *Session, claim *internalv1.Claim, agent identity.AgentID) internalv1.Takeover {
	if c.bus == nil || current.Gateway == gateway {
		return claim.GetTakeover()
	}
	register := uplink.Register(identity.TenantID(claim.GetTenant()), agent)
	before, _ := c.OpenMark(current.Gateway, register, claim.GetHolderMark())
	after, sealed := c.OpenMark(current.Gateway, register, c.mark(ctx, current.Gateway, claim.GetTenant(), string(agent)))
	if sealed && after.GetEpoch() == current.Epoch && after.GetLastSeenAt().AsTime().After(before.GetLastSeenAt().AsTime()) {
		return internalv1.Takeover_TAKEOVER_CLONE
	}
	return internalv1.Takeover_TAKEOVER_RESTART
}

func (c *Control) mark(ctx context.Context, gateway, tenant, agent string) []byte {
	values, err := c.bus.Get(ctx, bus.Marks(identity.GatewayID(gateway)), uplink.Register(identity.TenantID(tenant), identity.AgentID(agent)))
	if err != nil {
		c.t.Errorf("mark: %v", err)
		return nil
	}
	return values[0]
}

func (c *Control) child(parent string, uid identity.InstanceUID) identity.AgentID {
	key := parent + "/" + uid.String()
	if c.children[key] == "" {
		c.children[key] = identity.NewAgentID()
	}
	return c.children[key]
}

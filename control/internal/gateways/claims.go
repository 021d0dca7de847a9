// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateways

import (
	"context"
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
)

// ClaimSessions takes sessions: each result stands for itself, but a database that is away fails the call.
func (s *Service) ClaimSessions(ctx context.Context, r *internalv1.ClaimSessionsRequest) (*internalv1.ClaimSessionsResponse, error) {
	by, err := as(ctx, r.GetGatewayId())
	if err != nil {
		return nil, err
	}
	out := &internalv1.ClaimSessionsResponse{Results: make([]*internalv1.ClaimResult, len(r.GetClaims()))}
	var claims []fleet.Claim
	var marks [][]byte
	var places []int // of the claims among the results
	for i, c := range r.GetClaims() {
		if !by.scope.Serves(fleet.TenantID(c.GetTenant())) {
			out.Results[i] = claimResult(fleet.ClaimResult{Outcome: fleet.ClaimRefused, Reason: ReasonOutOfScope})
			continue
		}
		claims, marks, places = append(claims, s.claim(r, c)), append(marks, c.GetHolderMark()), append(places, i)
	}
	notes, err := s.hear(ctx, claims, marks)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	results, err := s.d.Store.Claim(ctx, claims)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	for n, i := range places {
		out.Results[i] = claimResult(results[n])
		if results[n].Outcome == fleet.ClaimHeld {
			out.Results[i].HolderMark = notes[n].raw
		}
	}
	s.ping(ctx, claims, results)
	s.dismiss(ctx, claims, notes, results)
	return out, nil
}

// claim is one claim. The length of its uid is a rule of the message.
func (s *Service) claim(r *internalv1.ClaimSessionsRequest, c *internalv1.Claim) fleet.Claim {
	return fleet.Claim{
		Tenant: fleet.TenantID(c.GetTenant()), Identity: fleet.AgentID(c.GetAgentId()), Serial: fleet.Serial(c.GetSerial()),
		Fingerprint: fleet.Fingerprint(c.GetFingerprint()), UID: fleet.InstanceUID(c.GetInstanceUid()),
		Gateway: fleet.GatewayID(r.GetGatewayId()), BootID: r.GetBootId(), Transport: transport(c.GetTransport()),
		Peer: c.GetPeer(), Takeover: takeover(c.GetTakeover()), Contested: fleet.Epoch(c.GetHolderEpoch()), //nolint:gosec // never so many
		At: s.d.Now(),
	}
}

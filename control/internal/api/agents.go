// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
)

// ReasonNotReported says that the agent has not said what was asked for.
const ReasonNotReported = "NOT_REPORTED"

// agents is the AgentService.
type agents struct {
	store       store.Store
	content     *content.Content
	trustDomain string
}

// ListAgents lists without what agents say in detail.
func (s *agents) ListAgents(ctx context.Context, r *amporav1.ListAgentsRequest) (*amporav1.ListAgentsResponse, error) {
	by := auth.By(ctx)
	page, err := pageOf(listAgents, r)
	if err != nil {
		return nil, err
	}
	filter, err := filterFrom(r.GetFilter())
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.Agents(ctx, by.Tenant, filter, by.At, page)
	if err != nil {
		return nil, err
	}
	return &amporav1.ListAgentsResponse{Agents: each(list, agentAt(by.At)), NextPageToken: place(listAgents, next)}, nil
}

// countLimit is how far agents are counted: in a larger fleet nobody needs to know exactly.
const countLimit = 100_000

// CountAgents counts whom a filter selects.
func (s *agents) CountAgents(ctx context.Context, r *amporav1.CountAgentsRequest) (*amporav1.CountAgentsResponse, error) {
	by := auth.By(ctx)
	filter, err := filterFrom(r.GetFilter())
	if err != nil {
		return nil, err
	}
	n, err := s.store.CountAgents(ctx, by.Tenant, filter, by.At, countLimit+1)
	return &amporav1.CountAgentsResponse{Count: count(min(n, countLimit)), More: n > countLimit}, err
}

// GetAgent returns one agent with its parts and its credential.
func (s *agents) GetAgent(ctx context.Context, r *amporav1.GetAgentRequest) (*amporav1.GetAgentResponse, error) {
	agent, err := s.whole(ctx, fleet.AgentID(r.GetId()))
	return &amporav1.GetAgentResponse{Agent: agent}, err
}

func (s *agents) whole(ctx context.Context, id fleet.AgentID) (*amporav1.Agent, error) {
	by := auth.By(ctx)
	// The parts first: of what is said between the two reads the row then knows more than they, so that no description
	// comes without the names that were taken from it.
	parts, err := s.store.Parts(ctx, by.Tenant, id)
	if err != nil {
		return nil, err
	}
	agent, err := s.store.Agent(ctx, by.Tenant, id)
	if err != nil {
		return nil, err
	}
	encoded := agentAt(by.At)(agent)
	if err := addParts(encoded, parts); err != nil {
		return nil, err
	}
	encoded.Credential, err = s.credential(ctx, agent)
	return encoded, err
}

// credential is the certificate the agent last presented; nil if it has presented none.
func (s *agents) credential(ctx context.Context, agent fleet.Agent) (*amporav1.Credential, error) {
	if agent.Serial == "" {
		return nil, nil
	}
	certificate, err := s.store.Certificate(ctx, agent.Tenant, agent.Serial)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return credentialOf(certificate, s.trustDomain), nil
}

// GetEffectiveConfig reveals the bytes of the agent's effective configuration.
func (s *agents) GetEffectiveConfig(ctx context.Context, r *amporav1.GetEffectiveConfigRequest) (*amporav1.GetEffectiveConfigResponse, error) {
	by := auth.By(ctx)
	effective, err := s.effectiveConfig(ctx, by.Tenant, fleet.AgentID(r.GetId()))
	if err != nil {
		return nil, err
	}
	if err := s.store.RecordAudit(ctx, by, "agent.reveal_effective_config", "agent", r.GetId()); err != nil {
		return nil, err
	}
	answer := &amporav1.GetEffectiveConfigResponse{}
	for _, file := range effective.Files {
		body, err := s.content.Known(ctx, by.Tenant, file.Hash)
		if err != nil {
			return nil, err
		}
		answer.Files = append(answer.Files, &amporav1.GetEffectiveConfigResponse_File{File: configFile(file), Body: body})
	}
	return answer, nil
}

func (s *agents) effectiveConfig(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) (fleet.EffectiveConfig, error) {
	if _, err := s.store.Agent(ctx, tenant, id); err != nil {
		return fleet.EffectiveConfig{}, err
	}
	parts, err := s.store.Parts(ctx, tenant, id)
	if err != nil {
		return fleet.EffectiveConfig{}, err
	}
	part, reported := parts[fleet.PartEffectiveConfig]
	if !reported {
		return fleet.EffectiveConfig{}, fault.New(fault.NotFound, ReasonNotReported, "the agent has not reported its effective configuration")
	}
	return valueOf[fleet.EffectiveConfig](part)
}

// RetryConfig lets the assigned version be offered once more.
func (s *agents) RetryConfig(ctx context.Context, r *amporav1.RetryConfigRequest) (*amporav1.RetryConfigResponse, error) {
	cleared, err := s.store.ClearAttempts(ctx, auth.By(ctx), fleet.AgentID(r.GetId()))
	return &amporav1.RetryConfigResponse{Cleared: count(cleared)}, err
}

// AllowChildren sets how many further agents an identity may speak for.
func (s *agents) AllowChildren(ctx context.Context, r *amporav1.AllowChildrenRequest) (*amporav1.AllowChildrenResponse, error) {
	id := fleet.AgentID(r.GetId())
	if _, err := s.store.AllowChildren(ctx, auth.By(ctx), id, int(r.GetMaxChildren())); err != nil {
		return nil, err
	}
	agent, err := s.whole(ctx, id)
	return &amporav1.AllowChildrenResponse{Agent: agent}, err
}

// ReleaseQuarantine lets a quarantined identity in again.
func (s *agents) ReleaseQuarantine(ctx context.Context, r *amporav1.ReleaseQuarantineRequest) (*amporav1.ReleaseQuarantineResponse, error) {
	id := fleet.AgentID(r.GetId())
	if _, err := s.store.ReleaseQuarantine(ctx, auth.By(ctx), id); err != nil {
		return nil, err
	}
	agent, err := s.whole(ctx, id)
	return &amporav1.ReleaseQuarantineResponse{Agent: agent}, err
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollouts"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// rolloutService is the RolloutService.
type rolloutService struct {
	*streams
	cases *rollouts.Rollouts
	store store.Rollouts
}

// PlanRollout says what a rollout would do.
func (s *rolloutService) PlanRollout(ctx context.Context, r *amporav1.PlanRolloutRequest) (*amporav1.PlanRolloutResponse, error) {
	p, err := s.cases.Plan(ctx, auth.By(ctx), rolloutFrom(r.GetDefinition()))
	return &amporav1.PlanRolloutResponse{Definition: rolloutDefinition(p.Definition), Plan: rolloutPlan(p.Plan)}, err
}

// CreateRollout stores a rollout with its plan.
func (s *rolloutService) CreateRollout(ctx context.Context, r *amporav1.CreateRolloutRequest) (*amporav1.CreateRolloutResponse, error) {
	made, err := s.cases.Create(ctx, auth.By(ctx), rolloutFrom(r.GetDefinition()))
	return &amporav1.CreateRolloutResponse{Rollout: rollout(made)}, err
}

// StartRollout starts a pending rollout.
func (s *rolloutService) StartRollout(ctx context.Context, r *amporav1.StartRolloutRequest) (*amporav1.StartRolloutResponse, error) {
	started, err := s.cases.Start(ctx, auth.By(ctx), rollouts.Start{
		Rollout: fleet.RolloutID(r.GetId()), Accept: r.GetAcceptChanges(), Supersede: r.GetSupersede(),
	})
	return &amporav1.StartRolloutResponse{Rollout: rollout(started)}, err
}

// PauseRollout lets nobody in any more.
func (s *rolloutService) PauseRollout(ctx context.Context, r *amporav1.PauseRolloutRequest) (*amporav1.PauseRolloutResponse, error) {
	is, err := s.cases.Pause(ctx, auth.By(ctx), fleet.RolloutID(r.GetId()), r.GetReason())
	return &amporav1.PauseRolloutResponse{Rollout: rollout(is)}, err
}

// ResumeRollout goes on with a paused rollout.
func (s *rolloutService) ResumeRollout(ctx context.Context, r *amporav1.ResumeRolloutRequest) (*amporav1.ResumeRolloutResponse, error) {
	is, err := s.cases.Resume(ctx, auth.By(ctx), fleet.RolloutID(r.GetId()), r.GetAcceptProblems())
	return &amporav1.ResumeRolloutResponse{Rollout: rollout(is)}, err
}

// AdvanceRollout opens the next wave now.
func (s *rolloutService) AdvanceRollout(ctx context.Context, r *amporav1.AdvanceRolloutRequest) (*amporav1.AdvanceRolloutResponse, error) {
	is, err := s.cases.Advance(ctx, auth.By(ctx), fleet.RolloutID(r.GetId()))
	return &amporav1.AdvanceRolloutResponse{Rollout: rollout(is)}, err
}

// ExtendRollout makes the dwell of the open wave longer.
func (s *rolloutService) ExtendRollout(ctx context.Context, r *amporav1.ExtendRolloutRequest) (*amporav1.ExtendRolloutResponse, error) {
	is, err := s.cases.Extend(ctx, auth.By(ctx), fleet.RolloutID(r.GetId()), r.GetBy().AsDuration())
	return &amporav1.ExtendRolloutResponse{Rollout: rollout(is)}, err
}

// AbortRollout ends a rollout.
func (s *rolloutService) AbortRollout(ctx context.Context, r *amporav1.AbortRolloutRequest) (*amporav1.AbortRolloutResponse, error) {
	is, err := s.cases.Abort(ctx, auth.By(ctx), fleet.RolloutID(r.GetId()), r.GetReason())
	return &amporav1.AbortRolloutResponse{Rollout: rollout(is)}, err
}

// RollBackRollout makes and starts a rollback.
func (s *rolloutService) RollBackRollout(ctx context.Context, r *amporav1.RollBackRolloutRequest) (*amporav1.RollBackRolloutResponse, error) {
	is, err := s.cases.RollBack(ctx, auth.By(ctx), rollouts.Rollback{
		Rollout: fleet.RolloutID(r.GetId()), Strategy: strategyFrom(r.GetStrategy()), Gates: gatesFrom(r.GetGates()), Note: r.GetNote(),
	})
	return &amporav1.RollBackRolloutResponse{Rollout: rollout(is)}, err
}

// GetRollout returns a rollout with the counts of its waves.
func (s *rolloutService) GetRollout(ctx context.Context, r *amporav1.GetRolloutRequest) (*amporav1.GetRolloutResponse, error) {
	is, waves, err := s.look(ctx, auth.By(ctx).Tenant, fleet.RolloutID(r.GetId()))
	return &amporav1.GetRolloutResponse{Rollout: rollout(is), Waves: each(waves, rolloutWave)}, err
}

func (s *rolloutService) look(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID) (fleet.Rollout, []fleet.WaveCounts, error) {
	is, err := s.store.Rollout(ctx, tenant, id)
	if err != nil {
		return is, nil, err
	}
	waves, err := s.store.RolloutWaves(ctx, tenant, id)
	return is, waves, err
}

// ListRollouts lists newest first.
func (s *rolloutService) ListRollouts(ctx context.Context, r *amporav1.ListRolloutsRequest) (*amporav1.ListRolloutsResponse, error) {
	page, err := pageOf(listRollouts, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.Rollouts(ctx, auth.By(ctx).Tenant, fleet.RolloutFilter{
		Group: fleet.GroupID(r.GetGroupId()), States: each(r.GetStates(), rolloutStates.decode),
	}, page)
	return &amporav1.ListRolloutsResponse{Rollouts: each(list, rollout), NextPageToken: place(listRollouts, next)}, err
}

// ListRolloutMembers lists agents of a rollout.
func (s *rolloutService) ListRolloutMembers(ctx context.Context, r *amporav1.ListRolloutMembersRequest) (*amporav1.ListRolloutMembersResponse, error) {
	page, err := pageOf(listRolloutMembers, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.Members(ctx, auth.By(ctx).Tenant, fleet.RolloutID(r.GetId()), fleet.MemberFilter{
		Wave: int(r.GetWave()), State: memberStates.decode(r.GetState()), Stragglers: r.GetStragglers(), Problems: r.GetProblems(),
	}, page)
	return &amporav1.ListRolloutMembersResponse{Members: each(list, rolloutMember), NextPageToken: place(listRolloutMembers, next)}, err
}

// SimulateRollout runs a rollout against agents that answer as the model says.
func (s *rolloutService) SimulateRollout(ctx context.Context, r *amporav1.SimulateRolloutRequest) (*amporav1.SimulateRolloutResponse, error) {
	simulation := rollouts.Simulation{
		Definition: rolloutFrom(r.GetDefinition()), Rollout: fleet.RolloutID(r.GetRolloutId()), Model: modelFrom(r.GetModel()),
	}
	if at := r.GetModel().GetStartAt(); at != nil {
		simulation.StartAt = at.AsTime()
	}
	came, err := s.cases.Simulate(ctx, auth.By(ctx), simulation)
	return simulated(came), err
}

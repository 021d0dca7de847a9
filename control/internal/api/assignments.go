// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"strconv"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
)

// assignments is the AssignmentService.
type assignments struct {
	store  store.Configs
	groups store.Groups
	limit  int // of agents that one act may change
}

// Assign points a target at a published version.
func (s *assignments) Assign(ctx context.Context, r *amporav1.AssignRequest) (*amporav1.AssignResponse, error) {
	by, target := auth.By(ctx), targetFrom(r.GetTarget())
	a, agents, err := s.store.Assign(ctx, by, fleet.Assignment{
		Tenant: by.Tenant, Target: target, Config: fleet.ConfigID(r.GetConfigId()), Version: int(r.GetVersion()),
		CreatedBy: by.Principal.Name, CreatedAt: by.At,
	}, s.limit)
	if errors.Is(err, store.ErrLimit) {
		return nil, s.rolloutRequired(ctx, by, target).WithCause(err)
	}
	return &amporav1.AssignResponse{Assignment: assignment(a), Agents: count(agents)}, err
}

// rolloutRequired says how many agents the refused assignment is about, if that can still be said.
func (s *assignments) rolloutRequired(ctx context.Context, by fleet.By, target fleet.Target) *fault.Error {
	required := auth.RolloutRequired(s.limit)
	g, err := s.groups.Group(ctx, by.Tenant, string(target.Group))
	if err != nil {
		return required
	}
	return required.With("agents", strconv.Itoa(g.MemberCount))
}

// Unassign removes a target's assignment.
func (s *assignments) Unassign(ctx context.Context, r *amporav1.UnassignRequest) (*amporav1.UnassignResponse, error) {
	return &amporav1.UnassignResponse{}, s.store.Unassign(ctx, auth.By(ctx), targetFrom(r.GetTarget()))
}

// ListAssignments lists by target.
func (s *assignments) ListAssignments(ctx context.Context, r *amporav1.ListAssignmentsRequest) (*amporav1.ListAssignmentsResponse, error) {
	page, err := pageOf(listAssignments, r)
	if err != nil {
		return nil, err
	}
	list, next, err := s.store.Assignments(ctx, auth.By(ctx).Tenant, page)
	return &amporav1.ListAssignmentsResponse{Assignments: each(list, assignment), NextPageToken: place(listAssignments, next)}, err
}

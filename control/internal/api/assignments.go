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

// assignments is the AssignmentService.
type assignments struct {
	store    store.Configs
	rollouts *rollouts.Rollouts
}

// Assign points a target at a published version.
func (s *assignments) Assign(ctx context.Context, r *amporav1.AssignRequest) (*amporav1.AssignResponse, error) {
	done, err := s.rollouts.Assign(ctx, auth.By(ctx), targetFrom(r.GetTarget()), fleet.AssignedVersion{
		Config: fleet.ConfigID(r.GetConfigId()), Version: int(r.GetVersion()),
	})
	return &amporav1.AssignResponse{Assignment: assignment(done.Assignment), Agents: count(done.Agents), RolloutId: string(done.Rollout)}, err
}

// Unassign removes a target's assignment.
func (s *assignments) Unassign(ctx context.Context, r *amporav1.UnassignRequest) (*amporav1.UnassignResponse, error) {
	return &amporav1.UnassignResponse{}, s.rollouts.Unassign(ctx, auth.By(ctx), targetFrom(r.GetTarget()))
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

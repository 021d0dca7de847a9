// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// drifts is the DriftService.
type drifts struct{ store store.Drift }

// GetDrift says whether an agent runs what was assigned to it.
func (s *drifts) GetDrift(ctx context.Context, r *amporav1.GetDriftRequest) (*amporav1.GetDriftResponse, error) {
	d, err := s.store.DriftOf(ctx, auth.By(ctx).Tenant, fleet.AgentID(r.GetAgentId()))
	return &amporav1.GetDriftResponse{Drift: &amporav1.Drift{
		State: driftStates.encode(d.State), Changes: count(d.Changes), Summary: d.Summary, Since: moment(d.Since), ComparedAt: moment(d.LookedAt),
	}}, err
}

// CountDrift counts agents by whether they do.
func (s *drifts) CountDrift(ctx context.Context, r *amporav1.CountDriftRequest) (*amporav1.CountDriftResponse, error) {
	counts, err := s.store.DriftCounts(ctx, auth.By(ctx).Tenant, fleet.Target{Group: fleet.GroupID(r.GetGroupId())})
	if err != nil {
		return nil, err
	}
	answer := &amporav1.CountDriftResponse{}
	for _, state := range fleet.DriftStates {
		answer.Counts = append(answer.Counts, &amporav1.CountDriftResponse_Count{State: driftStates.encode(state), Agents: int64(counts[state])})
	}
	return answer, nil
}

var driftStates = word[fleet.DriftState, amporav1.DriftState]{
	{fleet.DriftNone, amporav1.DriftState_DRIFT_STATE_NONE},
	{fleet.DriftUnknown, amporav1.DriftState_DRIFT_STATE_UNKNOWN},
	{fleet.DriftInSync, amporav1.DriftState_DRIFT_STATE_IN_SYNC},
	{fleet.DriftDrifted, amporav1.DriftState_DRIFT_STATE_DRIFTED},
}

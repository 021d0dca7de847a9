// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"connectrpc.com/connect/v2"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// bulkServer does it to all that are online, and skips the others.
type bulkServer struct{ *state }

const bulkMark = "3-0123456789abcdef01234567"

// outcome is what is done to the targets. A filter without the mark of a dry run is refused.
func (s bulkServer) outcome(targets *amporav1.AgentTargets) (*amporav1.BulkOutcome, error) {
	unlock, err := s.change()
	defer unlock()
	switch {
	case err != nil:
		return nil, err
	case targets.GetFilter() != nil && !targets.GetDryRun() && targets.GetExpect() == "":
		return nil, refuse(connect.CodeFailedPrecondition, "PREVIEW_REQUIRED", "make a dry run first", nil)
	case targets.GetExpect() != "" && targets.GetExpect() != bulkMark:
		return nil, refuse(connect.CodeFailedPrecondition, "SELECTION_CHANGED", "others are selected than in the dry run", nil)
	}
	outcome := &amporav1.BulkOutcome{Mark: bulkMark}
	for _, agent := range s.agents {
		outcome.Matched++
		if agent.GetPresence() != amporav1.Presence_PRESENCE_ONLINE {
			continue
		}
		outcome.Changed++
		if targets.GetDryRun() {
			outcome.Sample = append(outcome.Sample, agent)
		}
	}
	outcome.Skipped = []*amporav1.SkippedAgents{{Reason: "UNCHANGED", Count: outcome.GetMatched() - outcome.GetChanged()}}
	return outcome, nil
}

func (s bulkServer) TagAgents(_ context.Context, r *amporav1.TagAgentsRequest) (*amporav1.BulkOutcome, error) {
	return s.outcome(r.GetTargets())
}

func (s bulkServer) MoveAgents(_ context.Context, r *amporav1.MoveAgentsRequest) (*amporav1.BulkOutcome, error) {
	return s.outcome(r.GetTargets())
}

func (s bulkServer) PushConfigs(_ context.Context, r *amporav1.PushConfigsRequest) (*amporav1.BulkOutcome, error) {
	return s.outcome(r.GetTargets())
}

func (s bulkServer) DrainAgents(_ context.Context, r *amporav1.DrainAgentsRequest) (*amporav1.BulkOutcome, error) {
	return s.outcome(r.GetTargets())
}

func (s bulkServer) RestartAgents(_ context.Context, r *amporav1.RestartAgentsRequest) (*amporav1.BulkOutcome, error) {
	return s.outcome(r.GetTargets())
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Reasons of a bulk act that is refused as a whole.
const (
	ReasonNoPreview        = "PREVIEW_REQUIRED"
	ReasonSelectionChanged = "SELECTION_CHANGED"
	ReasonTooManyAgents    = "TOO_MANY_AGENTS"
)

// Caps of bulk acts: how many agents each may be about (product specification, section 6).
const (
	mostTagged  = 10_000
	mostMoved   = 10_000
	mostPushed  = 5_000
	mostDrained = 10_000

	mostRestarted = 5_000
)

// drainEach is how long draining one agent takes, by default.
const drainEach = 10 * time.Millisecond

// bulk is the BulkService.
type bulk struct {
	store store.Bulk
	limit int // of agents that one act may change
}

// TagAgents sets and removes tags.
func (s *bulk) TagAgents(ctx context.Context, r *amporav1.TagAgentsRequest) (*amporav1.BulkOutcome, error) {
	change := fleet.TagChange{Set: r.GetSet(), Remove: r.GetRemove()}
	if err := change.Check(); err != nil {
		return nil, auth.InvalidField("set", err.Error())
	}
	return s.act(ctx, r.GetTargets(), fleet.Act{Kind: fleet.ActTag, Most: mostTagged, Tags: change})
}

// MoveAgents moves agents into a group, or out of the one they are in.
func (s *bulk) MoveAgents(ctx context.Context, r *amporav1.MoveAgentsRequest) (*amporav1.BulkOutcome, error) {
	return s.act(ctx, r.GetTargets(), fleet.Act{Kind: fleet.ActMove, Most: mostMoved, To: fleet.GroupID(r.GetGroupId()), Limit: s.limit})
}

// PushConfigs sends what is assigned once more.
func (s *bulk) PushConfigs(ctx context.Context, r *amporav1.PushConfigsRequest) (*amporav1.BulkOutcome, error) {
	return s.act(ctx, r.GetTargets(), fleet.Act{Kind: fleet.ActPush, Most: mostPushed, Why: r.GetReason()})
}

// DrainAgents ends sessions, one after the other.
func (s *bulk) DrainAgents(ctx context.Context, r *amporav1.DrainAgentsRequest) (*amporav1.BulkOutcome, error) {
	act := fleet.Act{Kind: fleet.ActDrain, Most: mostDrained, Over: r.GetOver().AsDuration(), Each: drainEach, Why: r.GetReason()}
	if r.GetOver() != nil {
		act.Each = 0
	}
	return s.act(ctx, r.GetTargets(), act)
}

// RestartAgents asks agents to restart, once.
func (s *bulk) RestartAgents(ctx context.Context, r *amporav1.RestartAgentsRequest) (*amporav1.BulkOutcome, error) {
	return s.act(ctx, r.GetTargets(), fleet.Act{Kind: fleet.ActRestart, Most: mostRestarted, Why: r.GetReason()})
}

// act does to the targets what an act says.
func (s *bulk) act(ctx context.Context, targets *amporav1.AgentTargets, act fleet.Act) (*amporav1.BulkOutcome, error) {
	by := auth.By(ctx)
	act.Preview, act.Expect = targets.GetDryRun(), targets.GetExpect()
	if named := targets.GetIds(); named != nil {
		act.Agents = idsFrom[fleet.AgentID](named.GetIds())
	} else {
		if !act.Preview && act.Expect == "" {
			return nil, fault.New(fault.FailedPrecondition, ReasonNoPreview,
				"whom a filter selects is looked at first: make a dry run, and expect the mark that it gives")
		}
		filter, err := filterFrom(targets.GetFilter())
		if err != nil {
			return nil, err
		}
		act.Filter = filter
	}
	outcome, err := s.store.Act(ctx, by, act)
	switch {
	case errors.Is(err, store.ErrTooMany):
		return nil, fault.New(fault.FailedPrecondition, ReasonTooManyAgents, "this would be about more than %d agents", act.Most).
			With("limit", strconv.Itoa(act.Most)).WithCause(err)
	case errors.Is(err, store.ErrConflict):
		return nil, fault.New(fault.FailedPrecondition, ReasonSelectionChanged, "others are selected than in the dry run").WithCause(err)
	case err != nil:
		return nil, err
	}
	return bulkOutcome(by, act, outcome), nil
}

func bulkOutcome(by fleet.By, act fleet.Act, o fleet.ActOutcome) *amporav1.BulkOutcome {
	encoded := &amporav1.BulkOutcome{Matched: count(o.Matched()), Changed: count(len(o.Done)), Mark: o.Mark}
	for _, why := range slices.Sorted(maps.Keys(o.Skipped)) {
		encoded.Skipped = append(encoded.Skipped, &amporav1.SkippedAgents{Reason: string(why), Count: count(len(o.Skipped[why]))})
	}
	if act.Preview {
		encoded.Sample = each(o.Sample, agentAt(by.At))
	}
	return encoded
}

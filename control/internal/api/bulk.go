// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"

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
	mostTagged = 10_000
)

// bulk is the BulkService.
type bulk struct {
	store   store.Bulk
	filters filters
}

// TagAgents sets and removes tags.
func (s *bulk) TagAgents(ctx context.Context, r *amporav1.TagAgentsRequest) (*amporav1.BulkOutcome, error) {
	change := fleet.TagChange{Set: r.GetSet(), Remove: r.GetRemove()}
	if err := change.Check(); err != nil {
		return nil, auth.InvalidField("set", err.Error())
	}
	return s.act(ctx, r.GetTargets(), fleet.Act{Kind: fleet.ActTag, Most: mostTagged, Tags: change})
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
		filter, err := s.filters.from(targets.GetFilter())
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

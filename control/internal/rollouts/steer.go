// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollouts

import (
	"context"
	"errors"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Pause lets nobody in any more.
func (r *Rollouts) Pause(ctx context.Context, by fleet.By, id fleet.RolloutID, why string) (fleet.Rollout, error) {
	return r.steer(ctx, by, id, "rollout.pause", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) {
		return rollout.Pause(s, said("paused", by, why), by.At)
	})
}

// Resume goes on with what is paused.
func (r *Rollouts) Resume(ctx context.Context, by fleet.By, id fleet.RolloutID, accept bool) (fleet.Rollout, error) {
	return r.steer(ctx, by, id, "rollout.resume", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) {
		return rollout.Resume(s, accept, by.At)
	})
}

// Advance opens the next wave now.
func (r *Rollouts) Advance(ctx context.Context, by fleet.By, id fleet.RolloutID) (fleet.Rollout, error) {
	return r.steer(ctx, by, id, "rollout.advance", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) {
		return rollout.Advance(s, by.At)
	})
}

// Extend makes the dwell of the open wave longer.
func (r *Rollouts) Extend(ctx context.Context, by fleet.By, id fleet.RolloutID, longer time.Duration) (fleet.Rollout, error) {
	return r.steer(ctx, by, id, "rollout.extend", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) {
		return rollout.Extend(s, longer, by.At)
	})
}

// Abort ends a rollout.
func (r *Rollouts) Abort(ctx context.Context, by fleet.By, id fleet.RolloutID, why string) (fleet.Rollout, error) {
	return r.steer(ctx, by, id, "rollout.abort", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) {
		return rollout.Abort(s, said("aborted", by, why), by.At)
	})
}

// said is who did it, and why.
func said(done string, by fleet.By, why string) string {
	text := done + " by " + by.Principal.Name
	if why != "" {
		text += ": " + why
	}
	return text
}

// steer does what is decided for the rollout as it stands then.
func (r *Rollouts) steer(
	ctx context.Context, by fleet.By, id fleet.RolloutID, action string, decide func(fleet.RolloutSnapshot) (fleet.RolloutStep, error),
) (fleet.Rollout, error) {
	is, err := r.store.Steer(ctx, by, id, action, decide)
	return is, refused(err)
}

// refused says to a caller why nothing is done.
func refused(err error) error {
	switch {
	case errors.Is(err, rollout.ErrBreached):
		return fault.New(fault.FailedPrecondition, ReasonBreached, "%s", err.Error()).WithCause(err)
	case errors.Is(err, rollout.ErrInvalid):
		return fault.New(fault.Invalid, ReasonInvalid, "%s", err.Error()).WithCause(err)
	case errors.Is(err, rollout.ErrState):
		return fault.New(fault.FailedPrecondition, ReasonState, "%s", err.Error()).WithCause(err)
	case errors.Is(err, store.ErrState):
		return fault.New(fault.FailedPrecondition, ReasonState, "the rollout is not in a state for that").WithCause(err)
	default:
		return err
	}
}

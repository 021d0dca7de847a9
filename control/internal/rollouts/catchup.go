// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollouts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Rest is how often it is looked for agents that wait, and for rollouts that are to be undone.
const Rest = 3 * time.Second

// CatchUp brings agents that wait for it what their group is assigned: at once if they are few, else by a rollout. What
// goes wrong with one group holds up no other.
func (r *Rollouts) CatchUp(ctx context.Context) error {
	waiting, err := r.store.GroupsWaiting(ctx, r.now())
	if err != nil {
		return fmt.Errorf("agents that wait: %w", err)
	}
	var failed []error
	for _, group := range waiting {
		if err := passing(r.catchUp(ctx, group)); err != nil {
			failed = append(failed, fmt.Errorf("agents that wait in group %s of tenant %s: %w", group.Group, group.Tenant, err))
		}
	}
	return errors.Join(failed...)
}

func (r *Rollouts) catchUp(ctx context.Context, group store.GroupWaiting) error {
	by := fleet.System(group.Tenant, r.now())
	switch {
	case group.State.Active() && group.Late == fleet.LateJoin:
		return r.joinLate(ctx, by, group)
	case group.Rollout != "" && group.State != fleet.RolloutCompleted, group.Assigned == fleet.AssignedVersion{}:
		return nil // it is not known yet what they are to have
	case group.Online <= r.limit:
		_, err := r.store.Release(ctx, group.Tenant, group.Group, r.limit, by.At)
		return err
	default:
		return r.catchUpByRollout(ctx, by, group)
	}
}

// joinLate adds agents that wait to the last wave of the rollout that is active. Who would be skipped goes on waiting.
func (r *Rollouts) joinLate(ctx context.Context, by fleet.By, group store.GroupWaiting) error {
	in, err := r.store.Rollout(ctx, by.Tenant, group.Rollout)
	if err != nil {
		return err
	}
	late, err := r.draw(ctx, by, in.Kind, in.Definition, store.RolloutScope{Waiting: true})
	if err != nil {
		return err
	}
	var members []fleet.Member
	for _, m := range late.Members {
		if m.State == fleet.MemberPending {
			m.Wave, m.Position = len(in.Plan.Waves), in.Plan.Agents+m.Position
			members = append(members, m)
		}
	}
	if len(members) == 0 {
		return nil
	}
	added, err := r.store.AddMembers(ctx, by.Tenant, in.ID, members, by.At)
	if err == nil {
		r.log.InfoContext(ctx, "agents that joined late are in the rollout", "rollout", in.ID, "agents", added)
	}
	return err
}

// catchUpByRollout makes and starts a rollout for more agents than may be changed at once.
func (r *Rollouts) catchUpByRollout(ctx context.Context, by fleet.By, group store.GroupWaiting) error {
	p, err := r.plan(ctx, by, fleet.RolloutCatchUp, fleet.RolloutDefinition{
		Group: group.Group, Config: group.Assigned.Config, Version: group.Assigned.Version,
		Strategy: fleet.Strategy{Kind: fleet.StrategyImmediate}, Note: "agents that waited for what their group is assigned",
	}, store.RolloutScope{Waiting: true})
	if err != nil || p.Plan.Agents == 0 {
		return err
	}
	started, err := r.begin(ctx, by, group.Rollout, p)
	if err == nil {
		r.log.InfoContext(ctx, "agents that waited get what their group is assigned", "rollout", started.ID, "agents", p.Plan.Agents)
	}
	return err
}

// UndoBreached makes the rollbacks that breached gates asked for.
func (r *Rollouts) UndoBreached(ctx context.Context) error {
	tenants, err := r.store.Tenants(ctx)
	if err != nil {
		return fmt.Errorf("tenants with rollouts: %w", err)
	}
	var failed []error
	for _, tenant := range tenants {
		list, _, err := r.store.Rollouts(ctx, tenant.ID, fleet.RolloutFilter{WantsRollback: true}, fleet.Page{Size: readAtOnce})
		if err != nil {
			failed = append(failed, fmt.Errorf("rollouts of tenant %s: %w", tenant.ID, err))
		}
		for _, breached := range list {
			undone, err := r.RollBack(ctx, fleet.System(tenant.ID, r.now()), Rollback{Rollout: breached.ID, Note: "by itself: " + breached.Reason})
			if err := passing(err); err != nil {
				failed = append(failed, fmt.Errorf("roll back %s of tenant %s: %w", breached.ID, tenant.ID, err))
			} else if undone.ID != "" {
				r.log.WarnContext(ctx, "a rollout is rolled back by itself", "rollout", breached.ID, "rollback", undone.ID, "reason", breached.Reason)
			}
		}
	}
	return errors.Join(failed...)
}

// passing leaves out what another look will find otherwise: somebody else was quicker, or acts at the moment.
func passing(err error) error {
	for _, of := range []error{store.ErrConflict, store.ErrContended, store.ErrState, store.ErrExists, store.ErrLimit} {
		if errors.Is(err, of) {
			return nil
		}
	}
	return err
}

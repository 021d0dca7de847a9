// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollouts

import (
	"context"
	"errors"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Assigned is what became of an assignment.
type Assigned struct {
	Assignment fleet.Assignment
	// Agents are those that it decides for.
	Agents int
	// Rollout is the one that was made and started for it; empty if none was needed.
	Rollout fleet.RolloutID
}

// Assign points a target at a published version, at once if that changes few agents, else by a rollout.
func (r *Rollouts) Assign(ctx context.Context, by fleet.By, target fleet.Target, to fleet.AssignedVersion) (Assigned, error) {
	if target.Group != "" {
		// What it rolls out is what the group is assigned.
		if in, found := r.activeIn(ctx, by.Tenant, target.Group); found {
			return Assigned{}, active(in)
		}
	}
	a, agents, err := r.store.Assign(ctx, by, fleet.Assignment{
		Tenant: by.Tenant, Target: target, Config: to.Config, Version: to.Version, CreatedBy: by.Principal.Name, CreatedAt: by.At,
	}, r.limit)
	if !errors.Is(err, store.ErrLimit) {
		return Assigned{Assignment: a, Agents: agents}, r.orActive(ctx, by.Tenant, target.Group, err)
	}
	return r.assignByRollout(ctx, by, target, to)
}

// Unassign removes the assignment of a target, if no rollout is active there.
func (r *Rollouts) Unassign(ctx context.Context, by fleet.By, target fleet.Target) error {
	return r.orActive(ctx, by.Tenant, target.Group, r.store.Unassign(ctx, by, target))
}

// DeleteGroup deletes a group, if no rollout is active in it.
func (r *Rollouts) DeleteGroup(ctx context.Context, by fleet.By, group fleet.GroupID) error {
	return r.orActive(ctx, by.Tenant, group, r.store.DeleteGroup(ctx, by, group))
}

func (r *Rollouts) assignByRollout(ctx context.Context, by fleet.By, target fleet.Target, to fleet.AssignedVersion) (Assigned, error) {
	p, err := r.plan(ctx, by, fleet.RolloutForward, fleet.RolloutDefinition{
		Group: target.Group, Config: to.Config, Version: to.Version, Strategy: fleet.Strategy{Kind: fleet.StrategyImmediate}, Note: "made by an assignment",
	}, store.RolloutScope{})
	if err != nil {
		return Assigned{}, err
	}
	started, err := r.begin(ctx, by, "", p)
	if err != nil {
		return Assigned{}, r.orActive(ctx, by.Tenant, target.Group, err)
	}
	a, err := r.assignmentOf(ctx, by.Tenant, target)
	return Assigned{Assignment: a, Agents: p.Plan.Agents, Rollout: started.ID}, err
}

// assignmentOf finds the assignment of a target.
func (r *Rollouts) assignmentOf(ctx context.Context, tenant fleet.TenantID, target fleet.Target) (fleet.Assignment, error) {
	page := fleet.Page{Size: readAtOnce}
	for {
		list, next, err := r.store.Assignments(ctx, tenant, page)
		if err != nil {
			return fleet.Assignment{}, err
		}
		for _, a := range list {
			if a.Target == target {
				return a, nil
			}
		}
		if next == "" {
			return fleet.Assignment{}, store.ErrConflict
		}
		page.After = next
	}
}

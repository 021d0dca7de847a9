// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollouts

import (
	"context"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Start says how a rollout is started.
type Start struct {
	Rollout fleet.RolloutID
	// Accept is the digest of a plan that was shown in the place of the one that was made; empty: none.
	Accept string
	// Supersede aborts what is active in the group.
	Supersede bool
}

// Start starts a pending rollout with the plan that it was made with, or with the one that was accepted.
func (r *Rollouts) Start(ctx context.Context, by fleet.By, s Start) (fleet.Rollout, error) {
	made, err := r.store.Rollout(ctx, by.Tenant, s.Rollout)
	if err != nil {
		return fleet.Rollout{}, err
	}
	if made.State != fleet.RolloutPending {
		return fleet.Rollout{}, wrongState(made, "started")
	}
	now, delta, err := r.redraw(ctx, by, made)
	if err != nil {
		return fleet.Rollout{}, err
	}
	start := store.RolloutStart{Rollout: made.ID, Version: made.Version, Supersede: s.Supersede}
	switch {
	case s.Accept == now.Plan.Digest:
		start.Plan, start.Members = &now.Plan, now.Members
	case s.Accept != "", rollout.Stale(delta, fleet.DefaultStale):
		return fleet.Rollout{}, stale(delta, now.Plan.Digest)
	}
	started, err := r.store.StartRollout(ctx, by, start)
	return started, r.orActive(ctx, by.Tenant, made.Definition.Group, err)
}

// redraw draws the plan anew, and says how it differs from the one that was made.
func (r *Rollouts) redraw(ctx context.Context, by fleet.By, made fleet.Rollout) (Planned, fleet.PlanDelta, error) {
	members, err := r.members(ctx, by.Tenant, made.ID)
	if err != nil {
		return Planned{}, fleet.PlanDelta{}, err
	}
	v, err := r.store.ConfigVersion(ctx, by.Tenant, made.Definition.Config, made.Definition.Version)
	if err != nil {
		return Planned{}, fleet.PlanDelta{}, err
	}
	if v.State != fleet.VersionPublished {
		return Planned{}, fleet.PlanDelta{}, notPublished("what it rolls out")
	}
	candidates, err := r.candidates(ctx, by.Tenant, made.Definition, scopeOf(made))
	if err != nil {
		return Planned{}, fleet.PlanDelta{}, err
	}
	if made.Definition.Order.Kind == fleet.OrderLastSeen {
		seenAsPlanned(candidates, members, by.At)
	}
	plan, drawn := rollout.Draw(made.Kind, made.Definition, candidates, by.At)
	return Planned{made.Kind, made.Definition, plan, drawn}, rollout.Compare(made.Plan, members, plan, drawn), nil
}

// scopeOf says which agents the plan of a rollout is about.
func scopeOf(made fleet.Rollout) store.RolloutScope {
	switch made.Kind {
	case fleet.RolloutRollback:
		return store.RolloutScope{Touched: made.Of}
	case fleet.RolloutCatchUp:
		return store.RolloutScope{Waiting: true}
	default:
		return store.RolloutScope{}
	}
}

// seenAsPlanned keeps the order that agents had when the plan was made: they are seen all the time, and no plan by when
// they were seen would last. Who is new comes last.
func seenAsPlanned(candidates []fleet.RolloutCandidate, members []fleet.Member, now time.Time) {
	place := make(map[fleet.AgentID]int, len(members))
	for _, m := range members {
		place[m.Agent] = m.Position
	}
	for i, c := range candidates {
		position, planned := place[c.Agent]
		if !planned {
			position = len(members)
		}
		candidates[i].LastSeenAt = now.Add(-time.Duration(position) * time.Second)
	}
}

// members reads all members of a rollout.
func (r *Rollouts) members(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID) ([]fleet.Member, error) {
	var all []fleet.Member
	page := fleet.Page{Size: readAtOnce}
	for {
		list, next, err := r.store.Members(ctx, tenant, id, fleet.MemberFilter{}, page)
		if err != nil {
			return nil, err
		}
		for _, m := range list {
			all = append(all, m.Member)
		}
		if next == "" {
			return all, nil
		}
		page.After = next
	}
}

// activeIn finds the rollout that is active in a group. Why it is not found does not matter to who asks.
func (r *Rollouts) activeIn(ctx context.Context, tenant fleet.TenantID, group fleet.GroupID) (fleet.Rollout, bool) {
	list, _, err := r.store.Rollouts(ctx, tenant, fleet.RolloutFilter{
		Group: group, States: []fleet.RolloutState{fleet.RolloutInProgress, fleet.RolloutPaused},
	}, fleet.Page{Size: 1})
	if err != nil || len(list) == 0 {
		return fleet.Rollout{}, false
	}
	return list[0], true
}

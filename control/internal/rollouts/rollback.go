// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollouts

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Rollback says how a rollout is rolled back.
type Rollback struct {
	Rollout fleet.RolloutID
	// Strategy is immediate if it is left out, Gates the defaults.
	Strategy fleet.Strategy
	Gates    fleet.Gates
	Note     string
}

// RollBack gives the agents that a rollout touched what each had before, by a rollout of its own.
func (r *Rollouts) RollBack(ctx context.Context, by fleet.By, b Rollback) (fleet.Rollout, error) {
	of, err := r.store.Rollout(ctx, by.Tenant, b.Rollout)
	if err != nil {
		return fleet.Rollout{}, err
	}
	if !slices.Contains(fleet.RolloutTransitions[of.State], fleet.RolloutRollingBack) || of.Kind == fleet.RolloutRollback {
		return fleet.Rollout{}, wrongState(of, "rolled back")
	}
	if of.State == fleet.RolloutInProgress {
		// Else agents are let in after the plan was made, and it takes them for being there still.
		if of, err = r.Pause(ctx, by, of.ID, "to be rolled back"); err != nil {
			return fleet.Rollout{}, err
		}
	}
	p, err := r.plan(ctx, by, fleet.RolloutRollback, undoing(of, b), store.RolloutScope{Touched: of.ID})
	if err != nil {
		return fleet.Rollout{}, err
	}
	started, err := r.begin(ctx, by, of.ID, p)
	return started, r.orActive(ctx, by.Tenant, of.Definition.Group, err)
}

// undoing is the definition of a rollback: of what the group was assigned before, if that was anything.
func undoing(of fleet.Rollout, b Rollback) fleet.RolloutDefinition {
	d := fleet.RolloutDefinition{
		Group: of.Definition.Group, Config: of.Definition.Config, Version: of.Definition.Version,
		Strategy: b.Strategy, Gates: b.Gates, Deadline: of.Definition.Deadline,
		Note: cmp.Or(b.Note, fmt.Sprintf("undoes %s@%d", of.Definition.ConfigName, of.Definition.Version)),
	}
	d.Strategy.Kind = cmp.Or(d.Strategy.Kind, fleet.StrategyImmediate)
	if of.Former != (fleet.AssignedVersion{}) {
		d.Config, d.Version = of.Former.Config, of.Former.Version
	}
	return d
}

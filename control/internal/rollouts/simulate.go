// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollouts

import (
	"cmp"
	"context"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/calendar"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// How agents answer, if nobody says otherwise.
const (
	usualQuickest = time.Second
	usualMedian   = 5 * time.Second
	usualP99      = 30 * time.Second
)

// Simulation says what is simulated: a definition, or that of a rollout that was made, with the agents of now.
type Simulation struct {
	Definition fleet.RolloutDefinition
	Rollout    fleet.RolloutID // takes the place of Definition; empty: none
	Model      rollout.Model
	StartAt    time.Time // zero: now
}

// Simulate runs a rollout against agents that answer as the model says, under the budgets and schedules of now.
func (r *Rollouts) Simulate(ctx context.Context, by fleet.By, s Simulation) (rollout.Simulation, error) {
	if s.Rollout != "" {
		made, err := r.store.Rollout(ctx, by.Tenant, s.Rollout)
		if err != nil {
			return rollout.Simulation{}, err
		}
		s.Definition = made.Definition
	}
	d, err := r.complete(ctx, by.Tenant, s.Definition)
	if err != nil {
		return rollout.Simulation{}, err
	}
	model := usual(s.Model)
	if err := model.Check(); err != nil {
		return rollout.Simulation{}, refused(err)
	}
	if model, err = r.within(ctx, by.Tenant, d.Group, model); err != nil {
		return rollout.Simulation{}, err
	}
	candidates, err := r.candidates(ctx, by.Tenant, d, store.RolloutScope{Blast: labelsOf(model.Budgets)})
	if err != nil {
		return rollout.Simulation{}, err
	}
	start := by.At
	if !s.StartAt.IsZero() {
		start = s.StartAt
	}
	return rollout.Simulate(d, candidates, model, start), nil
}

// within puts a model under the budgets and schedules that the group's agents are under.
func (r *Rollouts) within(ctx context.Context, tenant fleet.TenantID, group fleet.GroupID, m rollout.Model) (rollout.Model, error) {
	var err error
	if m.Budgets, err = r.store.Budgets(ctx, tenant); err != nil {
		return m, err
	}
	schedules, err := r.store.Schedules(ctx, tenant)
	if err != nil {
		return m, err
	}
	schedules = slices.DeleteFunc(schedules, func(s fleet.Schedule) bool { return len(s.Groups) > 0 && !slices.Contains(s.Groups, group) })
	if len(schedules) > 0 {
		m.Calendar = func(at time.Time) fleet.Calendar { return calendar.At(schedules, at) }
	}
	return m, nil
}

func labelsOf(budgets []fleet.Budget) []string {
	labels := make([]string, len(budgets))
	for i, b := range budgets {
		labels[i] = b.Label
	}
	return labels
}

// usual fills in what a model leaves out.
func usual(m rollout.Model) rollout.Model {
	m.Seed = cmp.Or(m.Seed, 1)
	m.Answers.Min = cmp.Or(m.Answers.Min, min(usualQuickest, cmp.Or(m.Answers.Median, usualQuickest)))
	m.Answers.Median = cmp.Or(m.Answers.Median, max(usualMedian, m.Answers.Min))
	m.Answers.P99 = cmp.Or(m.Answers.P99, max(usualP99, m.Answers.Median))
	return m
}

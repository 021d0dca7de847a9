// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Calendars keeps schedules and disruption budgets. What changes one lets the tenant's rollouts in progress look again.
type Calendars interface {
	// PutSchedule stores a schedule under its id, in the place of what stood there; who made it first stays. ErrExists if
	// another has its name; ErrNotFound if a group is none; ErrState if the tenant has fleet.MaxSchedules others.
	PutSchedule(ctx context.Context, by fleet.By, s fleet.Schedule) (fleet.Schedule, error)
	// Schedules lists by name.
	Schedules(ctx context.Context, tenant fleet.TenantID) ([]fleet.Schedule, error)
	// DeleteSchedule ends it. ErrNotFound.
	DeleteSchedule(ctx context.Context, by fleet.By, id fleet.ScheduleID) error
	// PutBudget stores a budget likewise. ErrExists; ErrState if the tenant has fleet.MaxBudgets others.
	PutBudget(ctx context.Context, by fleet.By, b fleet.Budget) (fleet.Budget, error)
	// Budgets lists by name.
	Budgets(ctx context.Context, tenant fleet.TenantID) ([]fleet.Budget, error)
	// DeleteBudget ends it. ErrNotFound.
	DeleteBudget(ctx context.Context, by fleet.By, id fleet.BudgetID) error
	// BudgetUses says how the tenant's budgets are used at now, by value, the fullest first, at most max. Counted are agents,
	// each once, that a rollout disturbs (of one that is over: until their deadline) or a restart command may.
	BudgetUses(ctx context.Context, tenant fleet.TenantID, now time.Time, max int) ([]fleet.BudgetUse, error)
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Calendars keeps schedules and disruption budgets.
type Calendars interface {
	// PutSchedule stores a schedule under its id. ErrExists if another has its name; ErrNotFound if a group is none.
	PutSchedule(ctx context.Context, by fleet.By, s fleet.Schedule) (fleet.Schedule, error)
	// Schedules lists by name.
	Schedules(ctx context.Context, tenant fleet.TenantID) ([]fleet.Schedule, error)
	// DeleteSchedule ends it; rollouts in progress are due. ErrNotFound.
	DeleteSchedule(ctx context.Context, by fleet.By, id fleet.ScheduleID) error
	// PutBudget stores a budget under its id. ErrExists if another has its name.
	PutBudget(ctx context.Context, by fleet.By, b fleet.Budget) (fleet.Budget, error)
	// Budgets lists by name.
	Budgets(ctx context.Context, tenant fleet.TenantID) ([]fleet.Budget, error)
	// DeleteBudget ends it; rollouts in progress are due. ErrNotFound.
	DeleteBudget(ctx context.Context, by fleet.By, id fleet.BudgetID) error
	// BudgetUses says how the tenant's budgets are used at now, by value, the fullest first, at most max.
	BudgetUses(ctx context.Context, tenant fleet.TenantID, now time.Time, max int) ([]fleet.BudgetUse, error)
}

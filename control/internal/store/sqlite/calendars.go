// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// PutSchedule implements store.Calendars.
func (s *Store) PutSchedule(ctx context.Context, by fleet.By, of fleet.Schedule) (put fleet.Schedule, err error) {
	err = s.changingCalendar(ctx, by, func(tx *sql.Tx) error {
		before, err := orNil(one(ctx, tx, scanSchedule, `SELECT `+scheduleColumns+` FROM schedules WHERE tenant_id = ?1 AND id = ?2`, by.Tenant, of.ID))
		if err != nil {
			return fail("find a schedule", err)
		}
		if before == nil {
			if err := roomFor(ctx, tx, "schedules", by.Tenant, fleet.MaxSchedules); err != nil {
				return err
			}
		}
		if err := areGroups(ctx, tx, by.Tenant, of.Groups); err != nil {
			return err
		}
		put, err = one(ctx, tx, scanSchedule, `
			INSERT INTO schedules (tenant_id, id, name, kind, groups, cron, rule, from_at, until_at, length, zone, created_by, created_at)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
			ON CONFLICT (tenant_id, id) DO UPDATE SET name = excluded.name, kind = excluded.kind, groups = excluded.groups, cron = excluded.cron,
				rule = excluded.rule, from_at = excluded.from_at, until_at = excluded.until_at, length = excluded.length, zone = excluded.zone
			RETURNING `+scheduleColumns,
			by.Tenant, of.ID, of.Name, of.Kind, asJSON(column.NotNull(of.Groups)), of.Cron, of.Rule, moment(of.From), moment(of.Until), int64(of.Length), of.Zone,
			of.CreatedBy, moment(of.CreatedAt))
		if err != nil {
			return fail("store a schedule", err)
		}
		return appendAudit(ctx, tx, by, trail.SchedulePut(before, put))
	})
	if err != nil {
		return fleet.Schedule{}, err
	}
	return put, nil
}

// areGroups is ErrNotFound unless all are groups that are not deleted.
func areGroups(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, groups []fleet.GroupID) error {
	var all bool
	err := tx.QueryRowContext(ctx, `
		SELECT NOT EXISTS (SELECT 1 FROM json_each(?2) AS n WHERE NOT EXISTS (
			SELECT 1 FROM groups g WHERE g.tenant_id = ?1 AND g.id = n.value AND g.deleted_at IS NULL))`, tenant, asJSON(column.NotNull(groups))).Scan(&all)
	if err == nil && !all {
		return fmt.Errorf("a group of a schedule: %w", store.ErrNotFound)
	}
	return fail("find the groups of a schedule", err)
}

// Schedules implements store.Calendars.
func (s *Store) Schedules(ctx context.Context, tenant fleet.TenantID) (schedules []fleet.Schedule, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		schedules, err = list(ctx, tx, scanSchedule, `SELECT `+scheduleColumns+` FROM schedules WHERE tenant_id = ?1 ORDER BY name`, tenant)
		return fail("list schedules", err)
	})
	return schedules, err
}

// readSchedules are those that are about a group.
func readSchedules(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, group fleet.GroupID) ([]fleet.Schedule, error) {
	schedules, err := list(ctx, tx, scanSchedule, `
		SELECT `+scheduleColumns+` FROM schedules WHERE tenant_id = ?1 AND (groups = '[]' OR ?2 IN (SELECT value FROM json_each(groups))) ORDER BY name`, tenant, group)
	return schedules, fail("read the schedules of a group", err)
}

// DeleteSchedule implements store.Calendars.
func (s *Store) DeleteSchedule(ctx context.Context, by fleet.By, id fleet.ScheduleID) error {
	return s.changingCalendar(ctx, by, func(tx *sql.Tx) error {
		gone, err := one(ctx, tx, scanSchedule, `DELETE FROM schedules WHERE tenant_id = ?1 AND id = ?2 RETURNING `+scheduleColumns, by.Tenant, id)
		if err != nil {
			return fail("delete a schedule", err)
		}
		return appendAudit(ctx, tx, by, trail.ScheduleDeleted(gone))
	})
}

// PutBudget implements store.Calendars.
func (s *Store) PutBudget(ctx context.Context, by fleet.By, b fleet.Budget) (put fleet.Budget, err error) {
	err = s.changingCalendar(ctx, by, func(tx *sql.Tx) error {
		before, err := orNil(one(ctx, tx, scanBudget, `SELECT `+budgetColumns+` FROM budgets WHERE tenant_id = ?1 AND id = ?2`, by.Tenant, b.ID))
		if err != nil {
			return fail("find a budget", err)
		}
		if before == nil {
			if err := roomFor(ctx, tx, "budgets", by.Tenant, fleet.MaxBudgets); err != nil {
				return err
			}
		}
		put, err = one(ctx, tx, scanBudget, `
			INSERT INTO budgets (tenant_id, id, name, label, most, created_by, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
			ON CONFLICT (tenant_id, id) DO UPDATE SET name = excluded.name, label = excluded.label, most = excluded.most
			RETURNING `+budgetColumns, by.Tenant, b.ID, b.Name, b.Label, b.Most, b.CreatedBy, moment(b.CreatedAt))
		if err != nil {
			return fail("store a budget", err)
		}
		return appendAudit(ctx, tx, by, trail.BudgetPut(before, put))
	})
	if err != nil {
		return fleet.Budget{}, err
	}
	return put, nil
}

// Budgets implements store.Calendars.
func (s *Store) Budgets(ctx context.Context, tenant fleet.TenantID) (budgets []fleet.Budget, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		budgets, err = list(ctx, tx, scanBudget, `SELECT `+budgetColumns+` FROM budgets WHERE tenant_id = ?1 ORDER BY name`, tenant)
		return fail("list budgets", err)
	})
	return budgets, err
}

// DeleteBudget implements store.Calendars.
func (s *Store) DeleteBudget(ctx context.Context, by fleet.By, id fleet.BudgetID) error {
	return s.changingCalendar(ctx, by, func(tx *sql.Tx) error {
		gone, err := one(ctx, tx, scanBudget, `DELETE FROM budgets WHERE tenant_id = ?1 AND id = ?2 RETURNING `+budgetColumns, by.Tenant, id)
		if err != nil {
			return fail("delete a budget", err)
		}
		return appendAudit(ctx, tx, by, trail.BudgetDeleted(gone))
	})
}

// changingCalendar is inTenant for what changes schedules or budgets. Rollouts that go by them look again.
func (s *Store) changingCalendar(ctx context.Context, by fleet.By, do func(tx *sql.Tx) error) error {
	return s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			UPDATE rollouts SET wake_at = ?2 WHERE tenant_id = ?1 AND state = 'in_progress' AND wake_at > ?2`,
			by.Tenant, moment(by.At))
		if err != nil {
			return fail("wake the rollouts", err)
		}
		return do(tx)
	})
}

// roomFor is ErrState if a tenant has so many rows in a table already.
func roomFor(ctx context.Context, tx *sql.Tx, table string, tenant fleet.TenantID, most int) error {
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM "+table+" WHERE tenant_id = ?1", tenant).Scan(&n); err != nil {
		return fail("count "+table, err)
	}
	if n >= most {
		return fmt.Errorf("%s, more than %d: %w", table, most, store.ErrState)
	}
	return nil
}

// orNil is a row, or nil if there is none.
func orNil[T any](row T, err error) (*T, error) {
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, err
	default:
		return &row, nil
	}
}

const scheduleColumns = `tenant_id, id, name, kind, groups, cron, rule, from_at, until_at, length, zone, created_by, created_at`

func scanSchedule(row scanner) (s fleet.Schedule, err error) {
	err = row.Scan(&s.Tenant, &s.ID, &s.Name, &s.Kind, document(&s.Groups), &s.Cron, &s.Rule, (*instant)(&s.From), (*instant)(&s.Until), &s.Length, &s.Zone,
		&s.CreatedBy, (*instant)(&s.CreatedAt))
	return s, err
}

const budgetColumns = `tenant_id, id, name, label, most, created_by, created_at`

func scanBudget(row scanner) (b fleet.Budget, err error) {
	err = row.Scan(&b.Tenant, &b.ID, &b.Name, &b.Label, &b.Most, &b.CreatedBy, (*instant)(&b.CreatedAt))
	return b, err
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// BudgetUses implements store.Calendars.
func (s *Store) BudgetUses(ctx context.Context, tenant fleet.TenantID, now time.Time, most int) (uses []fleet.BudgetUse, err error) {
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		uses, err = budgetUses(ctx, tx, tenant, now, most)
		return err
	})
	return uses, err
}

// readBudgets says how a tenant's budgets are used, and writes to agents that may be disturbed next which of them they
// would count for. The budgets are locked until the commit: whoever disturbs agents counts them one after the other.
func readBudgets(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, now time.Time, next []fleet.NextCandidate) ([]fleet.BudgetUse, error) {
	// A statement of its own: what others committed while it was waited for, the next one sees.
	locked, err := affected(tx.Exec(ctx, "SELECT FROM budgets WHERE tenant_id = $1 ORDER BY id FOR UPDATE", tenant))
	if err != nil || locked == 0 {
		return nil, fail("lock the budgets", err)
	}
	return budgetsOf(ctx, tx, tenant, now, next)
}

// budgetsOf is readBudgets without the lock.
func budgetsOf(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, now time.Time, next []fleet.NextCandidate) ([]fleet.BudgetUse, error) {
	uses, err := budgetUses(ctx, tx, tenant, now, math.MaxInt32)
	if err != nil {
		return nil, err
	}
	counted, err := list(ctx, tx, func(row pgx.Row) (c verdict.CountedFor, err error) {
		err = row.Scan(&c.Agent, &c.Use.Budget, &c.Use.Value, &c.Use.Name, &c.Use.Most)
		return c, err
	}, `
		SELECT agent_id, id, value, name, most FROM (
			SELECT d.agent_id, b.id, b.name, b.most, `+budgetValue+` AS value
			FROM budgets b, unnest($3::uuid[]) AS d (agent_id)
			WHERE b.tenant_id = $1 AND d.agent_id NOT IN (`+disturbed+`)) AS counted
		WHERE value IS NOT NULL ORDER BY name`, tenant, moment(now), ids(next, func(c fleet.NextCandidate) fleet.AgentID { return c.Agent }))
	if err != nil {
		return nil, fail("read what agents count for", err)
	}
	return verdict.CountFor(next, counted, uses), nil
}

// budgetUses are those of which something is used, the fullest first.
func budgetUses(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, now time.Time, most int) ([]fleet.BudgetUse, error) {
	uses, err := list(ctx, tx, func(row pgx.Row) (u fleet.BudgetUse, err error) {
		err = row.Scan(&u.Budget, &u.Value, &u.Name, &u.Most, &u.Used)
		return u, err
	}, `
		SELECT id, value, name, most, count(*) FROM (
			SELECT b.id, b.name, b.most, `+budgetValue+` AS value
			FROM budgets b, (`+disturbed+`) AS d
			WHERE b.tenant_id = $1) AS counted
		WHERE value IS NOT NULL GROUP BY id, name, most, value
		ORDER BY count(*)::float8 / most DESC, name, value COLLATE "C" LIMIT $3`, tenant, moment(now), most)
	return uses, fail("read how budgets are used", err)
}

const (
	// disturbed are the agents of tenant $1 that are disturbed at $2, each once. What a rollout that is over left so is not
	// looked at any more.
	disturbed = `
		SELECT m.agent_id FROM rollout_members m JOIN rollouts r ON r.tenant_id = m.tenant_id AND r.id = m.rollout_id
		WHERE m.tenant_id = $1 AND m.disturbed AND (r.state IN ('in_progress', 'paused', 'rolling_back') OR m.deadline_at > $2)
		UNION SELECT agent_id FROM disturbances WHERE tenant_id = $1 AND until_at > $2`
	// budgetValue is what agent d has of the label of budget b: a tag, else a label of its own.
	budgetValue = `coalesce(
		(SELECT t.value FROM agent_tags t WHERE t.tenant_id = b.tenant_id AND t.agent_id = d.agent_id AND t.key = b.label),
		(SELECT l.value FROM agent_labels l WHERE l.tenant_id = b.tenant_id AND l.agent_id = d.agent_id AND l.key = b.label))`
)

// restartable leaves of a restart those that budgets have room for.
func restartable(ctx context.Context, tx pgx.Tx, by fleet.By, act fleet.Act, outcome fleet.ActOutcome) (fleet.ActOutcome, error) {
	read := readBudgets
	if act.Preview {
		read = budgetsOf
	}
	counting := verdict.Counting(outcome.Done)
	uses, err := read(ctx, tx, by.Tenant, by.At, counting)
	return verdict.WithinBudgets(outcome, counting, uses), err
}

// queueDisturbed notes that agents are disturbed by something that is no rollout, if there are budgets that count it.
func queueDisturbed(batch *pgx.Batch, by fleet.By, kind fleet.DispatchKind, until time.Time, agents []fleet.AgentID) {
	batch.Queue("DELETE FROM disturbances WHERE tenant_id = $1 AND until_at <= $2", by.Tenant, moment(by.At))
	batch.Queue(`
		INSERT INTO disturbances (tenant_id, agent_id, kind, until_at)
		SELECT $1, id, $3, $4 FROM unnest($2::uuid[]) AS id WHERE EXISTS (SELECT FROM budgets WHERE tenant_id = $1) ORDER BY id
		ON CONFLICT (tenant_id, agent_id, kind) DO UPDATE SET until_at = excluded.until_at`,
		by.Tenant, ids(agents, itself), kind, moment(until))
}

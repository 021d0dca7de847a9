// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"math"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// BudgetUses implements store.Calendars.
func (s *Store) BudgetUses(ctx context.Context, tenant fleet.TenantID, now time.Time, most int) (uses []fleet.BudgetUse, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		uses, err = budgetUses(ctx, tx, tenant, now, most)
		return err
	})
	return uses, err
}

// readBudgets says how a tenant's budgets are used, and writes to agents that may be disturbed next which of them they
// would count for.
func readBudgets(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, now time.Time, next []fleet.NextCandidate) ([]fleet.BudgetUse, error) {
	uses, err := budgetUses(ctx, tx, tenant, now, math.MaxInt32)
	if err != nil {
		return nil, err
	}
	agents := make([]fleet.AgentID, len(next))
	for i, c := range next {
		agents[i] = c.Agent
	}
	counted, err := list(ctx, tx, func(row scanner) (c verdict.CountedFor, err error) {
		err = row.Scan(&c.Agent, &c.Use.Budget, &c.Use.Value, &c.Use.Name, &c.Use.Most)
		return c, err
	}, `
		SELECT agent_id, id, value, name, most FROM (
			SELECT d.agent_id, b.id, b.name, b.most, `+budgetValue+` AS value
			FROM budgets b, (SELECT value AS agent_id FROM json_each(?3)) AS d
			WHERE b.tenant_id = ?1 AND d.agent_id NOT IN (`+disturbed+`)) AS counted
		WHERE value IS NOT NULL ORDER BY name`, tenant, moment(now), asJSON(agents))
	if err != nil {
		return nil, fail("read what agents count for", err)
	}
	return verdict.CountFor(next, counted, uses), nil
}

// budgetUses are those of which something is used, the fullest first.
func budgetUses(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, now time.Time, most int) ([]fleet.BudgetUse, error) {
	uses, err := list(ctx, tx, func(row scanner) (u fleet.BudgetUse, err error) {
		err = row.Scan(&u.Budget, &u.Value, &u.Name, &u.Most, &u.Used)
		return u, err
	}, `
		SELECT id, value, name, most, count(*) FROM (
			SELECT b.id, b.name, b.most, `+budgetValue+` AS value
			FROM budgets b, (`+disturbed+`) AS d
			WHERE b.tenant_id = ?1) AS counted
		WHERE value IS NOT NULL GROUP BY id, name, most, value
		ORDER BY CAST(count(*) AS REAL) / most DESC, name, value LIMIT ?3`, tenant, moment(now), most)
	return uses, fail("read how budgets are used", err)
}

const (
	// disturbed are the agents of tenant ?1 that are disturbed at ?2, each once. What a rollout that is over left so is not
	// looked at any more.
	disturbed = `
		SELECT m.agent_id FROM rollout_members m JOIN rollouts r ON r.tenant_id = m.tenant_id AND r.id = m.rollout_id
		WHERE m.tenant_id = ?1 AND m.disturbed AND (r.state IN ('in_progress', 'paused', 'rolling_back') OR m.deadline_at > ?2)
		UNION SELECT agent_id FROM disturbances WHERE tenant_id = ?1 AND until_at > ?2`
	// budgetValue is what agent d has of the label of budget b: a tag, else a label of its own.
	budgetValue = `coalesce(
		(SELECT t.value FROM agent_tags t WHERE t.tenant_id = b.tenant_id AND t.agent_id = d.agent_id AND t.key = b.label),
		(SELECT l.value FROM agent_labels l WHERE l.tenant_id = b.tenant_id AND l.agent_id = d.agent_id AND l.key = b.label))`
)

// restartable leaves of a restart those that budgets have room for.
func restartable(ctx context.Context, tx *sql.Tx, by fleet.By, outcome fleet.ActOutcome) (fleet.ActOutcome, error) {
	counting := verdict.Counting(outcome.Done)
	uses, err := readBudgets(ctx, tx, by.Tenant, by.At, counting)
	return verdict.WithinBudgets(outcome, counting, uses), err
}

// noteDisturbed notes that agents are disturbed by something that is no rollout, if there are budgets that count it.
func noteDisturbed(ctx context.Context, tx *sql.Tx, by fleet.By, kind fleet.DispatchKind, until time.Time, agents []fleet.AgentID) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM disturbances WHERE tenant_id = ?1 AND until_at <= ?2", by.Tenant, moment(by.At)); err != nil {
		return fail("forget who was disturbed", err)
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO disturbances (tenant_id, agent_id, kind, until_at)
		SELECT ?1, value, ?3, ?4 FROM json_each(?2) WHERE EXISTS (SELECT 1 FROM budgets WHERE tenant_id = ?1)
		ON CONFLICT (tenant_id, agent_id, kind) DO UPDATE SET until_at = excluded.until_at`,
		by.Tenant, asJSON(agents), kind, moment(until))
	return fail("note who is disturbed", err)
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// PutConfigRule implements store.ConfigRules.
func (s *Store) PutConfigRule(ctx context.Context, by fleet.By, r fleet.ConfigRule) (put fleet.ConfigRule, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		// Whoever adds rules does so one after the other, so that they are counted.
		if _, err := tx.Exec(ctx, "SELECT FROM tenants WHERE id = $1 FOR NO KEY UPDATE", by.Tenant); err != nil {
			return fail("lock the tenant", err)
		}
		before, err := configRule(ctx, tx, by.Tenant, r.ID)
		if err != nil {
			return err
		}
		if before == nil {
			var n int
			err := tx.QueryRow(ctx, "SELECT count(*) FROM config_rules WHERE tenant_id = $1", by.Tenant).Scan(&n)
			if err != nil {
				return fail("count the rules", err)
			}
			if n >= fleet.MaxConfigRules {
				return fmt.Errorf("a rule more than %d: %w", fleet.MaxConfigRules, store.ErrState)
			}
		}
		put, err = one(ctx, tx, scanConfigRule, `
			INSERT INTO config_rules (tenant_id, id, severity, expression, message, fix, changed_by, changed_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (tenant_id, id) DO UPDATE SET severity = excluded.severity, expression = excluded.expression,
				message = excluded.message, fix = excluded.fix, changed_by = excluded.changed_by, changed_at = excluded.changed_at
			RETURNING `+configRuleColumns,
			by.Tenant, r.ID, r.Severity, r.Expression, r.Message, r.Fix, by.Principal.Name, moment(by.At))
		if err != nil {
			return fail("store a rule", err)
		}
		return appendAudit(ctx, tx, by, trail.ConfigRulePut(before, put))
	})
	if err != nil {
		return fleet.ConfigRule{}, err
	}
	return put, nil
}

// configRule returns a rule, or nil.
func configRule(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, id string) (*fleet.ConfigRule, error) {
	r, err := one(ctx, tx, scanConfigRule, `SELECT `+configRuleColumns+` FROM config_rules WHERE tenant_id = $1 AND id = $2`, tenant, id)
	if err = fail("find a rule", err); errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return &r, err
}

// DeleteConfigRule implements store.ConfigRules.
func (s *Store) DeleteConfigRule(ctx context.Context, by fleet.By, id string) error {
	return s.inTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		r, err := one(ctx, tx, scanConfigRule, `DELETE FROM config_rules WHERE tenant_id = $1 AND id = $2 RETURNING `+configRuleColumns, by.Tenant, id)
		if err != nil {
			return fail("delete a rule", err)
		}
		return appendAudit(ctx, tx, by, trail.ConfigRuleDeleted(r))
	})
}

// ConfigRules implements store.ConfigRules.
func (s *Store) ConfigRules(ctx context.Context, tenant fleet.TenantID) (rules []fleet.ConfigRule, err error) {
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		rules, err = list(ctx, tx, scanConfigRule, `SELECT `+configRuleColumns+` FROM config_rules WHERE tenant_id = $1 ORDER BY id`, tenant)
		return fail("list rules", err)
	})
	return rules, err
}

const configRuleColumns = `tenant_id, id, severity, expression, message, fix, changed_by, changed_at`

func scanConfigRule(row pgx.Row) (r fleet.ConfigRule, err error) {
	err = row.Scan(&r.Tenant, &r.ID, &r.Severity, &r.Expression, &r.Message, &r.Fix, &r.ChangedBy, (*instant)(&r.ChangedAt))
	return r, err
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// Names of tables and columns are those that fleet.WrappedColumns declares: constants of the program.

// Envelopes implements store.Envelopes.
func (s *Store) Envelopes(ctx context.Context, c fleet.WrappedColumn, tenant fleet.TenantID, after string, most int) (envelopes []fleet.Envelope, err error) {
	scope, of := c.Scope(tenant)
	query := fmt.Sprintf(`
		SELECT %[1]s, %[2]s FROM %[3]s WHERE %[4]s = $1 AND %[1]s > $2 AND length(%[2]s) > 0 ORDER BY %[1]s LIMIT $3`,
		c.Key, c.Column, c.Table, scope)
	err = s.ofTenantOrNone(ctx, tenant, func(tx pgx.Tx) error {
		envelopes, err = list(ctx, tx, func(row pgx.Row) (e fleet.Envelope, err error) {
			e.Tenant = tenant
			err = row.Scan(&e.Key, &e.Value)
			return e, err
		}, query, of, after, most)
		return fail("list envelopes", err)
	})
	return envelopes, err
}

// ReplaceEnvelope implements store.Envelopes.
func (s *Store) ReplaceEnvelope(ctx context.Context, by fleet.By, c fleet.WrappedColumn, was fleet.Envelope, value []byte) error {
	scope, of := c.Scope(by.Tenant)
	statement := fmt.Sprintf(`UPDATE %[3]s SET %[2]s = $4 WHERE %[4]s = $1 AND %[1]s = $2 AND %[2]s = $3`, c.Key, c.Column, c.Table, scope)
	return s.ofTenantOrNone(ctx, by.Tenant, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, statement, of, was.Key, was.Value, value)
		if err != nil {
			return fail("replace an envelope", err)
		}
		if done.RowsAffected() == 0 {
			return fmt.Errorf("replace an envelope: %w", store.ErrConflict)
		}
		if by.Tenant == "" {
			return nil
		}
		return appendAudit(ctx, tx, by, trail.Rewrapped(c, was.Key))
	})
}

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
	"gitlab.com/ampora/ampora/shared/identity"
)

// inTenant runs do in a transaction about one tenant. Nothing but the queries confines it to the tenant's rows.
func (s *Store) inTenant(ctx context.Context, tenant fleet.TenantID, do func(tx *sql.Tx) error) error {
	return s.asTenant(ctx, s.writer, tenant, do)
}

// reading is inTenant for reads: all queries of do see the same moment, and writing fails.
func (s *Store) reading(ctx context.Context, tenant fleet.TenantID, do func(tx *sql.Tx) error) error {
	return s.asTenant(ctx, s.reader, tenant, do)
}

// asWorker runs do in a transaction about all tenants.
func (s *Store) asWorker(ctx context.Context, do func(tx *sql.Tx) error) error {
	return s.run(ctx, s.writer, do)
}

// readingAsWorker is asWorker for reads.
func (s *Store) readingAsWorker(ctx context.Context, do func(tx *sql.Tx) error) error {
	return s.run(ctx, s.reader, do)
}

// enter stands where PostgreSQL's worker enters a tenant; here the queries name it, and a name is all that is checked.
func enter(_ context.Context, _ *sql.Tx, tenant fleet.TenantID) error {
	return checkTenant(tenant)
}

func (s *Store) asTenant(ctx context.Context, db *sql.DB, tenant fleet.TenantID, do func(tx *sql.Tx) error) error {
	if err := checkTenant(tenant); err != nil {
		return err
	}
	return s.run(ctx, db, do)
}

// checkTenant refuses what is not the name of a tenant: no row can belong to it.
func checkTenant(tenant fleet.TenantID) error {
	if _, err := identity.ParseTenantID(string(tenant)); err != nil {
		return fmt.Errorf("tenant: %w", store.ErrNotFound)
	}
	return nil
}

// run needs no second try: writers stand in line, and readers see their moment.
func (s *Store) run(ctx context.Context, db *sql.DB, do func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fail("begin", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit this does nothing
	if err := do(tx); err != nil {
		// A transaction that ended with its context answers ErrTxDone; the context says why.
		if over := ctx.Err(); over != nil && errors.Is(err, sql.ErrTxDone) {
			return fmt.Errorf("transaction: %w", over)
		}
		return err
	}
	return fail("commit", tx.Commit())
}

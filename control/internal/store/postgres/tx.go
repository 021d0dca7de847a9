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
	"gitlab.com/ampora/ampora/shared/identity"
)

// attempts is how often a transaction is run that loses against another.
const attempts = 3

// inTenant runs do in a transaction that sees the tenant's rows and no others.
func (s *Store) inTenant(ctx context.Context, tenant fleet.TenantID, do func(tx pgx.Tx) error) error {
	return s.asTenant(ctx, "BEGIN", tenant, do)
}

// reading is inTenant for reads: all queries of do see the same moment, and writing fails.
func (s *Store) reading(ctx context.Context, tenant fleet.TenantID, do func(tx pgx.Tx) error) error {
	return s.asTenant(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", tenant, do)
}

// walking is reading for pages of tables in the order of their keys. A planner that takes a hundred thousand rows for a
// few, because its statistics are old, would sort them all for each page.
func (s *Store) walking(ctx context.Context, tenant fleet.TenantID, do func(tx pgx.Tx) error) error {
	return s.asTenant(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off", tenant, do)
}

// bulkInTenant is inTenant for statements that join lists of rows to tables. Statistics are of before the burst, or of
// before the tenant: a planner that takes thousands of rows for one would go through the list for each of them.
func (s *Store) bulkInTenant(ctx context.Context, tenant fleet.TenantID, do func(tx pgx.Tx) error) error {
	return s.asTenant(ctx, "BEGIN; SET LOCAL enable_nestloop = off", tenant, do)
}

// bulkReading is reading for such statements.
func (s *Store) bulkReading(ctx context.Context, tenant fleet.TenantID, do func(tx pgx.Tx) error) error {
	return s.asTenant(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_nestloop = off", tenant, do)
}

// bulkAsWorker is asWorker for such statements.
func (s *Store) bulkAsWorker(ctx context.Context, do func(tx pgx.Tx) error) error {
	return s.run(ctx, "BEGIN; SET LOCAL ROLE ampora_worker; SET LOCAL enable_nestloop = off", do)
}

// asWorker runs do in a transaction that looks over tenants at what the worker's policies let it. enter gives it the
// rows of one.
func (s *Store) asWorker(ctx context.Context, do func(tx pgx.Tx) error) error {
	return s.run(ctx, "BEGIN; SET LOCAL ROLE ampora_worker", do)
}

// readingAsWorker is asWorker for reads.
func (s *Store) readingAsWorker(ctx context.Context, do func(tx pgx.Tx) error) error {
	return s.run(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL ROLE ampora_worker", do)
}

// enter lets a worker's transaction go on in a tenant, until it enters another.
func enter(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID) error {
	_, err := tx.Exec(ctx, entering, tenant)
	return fail("enter the tenant", err)
}

const entering = "SELECT set_config('ampora.tenant', $1, true)"

// asTenant puts role and tenant into the round trip of BEGIN. A tenant's name is checked before it becomes part of a
// statement; no row can belong to one that is not a name.
func (s *Store) asTenant(ctx context.Context, begin string, tenant fleet.TenantID, do func(tx pgx.Tx) error) error {
	name, err := identity.ParseTenantID(string(tenant))
	if err != nil {
		return fmt.Errorf("tenant: %w", store.ErrNotFound)
	}
	enter := fmt.Sprintf("; SET LOCAL ROLE ampora_api; SET LOCAL ampora.tenant = '%s'", name)
	return s.run(ctx, begin+enter, do)
}

func (s *Store) run(ctx context.Context, begin string, do func(tx pgx.Tx) error) error {
	var err error
	for range attempts {
		if err = s.once(ctx, begin, do); !errors.Is(err, errLost) {
			return err
		}
	}
	return err
}

func (s *Store) once(ctx context.Context, begin string, do func(tx pgx.Tx) error) error {
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
	if err != nil {
		return fail("begin", err)
	}
	// After a commit this does nothing. It must reach the server even if ctx is over, or the connection is lost.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := do(tx); err != nil {
		return err
	}
	return failCommit(tx.Commit(ctx))
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// FixSetting implements store.Installation.
func (s *Store) FixSetting(ctx context.Context, name string, value []byte) (stored []byte, err error) {
	err = s.asWorker(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING`, name, value)
		if err != nil {
			return fail("fix a setting", err)
		}
		err = tx.QueryRowContext(ctx, "SELECT value FROM settings WHERE name = ?1", name).Scan(&stored)
		return fail("read a setting", err)
	})
	return stored, err
}

// PutSetting implements store.Installation.
func (s *Store) PutSetting(ctx context.Context, name string, value []byte) error {
	return s.asWorker(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
		return fail("put a setting", err)
	})
}

// Setting implements store.Installation.
func (s *Store) Setting(ctx context.Context, name string) (value []byte, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, "SELECT value FROM settings WHERE name = ?1", name).Scan(&value)
		return fail("read a setting", err)
	})
	return value, err
}

// EnsureTenant implements store.Installation.
func (s *Store) EnsureTenant(ctx context.Context, t fleet.Tenant) (stored fleet.Tenant, err error) {
	err = s.inTenant(ctx, t.ID, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO tenants (id, created_at, wrapped_data_key) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING`,
			t.ID, moment(t.CreatedAt), t.WrappedDataKey)
		if err != nil {
			return fail("create the tenant", err)
		}
		stored, err = tenant(ctx, tx, t.ID)
		return err
	})
	return stored, err
}

// Tenant implements store.Installation.
func (s *Store) Tenant(ctx context.Context, id fleet.TenantID) (t fleet.Tenant, err error) {
	err = s.reading(ctx, id, func(tx *sql.Tx) error {
		t, err = tenant(ctx, tx, id)
		return err
	})
	return t, err
}

// Tenants implements store.Installation.
func (s *Store) Tenants(ctx context.Context) (tenants []fleet.Tenant, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		tenants, err = list(ctx, tx, scanTenant, "SELECT "+tenantColumns+" FROM tenants ORDER BY id")
		return fail("list tenants", err)
	})
	return tenants, err
}

const tenantColumns = "id, created_at, wrapped_data_key, revocations"

func scanTenant(row scanner) (t fleet.Tenant, err error) {
	err = row.Scan(&t.ID, (*instant)(&t.CreatedAt), &t.WrappedDataKey, &t.Revocations)
	return t, err
}

func tenant(ctx context.Context, tx *sql.Tx, id fleet.TenantID) (fleet.Tenant, error) {
	t, err := one(ctx, tx, scanTenant, "SELECT "+tenantColumns+" FROM tenants WHERE id = ?1", id)
	return t, fail("read the tenant", err)
}

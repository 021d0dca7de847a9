// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// VoidAfterBackup implements store.Restoration.
func (s *Store) VoidAfterBackup(ctx context.Context, r store.Restored) (v store.Voided, err error) {
	err = s.asWorker(ctx, func(tx *sql.Tx) error {
		var living int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM replicas WHERE lease_until > ?1", moment(r.At)).Scan(&living); err != nil {
			return fail("look for replicas", err)
		}
		if living > 0 {
			return fmt.Errorf("%d replicas are running: %w", living, store.ErrState)
		}
		if v, err = voidShared(ctx, tx, r); err != nil {
			return err
		}
		tenants, err := list(ctx, tx, scanTenant, "SELECT "+tenantColumns+" FROM tenants ORDER BY id")
		if err != nil {
			return fail("list tenants", err)
		}
		for _, t := range tenants {
			if err := enter(ctx, tx, t.ID); err != nil {
				return err
			}
			of, err := voidOf(ctx, tx, t.ID, r.At)
			if err != nil {
				return err
			}
			v.Sessions, v.BootstrapTokens = v.Sessions+of.Sessions, v.BootstrapTokens+of.BootstrapTokens
			of.JoinTokens = v.JoinTokens
			if err := appendAudit(ctx, tx, fleet.System(t.ID, r.At), trail.Restored(of)); err != nil {
				return err
			}
		}
		return nil
	})
	return v, err
}

// voidShared makes void what belongs to no tenant.
func voidShared(ctx context.Context, tx *sql.Tx, r store.Restored) (v store.Voided, err error) {
	if _, err := tx.ExecContext(ctx, "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", r.Setting, r.Line); err != nil {
		return v, fail("begin another line of revocations", err)
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM seats"); err != nil {
		return v, fail("end shared sessions", err)
	}
	if _, err := tx.ExecContext(ctx, "UPDATE gateways SET boot_id = 0, lease_until = NULL"); err != nil {
		return v, fail("end the leases of gateways", err)
	}
	v.JoinTokens, err = changed(tx.ExecContext(ctx, `UPDATE join_tokens SET revoked_at = ?1 WHERE used_at IS NULL AND revoked_at IS NULL AND expires_at > ?1`, moment(r.At)))
	return v, fail("revoke join tokens", err)
}

// voidOf makes void what belongs to a tenant. Every agent leaps, also one that had no session: it may have had one since.
func voidOf(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, at time.Time) (v store.Voided, err error) {
	v.Sessions, err = changed(tx.ExecContext(ctx, `UPDATE agents SET ended_at = ?2, end_reason = ?3 WHERE tenant_id = ?1 AND epoch > 0 AND ended_at IS NULL`,
		tenant, moment(at), trail.EndRestored))
	if err != nil {
		return v, fail("end sessions", err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE agents SET epoch = epoch + ?2, ended_at = coalesce(ended_at, ?3), state_known = false, last_sequence = 0, former_epoch = 0 WHERE tenant_id = ?1`,
		tenant, int64(store.EpochLeap), moment(at))
	if err != nil {
		return v, fail("raise epochs", err)
	}
	v.BootstrapTokens, err = changed(tx.ExecContext(ctx, `UPDATE bootstrap_tokens SET revoked_at = ?2 WHERE tenant_id = ?1 AND redeemed_at IS NULL AND revoked_at IS NULL AND expires_at > ?2`,
		tenant, moment(at)))
	return v, fail("revoke bootstrap tokens", err)
}

// ImportRevocationList implements store.Restoration.
func (s *Store) ImportRevocationList(ctx context.Context, by fleet.By, l fleet.RevocationList, names []fleet.Revoked) (i store.Imported, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		revoked, err := revokeListed(ctx, tx, l, names)
		if err != nil {
			return err
		}
		if i.Unknown, err = noteForeign(ctx, tx, l, names); err != nil {
			return err
		}
		if i.Revoked = len(revoked); i.Revoked > 0 {
			if err := numberRevoked(ctx, tx, by.Tenant, revoked); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO revocation_lists AS l (tenant_id, key_id, number, der, this_update, next_update) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
			ON CONFLICT (tenant_id, key_id) DO UPDATE SET number = excluded.number, der = excluded.der,
				this_update = excluded.this_update, next_update = excluded.next_update
			WHERE l.number < excluded.number`,
			by.Tenant, l.Key, l.Number, l.DER, moment(l.ThisUpdate), moment(l.NextUpdate))
		if err != nil {
			return fail("store the list", err)
		}
		return appendAudit(ctx, tx, by, trail.RevocationListImported(l, i))
	})
	return i, err
}

// revokeListed revokes what a list names and returns what of it was good.
func revokeListed(ctx context.Context, tx *sql.Tx, l fleet.RevocationList, names []fleet.Revoked) ([]fleet.Certificate, error) {
	revoked, err := list(ctx, tx, scanCertificate, `
		UPDATE certificates SET revoked_at = n.value ->> 1, revocation_reason = n.value ->> 2, listed = ?4
		FROM json_each(?3) AS n
		WHERE tenant_id = ?1 AND key_id = ?2 AND serial = n.value ->> 0 AND revoked_at IS NULL RETURNING `+certificateColumns,
		l.Tenant, l.Key, asRows(names), l.Number)
	return revoked, fail("revoke what the list names", err)
}

// noteForeign notes what a list names that is not on record, so that further lists name it, and says how much that is.
func noteForeign(ctx context.Context, tx *sql.Tx, l fleet.RevocationList, names []fleet.Revoked) (unknown int, err error) {
	const foreigners = `FROM json_each(?2) AS n WHERE NOT EXISTS (SELECT 1 FROM certificates WHERE tenant_id = ?1 AND serial = n.value ->> 0)`
	err = tx.QueryRowContext(ctx, `SELECT count(*) `+foreigners, l.Tenant, asRows(names)).Scan(&unknown)
	if err != nil {
		return 0, fail("count what is not on record", err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO foreign_revocations (tenant_id, key_id, serial, revoked_at, reason)
		SELECT ?1, ?3, n.value ->> 0, n.value ->> 1, n.value ->> 2 `+foreigners+` ON CONFLICT DO NOTHING`, l.Tenant, asRows(names), l.Key)
	return unknown, fail("note what the list names", err)
}

// asRows are serial, time and reason of each, as a parameter.
func asRows(names []fleet.Revoked) string {
	rows := make([][3]any, len(names))
	for i, n := range names {
		rows[i] = [3]any{n.Serial, moment(n.At), n.Reason}
	}
	return asJSON(rows)
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// VoidAfterBackup implements store.Restoration.
func (s *Store) VoidAfterBackup(ctx context.Context, r store.Restored) (v store.Voided, err error) {
	err = s.asWorker(ctx, func(tx pgx.Tx) error {
		var living int
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM replicas WHERE lease_until > $1", moment(r.At)).Scan(&living); err != nil {
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
func voidShared(ctx context.Context, tx pgx.Tx, r store.Restored) (v store.Voided, err error) {
	if _, err := tx.Exec(ctx, "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", r.Setting, r.Line); err != nil {
		return v, fail("begin another line of revocations", err)
	}
	if _, err := tx.Exec(ctx, "DELETE FROM seats"); err != nil {
		return v, fail("end shared sessions", err)
	}
	if _, err := tx.Exec(ctx, "UPDATE gateways SET boot_id = 0, lease_until = NULL"); err != nil {
		return v, fail("end the leases of gateways", err)
	}
	v.JoinTokens, err = affected(tx.Exec(ctx, `UPDATE join_tokens SET revoked_at = $1 WHERE used_at IS NULL AND revoked_at IS NULL AND expires_at > $1`, moment(r.At)))
	return v, fail("revoke join tokens", err)
}

// voidOf makes void what belongs to a tenant. Every agent leaps, also one that had no session: it may have had one since.
func voidOf(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, at time.Time) (v store.Voided, err error) {
	v.Sessions, err = affected(tx.Exec(ctx, `UPDATE agents SET ended_at = $2, end_reason = $3 WHERE tenant_id = $1 AND epoch > 0 AND ended_at IS NULL`,
		tenant, moment(at), trail.EndRestored))
	if err != nil {
		return v, fail("end sessions", err)
	}
	_, err = tx.Exec(ctx, `UPDATE agents SET epoch = epoch + $2, ended_at = coalesce(ended_at, $3), state_known = false, last_sequence = 0, former_epoch = 0 WHERE tenant_id = $1`,
		tenant, int64(store.EpochLeap), moment(at))
	if err != nil {
		return v, fail("raise epochs", err)
	}
	v.BootstrapTokens, err = affected(tx.Exec(ctx, `
		UPDATE bootstrap_tokens SET revoked_at = $2 WHERE tenant_id = $1 AND id IN (
			SELECT id FROM bootstrap_tokens WHERE tenant_id = $1 AND redeemed_at IS NULL AND revoked_at IS NULL AND expires_at > $2
			ORDER BY id FOR UPDATE)`, tenant, moment(at))) // locked in the order in which tokens are redeemed
	return v, fail("revoke bootstrap tokens", err)
}

// ImportRevocationList implements store.Restoration.
func (s *Store) ImportRevocationList(ctx context.Context, by fleet.By, l fleet.RevocationList, names []fleet.Revoked) (i store.Imported, err error) {
	err = s.bulkInTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
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
		_, err = tx.Exec(ctx, `
			INSERT INTO revocation_lists AS l (tenant_id, key_id, number, der, this_update, next_update) VALUES ($1, $2, $3, $4, $5, $6)
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
func revokeListed(ctx context.Context, tx pgx.Tx, l fleet.RevocationList, names []fleet.Revoked) ([]fleet.Certificate, error) {
	revoked, err := list(ctx, tx, scanCertificate, `
		UPDATE certificates SET revoked_at = n.at, revocation_reason = n.why, listed = $6
		FROM (SELECT unnest($3::text[]) AS named, unnest($4::timestamptz[]) AS at, unnest($5::integer[]) AS why) AS n
		WHERE tenant_id = $1 AND key_id = $2 AND serial = n.named AND revoked_at IS NULL RETURNING `+certificateColumns,
		l.Tenant, l.Key, array(names, revokedSerial), moments(names, revokedAt), array(names, revokedWhy), l.Number)
	return revoked, fail("revoke what the list names", err)
}

// noteForeign notes what a list names that is not on record, so that further lists name it, and says how much that is.
func noteForeign(ctx context.Context, tx pgx.Tx, l fleet.RevocationList, names []fleet.Revoked) (unknown int, err error) {
	err = tx.QueryRow(ctx, `
		WITH foreigners AS (
			SELECT n.* FROM (SELECT unnest($3::text[]) AS named, unnest($4::timestamptz[]) AS at, unnest($5::integer[]) AS why) AS n
			WHERE NOT EXISTS (SELECT FROM certificates WHERE tenant_id = $1 AND serial = n.named)
		), noted AS (
			INSERT INTO foreign_revocations (tenant_id, key_id, serial, revoked_at, reason)
			SELECT $1, $2, named, at, why FROM foreigners ON CONFLICT DO NOTHING
		)
		SELECT count(*) FROM foreigners`,
		l.Tenant, l.Key, array(names, revokedSerial), moments(names, revokedAt), array(names, revokedWhy)).Scan(&unknown)
	return unknown, fail("note what the list names", err)
}

func revokedSerial(r fleet.Revoked) string { return string(r.Serial) }
func revokedAt(r fleet.Revoked) time.Time  { return r.At }
func revokedWhy(r fleet.Revoked) int32     { return int32(r.Reason) } //nolint:gosec // RFC 5280 has ten of them

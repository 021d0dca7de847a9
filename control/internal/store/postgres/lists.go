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
)

// DueLists implements store.RevocationLists.
func (s *Store) DueLists(ctx context.Context, before time.Time) (due []fleet.RevocationList, err error) {
	err = s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		due, err = list(ctx, tx, scanListOf, `
			SELECT tenant_id, key_id FROM certificates WHERE revoked_at IS NOT NULL AND listed = 0
			UNION SELECT tenant_id, key_id FROM revocation_lists WHERE this_update <= $1
			UNION SELECT tenant_id, id FROM signing_keys WHERE `+certifies+` AND NOT EXISTS (
				SELECT FROM revocation_lists l WHERE l.tenant_id = signing_keys.tenant_id AND l.key_id = signing_keys.id)
			ORDER BY 1, 2`, moment(before))
		return fail("find due lists", err)
	})
	return due, err
}

// certifies picks, of signing keys, those that certify agents and are not retired.
const certifies = "kind = 'intermediate' AND state <> 'retired'"

func scanListOf(row pgx.Row) (l fleet.RevocationList, err error) {
	err = row.Scan(&l.Tenant, &l.Key)
	return l, err
}

// RevokedBy implements store.RevocationLists.
func (s *Store) RevokedBy(ctx context.Context, tenant fleet.TenantID, key fleet.KeyID, now time.Time) (revoked []fleet.Revoked, number int64, err error) {
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		revoked, err = list(ctx, tx, scanRevoked, `
			SELECT serial, revoked_at, revocation_reason FROM certificates
			WHERE tenant_id = $1 AND key_id = $2 AND revoked_at IS NOT NULL AND (not_after > $3 OR listed = 0)
			UNION ALL SELECT serial, revoked_at, reason FROM foreign_revocations WHERE tenant_id = $1 AND key_id = $2
			ORDER BY serial`, tenant, key, moment(now))
		if err != nil {
			return fail("list what is revoked", err)
		}
		err = tx.QueryRow(ctx, `
			SELECT coalesce(max(number), 0) FROM revocation_lists WHERE tenant_id = $1 AND key_id = $2`, tenant, key).Scan(&number)
		return fail("read the list's number", err)
	})
	return revoked, number, err
}

func scanRevoked(row pgx.Row) (r fleet.Revoked, err error) {
	err = row.Scan(&r.Serial, (*instant)(&r.At), &r.Reason)
	return r, err
}

// PutRevocationList implements store.RevocationLists.
func (s *Store) PutRevocationList(ctx context.Context, l fleet.RevocationList, names []fleet.Revoked) error {
	return s.inTenant(ctx, l.Tenant, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `
			INSERT INTO revocation_lists AS l (tenant_id, key_id, number, der, this_update, next_update) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (tenant_id, key_id) DO UPDATE SET number = excluded.number, der = excluded.der,
				this_update = excluded.this_update, next_update = excluded.next_update
			WHERE l.number = excluded.number - 1`,
			l.Tenant, l.Key, l.Number, l.DER, moment(l.ThisUpdate), moment(l.NextUpdate))
		if err != nil {
			return fail("store a list", err)
		}
		if done.RowsAffected() == 0 {
			return fmt.Errorf("list %d of key %s: %w", l.Number, l.Key, store.ErrConflict)
		}
		_, err = tx.Exec(ctx, `
			UPDATE certificates SET listed = $3 WHERE tenant_id = $1 AND serial = ANY($2) AND listed = 0`,
			l.Tenant, array(names, func(r fleet.Revoked) string { return string(r.Serial) }), l.Number)
		return fail("note what is listed", err)
	})
}

// RevocationList implements store.RevocationLists.
func (s *Store) RevocationList(ctx context.Context, key fleet.KeyID) (l fleet.RevocationList, err error) {
	err = s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			SELECT tenant_id, key_id, number, der, this_update, next_update FROM revocation_lists WHERE key_id = $1`, key).
			Scan(&l.Tenant, &l.Key, &l.Number, &l.DER, (*instant)(&l.ThisUpdate), (*instant)(&l.NextUpdate))
		return fail("read a list", err)
	})
	return l, err
}

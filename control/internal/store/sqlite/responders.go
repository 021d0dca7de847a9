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
)

// DueResponders implements store.Responders.
func (s *Store) DueResponders(ctx context.Context, ends time.Time) (due []fleet.Responder, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		due, err = list(ctx, tx, scanResponderOf, `
			SELECT k.tenant_id, k.id, coalesce(r.serial, '')
			FROM (SELECT tenant_id, id FROM signing_keys WHERE `+certifies+`) k
			LEFT JOIN ocsp_responders r ON r.tenant_id = k.tenant_id AND r.key_id = k.id
			WHERE r.not_after IS NULL OR r.not_after < ?1 ORDER BY 1, 2`, moment(ends))
		return fail("find due responders", err)
	})
	return due, err
}

func scanResponderOf(row scanner) (r fleet.Responder, err error) {
	err = row.Scan(&r.Tenant, &r.Key, &r.Serial)
	return r, err
}

// PutResponder implements store.Responders.
func (s *Store) PutResponder(ctx context.Context, r fleet.Responder, replaces fleet.Serial) error {
	return s.inTenant(ctx, r.Tenant, func(tx *sql.Tx) error {
		done, err := changed(tx.ExecContext(ctx, `
			INSERT INTO ocsp_responders (tenant_id, key_id, serial, certificate_der, sealed_key, not_after) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
			ON CONFLICT (tenant_id, key_id) DO UPDATE SET serial = excluded.serial, certificate_der = excluded.certificate_der,
				sealed_key = excluded.sealed_key, not_after = excluded.not_after
			WHERE ocsp_responders.serial = ?7`,
			r.Tenant, r.Key, r.Serial, r.CertificateDER, r.SealedKey, moment(r.NotAfter), replaces))
		if err != nil {
			return fail("store a responder", err)
		}
		if done == 0 {
			return fmt.Errorf("the responder of key %s: %w", r.Key, store.ErrConflict)
		}
		return nil
	})
}

// Responder implements store.Responders.
func (s *Store) Responder(ctx context.Context, key fleet.KeyID) (r fleet.Responder, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		r, err = one(ctx, tx, scanResponder, `
			SELECT tenant_id, key_id, serial, certificate_der, sealed_key, not_after FROM ocsp_responders WHERE key_id = ?1`, key)
		return fail("read a responder", err)
	})
	return r, err
}

func scanResponder(row scanner) (r fleet.Responder, err error) {
	err = row.Scan(&r.Tenant, &r.Key, &r.Serial, &r.CertificateDER, &r.SealedKey, (*instant)(&r.NotAfter))
	return r, err
}

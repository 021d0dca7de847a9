// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// PutBodies implements store.Bodies.
func (s *Store) PutBodies(ctx context.Context, tenant fleet.TenantID, at time.Time, bodies []store.SealedBody) error {
	return s.inTenant(ctx, tenant, func(tx *sql.Tx) error {
		for _, b := range bodies {
			_, err := tx.ExecContext(ctx, `
				INSERT INTO bodies (tenant_id, hash, size, sealed, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
				ON CONFLICT (tenant_id, hash) DO NOTHING`, tenant, b.Hash[:], b.Size, b.Sealed, moment(at))
			if err != nil {
				return fail("store bodies", err)
			}
		}
		return nil
	})
}

// Body implements store.Bodies.
func (s *Store) Body(ctx context.Context, tenant fleet.TenantID, of fleet.ContentHash) (b store.SealedBody, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, "SELECT hash, size, sealed FROM bodies WHERE tenant_id = ?1 AND hash = ?2", tenant, of[:]).
			Scan((*hash)(&b.Hash), &b.Size, &b.Sealed)
		return fail("read a body", err)
	})
	return b, err
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// PutBodies implements store.Bodies. In the order of hashes: two that store the same bodies wait, not for each other.
func (s *Store) PutBodies(ctx context.Context, tenant fleet.TenantID, at time.Time, bodies []store.SealedBody) error {
	if len(bodies) == 0 {
		return nil
	}
	bodies = slices.SortedFunc(slices.Values(bodies), func(a, b store.SealedBody) int { return bytes.Compare(a.Hash[:], b.Hash[:]) })
	return s.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		var batch pgx.Batch
		for _, b := range bodies {
			batch.Queue(`
				INSERT INTO bodies (tenant_id, hash, size, sealed, created_at) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (tenant_id, hash) DO NOTHING`, tenant, b.Hash[:], b.Size, b.Sealed, moment(at))
		}
		return fail("store bodies", tx.SendBatch(ctx, &batch).Close())
	})
}

// Body implements store.Bodies.
func (s *Store) Body(ctx context.Context, tenant fleet.TenantID, of fleet.ContentHash) (b store.SealedBody, err error) {
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, "SELECT hash, size, sealed FROM bodies WHERE tenant_id = $1 AND hash = $2", tenant, of[:]).
			Scan((*hash)(&b.Hash), &b.Size, &b.Sealed)
		return fail("read a body", err)
	})
	return b, err
}

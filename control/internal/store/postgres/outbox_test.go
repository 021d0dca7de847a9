// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/postgres"
)

// What nobody can send is looked at by one poll, however little that may send.
func TestPollingPassesOverTheStranded(t *testing.T) {
	s, now := acme(t), time.Unix(1_000_000, 0)
	change(t, s, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `
			INSERT INTO agents (tenant_id, id, partition, enrolled_at, method, epoch, gateway_id, boot_id)
			SELECT 'acme', gen_random_uuid(), 1, now(), 'est', n % 2, 'dead', 1 FROM generate_series(1, 5) AS n`)
		if err != nil {
			return err
		}
		_, err = tx.Exec(t.Context(), `
			INSERT INTO outbox (tenant_id, agent_id, kind, due_at) SELECT tenant_id, id, 'full_state', $1 FROM agents`, now)
		return err
	})
	for range 2 {
		if due, err := s.ClaimDispatches(t.Context(), now, now.Add(time.Minute), 2); err != nil || len(due) != 0 {
			t.Fatalf("claimed %+v, %v", due, err)
		}
		var scanned int
		err := postgres.InTenant(s, t.Context(), "acme", func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), "SELECT count(*) FROM outbox WHERE due_at <= $1", now.Add(store.LeaseGrace)).Scan(&scanned)
		})
		if err != nil || scanned != 0 {
			t.Errorf("%d are due still: %v", scanned, err)
		}
	}
}

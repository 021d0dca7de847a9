// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite_test

import (
	"database/sql"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
)

// What nobody can send is looked at by one poll, however little that may send.
func TestPollingPassesOverTheStranded(t *testing.T) {
	s, now := acme(t), time.Unix(1_000_000, 0)
	err := sqlite.InTenant(s, t.Context(), "acme", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `
			INSERT INTO agents (tenant_id, id, partition, enrolled_at, method, epoch, gateway_id, boot_id)
			SELECT 'acme', 'agent-' || value, 1, 0, 'est', value % 2, 'dead', 1 FROM json_each('[1, 2, 3, 4, 5]')`)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(t.Context(), `
			INSERT INTO outbox (tenant_id, agent_id, kind, due_at) SELECT tenant_id, id, 'full_state', ?1 FROM agents`, now.UnixMicro())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if due, err := s.ClaimDispatches(t.Context(), now, now.Add(time.Minute), 2); err != nil || len(due) != 0 {
			t.Fatalf("claimed %+v, %v", due, err)
		}
		var scanned int
		err := sqlite.Reading(s, t.Context(), "acme", func(tx *sql.Tx) error {
			return tx.QueryRowContext(t.Context(), "SELECT count(*) FROM outbox WHERE due_at <= ?1", now.Add(store.LeaseGrace).UnixMicro()).Scan(&scanned)
		})
		if err != nil || scanned != 0 {
			t.Errorf("%d are due still: %v", scanned, err)
		}
	}
}

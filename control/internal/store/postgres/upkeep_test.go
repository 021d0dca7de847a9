// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/store/postgres"
)

// TestLookingIsCheapInALargeFleet: what is due is found and read by indexes, however many agents there are.
func TestLookingIsCheapInALargeFleet(t *testing.T) {
	const fleet, due = 20_000, 500
	s, now := acme(t), time.Unix(1_700_000_000, 0)
	change(t, s, func(tx pgx.Tx) error {
		for _, statement := range []string{
			`INSERT INTO agents (tenant_id, id, partition, enrolled_at, method, epoch, gateway_id, boot_id, serial)
			 SELECT 'acme', gen_random_uuid(), 1, now(), 'server_key', 1, 'gw', 1, n::text FROM generate_series(1, 20000) AS n`,
			`INSERT INTO certificates (tenant_id, serial, fingerprint, agent_id, key_id, not_before, not_after, der, chain_pem, created_at)
			 SELECT 'acme', serial, serial, id, 'k', now(), now(), '', '', now() FROM agents`,
			`INSERT INTO certificate_upkeep (tenant_id, agent_id, look_at, serial)
			 SELECT 'acme', id, CASE WHEN serial::int <= 500 THEN 'epoch' ELSE timestamptz 'infinity' END, serial FROM agents`,
		} {
			if _, err := tx.Exec(t.Context(), statement); err != nil {
				return err
			}
		}
		return nil
	})
	// As before the first statistics are made of it, too: a table that grows is not analysed at once.
	began := time.Now()
	found, err := s.DueUpkeep(t.Context(), now, 1000)
	if err != nil || len(found) != due {
		t.Fatalf("%d of %d agents are due, %v", len(found), fleet, err)
	}
	t.Logf("read in %v", time.Since(began))
	err = postgres.AsWorker(s, t.Context(), func(tx pgx.Tx) error {
		wantPlan(t, tx, []string{"certificate_upkeep_due"}, postgres.FindUpkeep, now, 1000)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	change(t, s, func(tx pgx.Tx) error {
		ids := make([]string, 0, len(found))
		for _, u := range found {
			ids = append(ids, string(u.Agent))
		}
		wantPlan(t, tx, []string{"certificate_upkeep_pkey", "agents_pkey", "certificates_pkey", "certificates_agent"}, postgres.SelectUpkeep, "acme", ids, now)
		return nil
	})
}

// wantPlan wants a query to use indexes, and to read no table of the fleet as a whole.
func wantPlan(t *testing.T, tx pgx.Tx, indexes []string, query string, args ...any) {
	t.Helper()
	plan := strings.Join(column[string](t, tx, "EXPLAIN (COSTS OFF) "+query, args...), "\n")
	for _, index := range indexes {
		if !strings.Contains(plan, index) {
			t.Errorf("the plan does not use %s:\n%s", index, plan)
		}
	}
	for _, table := range []string{"agents", "certificates", "certificate_upkeep"} {
		if strings.Contains(plan, "Seq Scan on "+table+" ") {
			t.Errorf("%s is read as a whole:\n%s", table, plan)
		}
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/postgres"
	"gitlab.com/ampora/ampora/control/internal/store/postgres/postgrestest"
)

// enrolled is a store with a tenant, a gateway whose lease lasts an hour, and n agents that never connected: the n-th has
// the identity identityOf(n), and a certificate whose serial and fingerprint are that too.
func enrolled(b *testing.B, now time.Time, n int) *postgres.Store {
	b.Helper()
	s := postgrestest.Open(b)
	_, err := s.EnsureTenant(b.Context(), fleet.Tenant{ID: "acme", CreatedAt: now, WrappedDataKey: []byte("wrapped")})
	if err == nil {
		err = s.RegisterGateway(b.Context(), fleet.Gateway{ID: "gw", BootID: 1, StartedAt: now, LeaseUntil: now.Add(time.Hour)})
	}
	if err == nil {
		err = postgres.InTenant(s, b.Context(), "acme", func(tx pgx.Tx) error { return seed(b, tx, now, n) })
	}
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func seed(b *testing.B, tx pgx.Tx, now time.Time, n int) error {
	_, err := tx.Exec(b.Context(), `
		INSERT INTO agents (tenant_id, id, partition, enrolled_at, method)
		SELECT 'acme', ('01980000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, n % 64, $1, 'est' FROM generate_series(0, $2 - 1) AS n`,
		now, n)
	if err != nil {
		return err
	}
	_, err = tx.Exec(b.Context(), `
		INSERT INTO certificates (tenant_id, serial, fingerprint, agent_id, key_id, not_before, not_after, der, chain_pem, created_at)
		SELECT tenant_id, id::text, id::text, id, 'k', $1, $1::timestamptz + interval '1 year', '', '', $1 FROM agents`, now)
	return err
}

func identityOf(n int) fleet.AgentID {
	return fleet.AgentID(fmt.Sprintf("01980000-0000-7000-8000-%012x", n))
}

// claimOf is the claim of the n-th agent of enrolled.
func claimOf(n int, now time.Time) fleet.Claim {
	id := identityOf(n)
	return fleet.Claim{
		Tenant: "acme", Identity: id, Serial: fleet.Serial(id), Fingerprint: fleet.Fingerprint(id), UID: fleet.InstanceUID{1, 14: byte(n >> 8), 15: byte(n)},
		Gateway: "gw", BootID: 1, Transport: fleet.TransportWebSocket, Peer: "198.51.100.7:4711", At: now,
	}
}

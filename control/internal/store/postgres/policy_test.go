// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gitlab.com/ampora/ampora/control/internal/store/postgres/postgrestest"
)

// The tests of this file speak SQL: they are about what the database itself refuses, whatever the program asks.

// sharedTables are of the installation; the api role may change none of them.
var sharedTables = []string{
	"ampora_migrations", "duties", "gateways", "join_tokens", "partition_counters", "partitions", "replicas", "settings", "trust",
}

func dial(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func column[T any](t *testing.T, conn interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, query string, args ...any,
) []T {
	t.Helper()
	rows, err := conn.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return values
}

// tenantTables are the tables with a tenant, by the column that says so.
func tenantTables(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	return column[string](t, conn, `
		SELECT table_name::text FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'tenant_id' ORDER BY 1`)
}

func TestEveryTableIsOfTenantsBehindPoliciesOrShared(t *testing.T) {
	conn := dial(t, postgrestest.Superuser(t, postgrestest.Database(t)))
	guarded := append(tenantTables(t, conn), "tenants")
	for _, table := range column[string](t, conn, "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace") {
		if isShared := slices.Contains(sharedTables, table); isShared == slices.Contains(guarded, table) {
			t.Errorf("%s has a tenant_id and is a shared table, or neither", table)
		}
	}
	for _, table := range guarded {
		protected := column[bool](t, conn, `
			SELECT relrowsecurity AND relforcerowsecurity AND EXISTS (
				SELECT FROM pg_policy WHERE polrelid = c.oid AND polname = 'tenant' AND polcmd = '*'
				AND polqual IS NOT NULL AND polwithcheck IS NOT NULL)
			FROM pg_class c WHERE oid = $1::regclass`, table)
		if !protected[0] {
			t.Errorf("%s is not forced behind a policy of its tenant", table)
		}
	}
}

func TestRolesAreWeak(t *testing.T) {
	conn := dial(t, postgrestest.Database(t))
	for _, role := range []string{"ampora_api", "ampora_worker", "ampora_test"} {
		strong := column[bool](t, conn, `
			SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication FROM pg_roles WHERE rolname = $1`, role)
		if len(strong) != 1 || strong[0] {
			t.Errorf("%s is missing or may do too much", role)
		}
	}
	// The login itself, before it takes a role, may read which migrations ran.
	if readable := column[string](t, conn, `
		SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
		AND has_any_column_privilege(oid, 'SELECT, INSERT, UPDATE, REFERENCES')`); !slices.Equal(readable, []string{"ampora_migrations"}) {
		t.Errorf("the login reaches %v", readable)
	}
	for _, role := range []string{"ampora_api", "ampora_worker"} {
		if may := column[bool](t, conn, "SELECT has_table_privilege($1, 'audit_events', 'UPDATE, DELETE, TRUNCATE')", role); may[0] {
			t.Errorf("%s may change or delete what the audit log says", role)
		}
	}
}

// one row of every table with a tenant, for one tenant, in an order that foreign keys allow.
var rows = []struct{ table, insert string }{
	{"tenants", "INSERT INTO tenants VALUES ($1, now(), 'k')"},
	{"signing_keys", "INSERT INTO signing_keys (tenant_id, id, state, kind, algorithm, certificate_der, sealed_key, created_at) VALUES ($1, 'k', 'active', 'root', 'a', '', '', now())"},
	{"api_tokens", "INSERT INTO api_tokens (tenant_id, id, name, role, hash, created_by, created_at, expires_at) VALUES ($1, '" + id + "', 'n', 1, sha256($1::text::bytea), '', now(), now())"},
	{"groups", "INSERT INTO groups (tenant_id, id, name, created_at) VALUES ($1, '" + id + "', 'n', now())"},
	{"token_pools", "INSERT INTO token_pools (tenant_id, id, name, ttl_seconds, live_limit, per_hour, burst, hash, rotated_at, created_by, created_at) VALUES ($1, '" + id + "', 'n', 1, 0, 1, 1, sha256($1::text::bytea), now(), '', now())"},
	{"bootstrap_tokens", "INSERT INTO bootstrap_tokens (tenant_id, id, hash, created_by, created_at, expires_at) VALUES ($1, '" + id + "', sha256($1::text::bytea), '', now(), now())"},
	{"agents", "INSERT INTO agents (tenant_id, id, partition, enrolled_at, method) VALUES ($1, '" + id + "', 1, now(), 'est')"},
	{"seats", "INSERT INTO seats VALUES ($1, '" + id + "', 'g', 1)"},
	{"agent_uids", "INSERT INTO agent_uids VALUES ($1, '" + id + "', '" + id + "', now())"},
	{"certificates", "INSERT INTO certificates (tenant_id, serial, fingerprint, agent_id, key_id, not_before, not_after, der, chain_pem, created_at) VALUES ($1, 's', 'f', '" + id + "', 'k', now(), now(), '', '', now())"},
	{"certificate_upkeep", "INSERT INTO certificate_upkeep (tenant_id, agent_id, look_at, serial) VALUES ($1, '" + id + "', now(), 's')"},
	{"revocation_lists", "INSERT INTO revocation_lists VALUES ($1, 'k', 1, '', now(), now())"},
	{"ocsp_responders", "INSERT INTO ocsp_responders VALUES ($1, 'k', 's', '', '', now())"},
	{"foreign_revocations", "INSERT INTO foreign_revocations VALUES ($1, 'k', 's', now(), 0)"},
	{"agent_parts", "INSERT INTO agent_parts (tenant_id, agent_id, kind, epoch, sequence, at, value, raw) VALUES ($1, '" + id + "', 'health', 1, 1, now(), '{}', '')"},
	{"agent_labels", "INSERT INTO agent_labels VALUES ($1, '" + id + "', 'k', 'v')"},
	{"agent_drift", "INSERT INTO agent_drift (tenant_id, agent_id, look_at) VALUES ($1, '" + id + "', now())"},
	{"agent_tags", "INSERT INTO agent_tags VALUES ($1, '" + id + "', 'k', 'v', 'operator')"},
	{"groupings", "INSERT INTO groupings VALUES ($1, 1, now())"},
	{"agents_changed", "INSERT INTO agents_changed VALUES ($1, '" + id + "')"},
	{"agents_waiting", "INSERT INTO agents_waiting VALUES ($1, '" + id + "', '" + id + "', now())"},
	{"bodies", "INSERT INTO bodies VALUES ($1, sha256('b'), 1, 'b', now())"},
	{"configs", "INSERT INTO configs (tenant_id, id, name, kind, created_at) VALUES ($1, '" + id + "', 'n', 'opaque', now())"},
	{"config_versions", "INSERT INTO config_versions (tenant_id, config_id, version, state, body_hash, offer_hash, size, content_type, created_by, created_at, changed_at) VALUES ($1, '" + id + "', 1, 'published', sha256('b'), sha256('b'), 1, '', '', now(), now())"},
	{"renderings", "INSERT INTO renderings VALUES ($1, sha256('o'), '" + id + "', 1, sha256('b'), 1, now())"},
	{"config_rules", "INSERT INTO config_rules VALUES ($1, 'r', 'error', 'true', 'm', '', '', now())"},
	{"rollouts", "INSERT INTO rollouts (tenant_id, id, kind, group_id, config_id, version, definition, state, plan, created_by, created_at) VALUES ($1, '" + id + "', 'forward', '" + id + "', '" + id + "', 1, '{}', 'pending', '{}', '', now())"},
	{"rollout_members", "INSERT INTO rollout_members (tenant_id, rollout_id, agent_id, wave, position, state, change) VALUES ($1, '" + id + "', '" + id + "', 1, 1, 'pending', 'new')"},
	{"rollout_waves", "INSERT INTO rollout_waves (tenant_id, rollout_id, wave) VALUES ($1, '" + id + "', 1)"},
	{"schedules", "INSERT INTO schedules (tenant_id, id, name, kind, zone, created_by, created_at) VALUES ($1, '" + id + "', 'n', 'window', 'UTC', '', now())"},
	{"budgets", "INSERT INTO budgets VALUES ($1, '" + id + "', 'n', 'rack', 1, '', now())"},
	{"disturbances", "INSERT INTO disturbances VALUES ($1, '" + id + "', 'restart', now())"},
	{"assignments", "INSERT INTO assignments VALUES ($1, 'agent', '" + id + "', '" + id + "', 1, 1, '', now())"},
	{"grants", "INSERT INTO grants (tenant_id, agent_id, config_id, version, offer_hash, state, reason, generation, opened_at) VALUES ($1, '" + id + "', '" + id + "', 1, sha256('b'), 'open', 'assigned', 1, now())"},
	{"attempts", "INSERT INTO attempts (tenant_id, agent_id, offer_hash, config_id, version, outcome, first_at, last_at) VALUES ($1, '" + id + "', sha256('b'), '" + id + "', 1, 'applied', now(), now())"},
	{"deliveries", "INSERT INTO deliveries VALUES ($1, '" + id + "', 'none', '{}')"},
	{"work", "INSERT INTO work VALUES ($1, '" + id + "', now())"},
	{"outbox", "INSERT INTO outbox (tenant_id, agent_id, kind, due_at) VALUES ($1, '" + id + "', 'config', now())"},
	{"events", "INSERT INTO events (tenant_id, at, kind) VALUES ($1, now(), 'k')"},
	{"audit_events", "INSERT INTO audit_events (tenant_id, at, actor_kind, actor_id, actor_name, role, action, entity_kind, entity_id) VALUES ($1, now(), '', '', '', 1, '', '', '')"},
	{"audit_refusals", "INSERT INTO audit_refusals (tenant_id, hour, actor_kind, actor_id, actor_name, role, action, reason, last_at) VALUES ($1, now(), '', '', '', 1, '', '', now())"},
}

const id = "01890a5d-ac96-774b-bcce-b302099a8057"

// asAPI runs do in a transaction of the api role in a tenant, none if empty, and rolls back what it did.
func asAPI(t *testing.T, conn *pgx.Conn, tenant string, do func(tx pgx.Tx)) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), "SET LOCAL ROLE ampora_api"); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT set_config('ampora.tenant', $1, true)", tenant); err != nil {
		t.Fatal(err)
	}
	do(tx)
}

func TestTheAPIRoleIsConfinedToItsTenant(t *testing.T) {
	database := postgrestest.Database(t)
	super, conn := dial(t, postgrestest.Superuser(t, database)), dial(t, database)
	tables := []string{}
	for _, row := range rows {
		tables = append(tables, row.table)
		for _, tenant := range []string{"mine", "theirs"} {
			if _, err := super.Exec(t.Context(), row.insert, tenant); err != nil {
				t.Fatalf("%s: %v", row.table, err)
			}
		}
	}
	for _, table := range append(tenantTables(t, super), "tenants") {
		if !slices.Contains(tables, table) {
			t.Errorf("this test forgot the table %s", table)
		}
	}

	for _, row := range rows {
		t.Run(row.table, func(t *testing.T) {
			key := "tenant_id"
			if row.table == "tenants" {
				key = "id"
			}
			all := fmt.Sprintf("SELECT %s FROM %s", key, row.table)
			asAPI(t, conn, "", func(tx pgx.Tx) {
				if seen := column[string](t, tx, all); len(seen) != 0 {
					t.Errorf("without a tenant it sees %v", seen)
				}
			})
			asAPI(t, conn, "mine", func(tx pgx.Tx) {
				if seen := column[string](t, tx, all); !slices.Equal(seen, []string{"mine"}) {
					t.Errorf("it sees %v", seen)
				}
				for _, statement := range []string{"UPDATE %[1]s SET %[2]s = %[2]s WHERE %[2]s = 'theirs'", "DELETE FROM %[1]s WHERE %[2]s = 'theirs'"} {
					wantNothing(t, tx, fmt.Sprintf(statement, row.table, key))
				}
			})
			for _, tenant := range []string{"", "mine"} {
				asAPI(t, conn, tenant, func(tx pgx.Tx) {
					_, err := tx.Exec(t.Context(), row.insert, "another")
					wantRefused(t, err)
				})
			}
		})
	}
}

// wantNothing wants a statement to change no row, by policy or for want of privilege, whose refusal a savepoint survives.
func wantNothing(t *testing.T, tx pgx.Tx, statement string) {
	t.Helper()
	inner, err := tx.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = inner.Rollback(t.Context()) }()
	changed, err := inner.Exec(t.Context(), statement)
	if err != nil {
		wantRefused(t, err)
	} else if changed.RowsAffected() != 0 {
		t.Errorf("%s changed %d rows", statement, changed.RowsAffected())
	}
}

// wantRefused wants insufficient_privilege, which is also how a policy refuses.
func wantRefused(t *testing.T, err error) {
	t.Helper()
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "42501" {
		t.Errorf("got %v, want it refused", err)
	}
}

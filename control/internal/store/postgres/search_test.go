// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/postgres"
	"gitlab.com/ampora/ampora/control/internal/store/postgres/postgrestest"
)

// populated is a fleet of n agents that is searched, and of which the database knows the statistics: of two tenants, the
// other of a tenth of that. One agent in a hundred is off, one in two hundred unhealthy, one in a thousand failed.
func populated(tb testing.TB, now time.Time, n int) (s *postgres.Store, database string) {
	tb.Helper()
	database = postgrestest.Database(tb)
	s, err := postgres.Open(tb.Context(), database)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	super, err := pgx.Connect(tb.Context(), postgrestest.Superuser(tb, database))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = super.Close(context.WithoutCancel(tb.Context())) }()
	for _, of := range []struct {
		tenant string
		n      int
	}{{"acme", n}, {"umbrella", n / 10}} {
		for _, statement := range population {
			if _, err := super.Exec(tb.Context(), statement, pgx.QueryExecModeSimpleProtocol, of.tenant, of.n, now); err != nil {
				tb.Fatalf("%s: %v", statement, err)
			}
		}
	}
	if _, err := super.Exec(tb.Context(), "VACUUM ANALYZE"); err != nil {
		tb.Fatal(err)
	}
	return s, database
}

const agentNumber = "('01980000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"

// population seeds tenant $1 with $2 agents at the time $3.
var population = []string{
	`INSERT INTO tenants SELECT $1, $3::timestamptz, ''::bytea WHERE $2::int > 0`,
	`INSERT INTO gateways (id, boot_id, version, started_at, lease_until)
	 SELECT 'gw-' || g, 1, '1', $3::timestamptz, $3::timestamptz + interval '1 hour' FROM generate_series(1, 4) AS g WHERE $1 = 'acme' AND $2::int > 0`,
	`INSERT INTO groups (tenant_id, id, name, created_at)
	 SELECT $1, ('01970000-0000-7000-8000-' || lpad(to_hex(g), 12, '0'))::uuid, 'group-' || g, $3::timestamptz FROM generate_series(1, 50) AS g WHERE $2::int > 0`,
	`INSERT INTO agents (tenant_id, id, partition, enrolled_at, method, group_id, service_name, service_version, host_name, capabilities, healthy,
		serial, epoch, gateway_id, boot_id, transport, connected_at, ended_at, end_reason, attention)
	 SELECT $1, ` + agentNumber + `, n % 64, $3::timestamptz - interval '1 second' * ($2::int - n), CASE WHEN n % 2000 = 0 THEN 'server_key' ELSE 'est' END,
		CASE WHEN n % 100 <> 7 THEN ('01970000-0000-7000-8000-' || lpad(to_hex(1 + n % 50), 12, '0'))::uuid END,
		CASE WHEN n % 20 = 3 THEN 'billing-collector' ELSE 'otelcol' END, CASE WHEN n % 500 = 1 THEN '0.140.0' ELSE '0.149.0' END, 'host-' || n,
		CASE WHEN n % 1000 = 9 THEN 1039 ELSE 15 END, CASE WHEN n % 500 = 2 THEN NULL ELSE n % 200 <> 5 END,
		to_hex(n), 1, 'gw-' || (1 + n % 4), 1, 'websocket', $3::timestamptz, CASE WHEN n % 100 = 11 THEN $3::timestamptz - interval '1 hour' END, CASE WHEN n % 100 = 11 THEN 'CLOSED' ELSE '' END,
		CASE WHEN n % 1000 = 4 THEN '[{"reason": "CONFIG_FAILED", "message": "no"}]'::jsonb ELSE '[]' END
	 FROM generate_series(0, $2::int - 1) AS n`,
	`INSERT INTO certificates (tenant_id, serial, fingerprint, agent_id, key_id, not_before, not_after, der, chain_pem, created_at)
	 SELECT $1, to_hex(n), to_hex(n), ` + agentNumber + `, 'k', $3::timestamptz, $3::timestamptz + interval '1 day' + interval '5 minutes' * n, '', '', $3::timestamptz FROM generate_series(0, $2::int - 1) AS n`,
	`INSERT INTO agent_labels
	 SELECT $1, ` + agentNumber + `, key, CASE key WHEN 'region' THEN (ARRAY['eu', 'us', 'ap'])[1 + n % 3] WHEN 'deployment.environment' THEN CASE WHEN n % 10 = 0 THEN 'staging' ELSE 'prod' END
		WHEN 'host.id' THEN 'id-' || n WHEN 'rack' THEN 'rack-' || n % 1000 ELSE 'linux' END
	 FROM generate_series(0, $2::int - 1) AS n, unnest(ARRAY['region', 'deployment.environment', 'host.id', 'rack', 'os.type', 'host.arch', 'k8s.cluster.name', 'service.namespace']) AS key WHERE $3::timestamptz IS NOT NULL`,
	`INSERT INTO agent_tags
	 SELECT $1, ` + agentNumber + `, key, CASE key WHEN 'site' THEN 'site-' || n % 200 ELSE (ARRAY['gold', 'silver'])[1 + n % 2] END, 'operator'
	 FROM generate_series(0, $2::int - 1) AS n, unnest(ARRAY['site', 'tier']) AS key WHERE $3::timestamptz IS NOT NULL`,
	`INSERT INTO deliveries (tenant_id, agent_id, state, delivery, config_id, version)
	 SELECT $1, ` + agentNumber + `, CASE WHEN n % 1000 = 4 THEN 'failed' WHEN n % 100 = 11 THEN 'pending' ELSE 'applied' END, '{}',
		('01960000-0000-7000-8000-' || lpad(to_hex(n % 50), 12, '0'))::uuid, CASE WHEN n % 500 = 8 THEN 1 ELSE 2 END
	 FROM generate_series(0, $2::int - 1) AS n WHERE n % 100 <> 7 AND $3::timestamptz IS NOT NULL`,
	`INSERT INTO agent_drift (tenant_id, agent_id, look_at, state)
	 SELECT $1, ` + agentNumber + `, 'infinity', CASE WHEN n % 1000 = 6 THEN 'drifted' ELSE 'in_sync' END
	 FROM generate_series(0, $2::int - 1) AS n WHERE n % 100 <> 7 AND $3::timestamptz IS NOT NULL`,
}

// searches are filters as an operator has them, and whether few agents match.
func searches(now time.Time) map[string]search {
	return map[string]search{
		"all":                     {fleet.AgentFilter{}, false},
		"group":                   {fleet.AgentFilter{Group: "01970000-0000-7000-8000-000000000009"}, true},
		"no group":                {fleet.AgentFilter{NoGroup: true}, false},
		"online":                  {fleet.AgentFilter{Presence: fleet.PresenceOnline}, false},
		"offline":                 {fleet.AgentFilter{Presence: fleet.PresenceOffline}, true},
		"unknown":                 {fleet.AgentFilter{Presence: fleet.PresenceUnknown}, false},
		"gateway":                 {fleet.AgentFilter{Gateway: "gw-3"}, false},
		"tag of few":              {fleet.AgentFilter{Tags: map[string]string{"site": "site-77"}}, true},
		"tag of many":             {fleet.AgentFilter{Tags: map[string]string{"tier": "gold"}}, false},
		"two tags":                {fleet.AgentFilter{Tags: map[string]string{"site": "site-77", "tier": "silver"}}, true},
		"tag of nobody":           {fleet.AgentFilter{Tags: map[string]string{"site": "nowhere"}}, true},
		"label of one":            {fleet.AgentFilter{Labels: map[string]string{"host.id": "id-4711"}}, true},
		"label of few":            {fleet.AgentFilter{Labels: map[string]string{"rack": "rack-77"}}, true},
		"label of many":           {fleet.AgentFilter{Labels: map[string]string{"region": "eu"}}, false},
		"label of many, offline":  {fleet.AgentFilter{Labels: map[string]string{"region": "eu"}, Presence: fleet.PresenceOffline}, true},
		"labels and tag":          {fleet.AgentFilter{Labels: map[string]string{"region": "eu", "deployment.environment": "staging"}, Tags: map[string]string{"tier": "gold"}}, false},
		"name prefix of few":      {fleet.AgentFilter{NamePrefix: "host-9999"}, true},
		"name prefix of many":     {fleet.AgentFilter{NamePrefix: "otel"}, false},
		"host prefix":             {fleet.AgentFilter{HostPrefix: "host-9999"}, true},
		"words":                   {fleet.AgentFilter{Words: []string{"billing", "host-333"}}, true},
		"id":                      {fleet.AgentFilter{Words: []string{"01980000-0000-7000-8000-00000000abc"}}, true},
		"service":                 {fleet.AgentFilter{Service: "billing-collector"}, false},
		"version":                 {fleet.AgentFilter{Version: "0.140.0"}, false},
		"healthy":                 {fleet.AgentFilter{Healthy: true}, false},
		"unhealthy":               {fleet.AgentFilter{Unhealthy: true}, true},
		"attention":               {fleet.AgentFilter{Attention: true}, true},
		"reason":                  {fleet.AgentFilter{AttentionReason: fleet.AttentionConfigFailed}, true},
		"reason of nobody":        {fleet.AgentFilter{AttentionReason: "NONE"}, true},
		"capability of few":       {fleet.AgentFilter{Capabilities: 1024}, false},
		"capability of nobody":    {fleet.AgentFilter{Capabilities: 1 << 40}, false},
		"state of few":            {fleet.AgentFilter{DeliveryState: fleet.DeliveryFailed}, true},
		"state of many":           {fleet.AgentFilter{DeliveryState: fleet.DeliveryApplied}, false},
		"nothing assigned":        {fleet.AgentFilter{DeliveryState: fleet.DeliveryNone}, false},
		"config":                  {fleet.AgentFilter{Config: "01960000-0000-7000-8000-000000000008"}, false},
		"former version, applied": {fleet.AgentFilter{Config: "01960000-0000-7000-8000-000000000008", ConfigVersion: 1, DeliveryState: fleet.DeliveryApplied}, false},
		"drifted":                 {fleet.AgentFilter{Drift: fleet.DriftDrifted}, true},
		"in sync":                 {fleet.AgentFilter{Drift: fleet.DriftInSync}, false},
		"drift unknown":           {fleet.AgentFilter{Drift: fleet.DriftUnknown}, false},
		"method of few":           {fleet.AgentFilter{Method: fleet.EnrolledByServerKey}, false},
		"enrolled lately":         {fleet.AgentFilter{EnrolledAfter: now.Add(-2 * time.Minute)}, false},
		"certificate ends":        {fleet.AgentFilter{ExpiresBefore: now.Add(28 * time.Hour)}, false},
	}
}

type search struct {
	filter fleet.AgentFilter
	few    bool // so that an index leads
}

// plan is how the api role's query for a page goes, with what it took.
func plan(tb testing.TB, conn *pgx.Conn, f fleet.AgentFilter, now time.Time) string {
	tb.Helper()
	tx, err := conn.Begin(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(tb.Context())) }()
	if _, err := tx.Exec(tb.Context(), "SET LOCAL ROLE ampora_api; SET LOCAL ampora.tenant = 'acme'"); err != nil {
		tb.Fatal(err)
	}
	query, args := postgres.Matching("acme", f, now, "", 101)
	rows, err := tx.Query(tb.Context(), "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, SUMMARY OFF) "+query, args...)
	if err != nil {
		tb.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// Whom few match is found by an index, behind the policies too; whoever many match is found on the way through the ids.
func TestSearchesGoByIndexes(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	s, database := populated(t, now, 30_000)
	conn := dial(t, database)
	for name, search := range searches(now) {
		t.Run(name, func(t *testing.T) {
			if done := plan(t, conn, search.filter, now); search.few && strings.Contains(done, "Seq Scan on agents") {
				t.Errorf("it reads all agents:\n%s", done)
			}
			found, _, err := s.Agents(t.Context(), "acme", search.filter, now, fleet.Page{Size: 100})
			if err != nil || !slices.IsSortedFunc(found, func(a, b fleet.Agent) int { return strings.Compare(string(a.ID), string(b.ID)) }) {
				t.Errorf("%d agents, or not in their order: %v", len(found), err)
			}
		})
	}
}

// BenchmarkSearch pages through 100 000 agents as the api role does, and counts them. It reports the median and the 95th
// percentile of each search; -v shows the plans.
func BenchmarkSearch(b *testing.B) {
	now := time.Now().UTC().Truncate(time.Second)
	s, database := populated(b, now, 100_000)
	conn, err := pgx.Connect(b.Context(), database)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close(context.WithoutCancel(b.Context())) })
	all := searches(now)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		filter := all[name].filter
		b.Run(strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
			if testing.Verbose() {
				b.Log(plan(b, conn, filter, now))
			}
			measure(b, "page", func() error {
				_, _, err := s.Agents(b.Context(), "acme", filter, now, fleet.Page{Size: 100, After: string(identityOf(50_000))})
				return err
			})
			measure(b, "first", func() error {
				_, _, err := s.Agents(b.Context(), "acme", filter, now, fleet.Page{Size: 100})
				return err
			})
			measure(b, "count", func() error {
				_, err := s.CountAgents(b.Context(), "acme", filter, now, 100_001)
				return err
			})
		})
	}
}

// BenchmarkDriftCounts counts 100 000 agents by whether they run what was assigned.
func BenchmarkDriftCounts(b *testing.B) {
	s, _ := populated(b, time.Now().UTC().Truncate(time.Second), 100_000)
	for name, of := range map[string]fleet.Target{"all": {}, "group": {Group: "01970000-0000-7000-8000-000000000009"}} {
		b.Run(name, func(b *testing.B) {
			measure(b, "count", func() error {
				_, err := s.DriftCounts(b.Context(), "acme", of)
				return err
			})
		})
	}
}

// BenchmarkActs does to ten thousand of 100 000 agents what may be done to so many at once.
func BenchmarkActs(b *testing.B) {
	now := time.Now().UTC().Truncate(time.Second)
	s, _ := populated(b, now, 100_000)
	by := fleet.System("acme", now)
	aTenth := fleet.AgentFilter{Presence: fleet.PresenceOnline, Labels: map[string]string{"deployment.environment": "staging"}}
	for _, act := range []fleet.Act{
		{Kind: fleet.ActTag, Tags: fleet.TagChange{Set: map[string]string{"a": "b"}}},
		{Kind: fleet.ActMove, To: "01970000-0000-7000-8000-000000000009"},
		{Kind: fleet.ActDrain, Over: time.Hour},
		{Kind: fleet.ActPush},
	} {
		b.Run(string(act.Kind), func(b *testing.B) {
			act.Most, act.Filter = 10_000, aTenth
			for range b.N {
				preview := act
				preview.Preview = true
				began := time.Now()
				looked, err := s.Act(b.Context(), by, preview)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(time.Since(began).Milliseconds()), "preview-ms")
				began, act.Expect = time.Now(), looked.Mark
				done, err := s.Act(b.Context(), by, act)
				if err != nil || len(done.Done) == 0 {
					b.Fatalf("done to %d: %v", len(done.Done), err)
				}
				b.ReportMetric(float64(time.Since(began).Milliseconds()), "act-ms")
				b.ReportMetric(float64(len(done.Done)), "agents")
			}
		})
	}
}

// measure reports how long it takes.
func measure(b *testing.B, what string, do func() error) {
	const rounds = 40
	took := make([]time.Duration, 0, rounds)
	for range rounds {
		began := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	for _, p := range []int{50, 95} {
		b.ReportMetric(float64(took[rounds*p/100].Microseconds())/1000, fmt.Sprintf("%s-p%d-ms", what, p))
	}
}

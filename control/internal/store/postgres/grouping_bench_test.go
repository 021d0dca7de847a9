// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/groups"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/postgres"
)

// BenchmarkGroups changes the selector of a group among 100 000 agents with ten labels and two tags each: one that chooses
// nobody, which is evaluated; then one that moves a thousand, and one that moves all.
func BenchmarkGroups(b *testing.B) {
	const agents = 100_000
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	s := enrolled(b, now, agents)
	described(b, s)
	g, err := s.CreateGroup(b.Context(), fleet.System("acme", now), fleet.Group{ID: "01980000-0000-7000-9000-000000000001", Tenant: "acme", Name: "g", Selector: "false"})
	if err != nil {
		b.Fatal(err)
	}
	placer, err := groups.New(groups.Deps{Store: s, Limit: 20, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}, Now: func() time.Time { return now }})
	if err != nil {
		b.Fatal(err)
	}
	choose := func(b *testing.B, selector string) {
		now = now.Add(time.Second)
		is := g
		is.Selector = selector
		if g, err = s.UpdateGroup(b.Context(), fleet.System("acme", now), g, is); err != nil {
			b.Fatal(err)
		}
		if err := placer.Look(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct{ name, selector string }{
		{"nobody", `agent.claimed.labels["label.3"] == "none" && agent.verified.tags["site"].startsWith("s")`},
		{"thousand", `agent.claimed.labels["label.3"] == "v7" && agent.verified.tags["site"].startsWith("s")`},
		{"all", `agent.claimed.labels["label.3"].startsWith("v") && agent.verified.tags["site"].startsWith("s")`},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				choose(b, c.selector)
				b.StopTimer()
				choose(b, "false")
				b.StartTimer()
			}
		})
	}
	b.Run("preview", func(b *testing.B) {
		for b.Loop() {
			seen, err := groups.Preview(b.Context(), s, "acme", fleet.Group{ID: "01980000-0000-7000-9000-000000000002", Selector: `agent.claimed.labels["label.3"] == "v7"`}, 50)
			if err != nil || seen.Matched != agents/100 {
				b.Fatal(seen.Matched, err)
			}
		}
	})
	b.Run("lot", func(b *testing.B) { // into the group and out again, a thousand agents in a transaction: reports of theirs wait so long
		from, to := fleet.GroupID(""), g.ID
		for b.Loop() {
			choosers, err := s.Choosers(b.Context(), "acme")
			if err != nil {
				b.Fatal(err)
			}
			lot := store.Placing{Generation: choosers.Generation, Limit: 20, At: now}
			for n := range 1000 {
				lot.Placements = append(lot.Placements, fleet.Placement{Agent: identityOf(n * 7), From: from, To: to})
			}
			if moved, err := s.Place(b.Context(), "acme", lot); err != nil || moved != 1000 {
				b.Fatal(moved, err)
			}
			from, to = to, from
		}
	})
	b.Run("labels", func(b *testing.B) {
		for b.Loop() {
			if uses, err := s.LabelsInUse(b.Context(), "acme", store.Labels, "", 1000); err != nil || len(uses) != 10 {
				b.Fatal(len(uses), err)
			}
		}
	})
}

// described gives agents labels and tags.
func described(b *testing.B, s *postgres.Store) {
	b.Helper()
	err := postgres.InTenant(s, b.Context(), "acme", func(tx pgx.Tx) error {
		_, err := tx.Exec(b.Context(), `
			INSERT INTO agent_labels (tenant_id, agent_id, key, value)
			SELECT tenant_id, id, 'label.' || n, 'v' || (('x' || right(id::text, 8))::bit(32)::int % 100) FROM agents, generate_series(0, 9) AS n`)
		if err == nil {
			_, err = tx.Exec(b.Context(), `
				INSERT INTO agent_tags (tenant_id, agent_id, key, value, origin)
				SELECT tenant_id, id, key, 's1', 'enrolment' FROM agents, unnest(ARRAY['site', 'rack']) AS key`)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

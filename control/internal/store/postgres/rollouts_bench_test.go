// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/postgres"
)

const benchGroup, benchConfig = fleet.GroupID("01980000-0000-7000-9000-000000000001"), fleet.ConfigID("01980000-0000-7000-a000-000000000001")

// grouped is a store with n agents in one group, and a published version.
func grouped(b *testing.B, now time.Time, n int) *postgres.Store {
	b.Helper()
	s := enrolled(b, now, n)
	err := postgres.InTenant(s, b.Context(), "acme", func(tx pgx.Tx) error {
		for _, statement := range []string{
			"INSERT INTO groups (tenant_id, id, name, created_at) VALUES ('acme', '" + string(benchGroup) + "', 'g', now())",
			"UPDATE agents SET group_id = '" + string(benchGroup) + "'",
			"INSERT INTO bodies VALUES ('acme', sha256('b'), 1, 'b', now())",
			"INSERT INTO configs (tenant_id, id, name, kind, created_at) VALUES ('acme', '" + string(benchConfig) + "', 'n', 'opaque', now())",
			"INSERT INTO config_versions (tenant_id, config_id, version, state, body_hash, offer_hash, size, content_type, created_by, created_at, changed_at)" +
				" VALUES ('acme', '" + string(benchConfig) + "', 1, 'published', sha256('b'), sha256('b'), 1, '', '', now(), now())",
			"INSERT INTO agent_labels SELECT 'acme', id, 'site', 's' FROM agents",
		} {
			if _, err := tx.Exec(b.Context(), statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkRollout measures what a rollout of many agents takes: its plan, its start and the letting in of a thousand.
func BenchmarkRollout(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{{"10k", 10_000}, {"100k", 100_000}} {
		b.Run(size.name, func(b *testing.B) {
			now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
			s := grouped(b, now, size.n)
			by := fleet.System("acme", now)
			def := fleet.RolloutDefinition{Group: benchGroup, Config: benchConfig, Version: 1, Gates: fleet.DefaultGates()}
			took := map[string]time.Duration{}
			timed := func(what string, do func() error) {
				b.Helper()
				began := time.Now()
				if err := do(); err != nil {
					b.Fatal(err)
				}
				took[what] += time.Since(began)
			}
			for i := 0; b.Loop(); i++ {
				timed("candidates", func() error {
					found, err := s.RolloutCandidates(b.Context(), "acme", store.RolloutScope{Group: benchGroup, Config: benchConfig, Version: 1, Blast: []string{"site"}})
					if err == nil && len(found) != size.n {
						b.Fatalf("%d candidates", len(found))
					}
					return err
				})
				members := make([]fleet.Member, size.n)
				for n := range members {
					members[n] = fleet.Member{Agent: identityOf(n), Wave: 1 + n/5000, Position: n, State: fleet.MemberPending, Change: fleet.ChangeNew}
				}
				r := fleet.Rollout{ID: fleet.RolloutID(identityOf(1<<32 + i)), Kind: fleet.RolloutForward, Definition: def}
				timed("create", func() (err error) { r, err = s.CreateRollout(b.Context(), by, r, members); return err })
				timed("start", func() (err error) {
					_, err = s.StartRollout(b.Context(), by, store.RolloutStart{Rollout: r.ID, Version: 1, Supersede: true})
					return err
				})
				admit := func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
					step := fleet.RolloutStep{WakeAt: now, DeadlineAt: now.Add(time.Hour)}
					if s.Rollout.Wave == 0 {
						s.Rollout.Wave = 1
						step.Rollout = &s.Rollout
					}
					for _, c := range s.Next {
						step.Admit = append(step.Admit, c.Agent)
					}
					return step
				}
				for range 4 {
					timed("advance", func() error {
						_, err := s.AdvanceRollouts(b.Context(), now, 1, store.Deciding{
							Elapse: func(m fleet.Member, _ fleet.RolloutDefinition, _ time.Time) fleet.Member { return m }, Decide: admit,
						})
						return err
					})
				}
			}
			for what, d := range took {
				n := float64(b.N)
				if what == "advance" {
					n *= 4
				}
				b.ReportMetric(float64(d.Milliseconds())/n, what+"-ms/op")
			}
		})
	}
}

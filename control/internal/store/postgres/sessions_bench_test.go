// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/postgres"
)

// BenchmarkClaim lets 5000 agents claim their sessions as a gateway does, up to 1000 in a call and four calls at a time:
// for the first time, and again after their gateway is gone.
func BenchmarkClaim(b *testing.B) {
	const agents = 5000
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	for name, prepare := range map[string]func(b *testing.B) *postgres.Store{
		"first": func(b *testing.B) *postgres.Store { return enrolled(b, now, agents) },
		"again": func(b *testing.B) *postgres.Store {
			s := enrolled(b, now, agents)
			claimAll(b, s, now, agents)
			return s
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s := prepare(b)
				now = now.Add(time.Second)
				b.StartTimer()
				claimAll(b, s, now, agents)
			}
			b.ReportMetric(float64(agents*b.N)/b.Elapsed().Seconds(), "claims/s")
		})
	}
}

func claimAll(b *testing.B, s *postgres.Store, now time.Time, agents int) {
	b.Helper()
	claims := make([]fleet.Claim, agents)
	for n := range claims {
		claims[n] = claimOf(n, now)
		claims[n].Takeover = fleet.TakeoverRestart
	}
	calls := make(chan []fleet.Claim)
	var gateway sync.WaitGroup
	for range 4 {
		gateway.Go(func() {
			for call := range calls {
				results, err := s.Claim(b.Context(), call)
				if err != nil || slices.ContainsFunc(results, func(r fleet.ClaimResult) bool { return r.Outcome != fleet.ClaimClaimed }) {
					b.Error("not all were claimed", err)
				}
			}
		})
	}
	for call := range slices.Chunk(claims, 1000) {
		calls <- call
	}
	close(calls)
	gateway.Wait()
}

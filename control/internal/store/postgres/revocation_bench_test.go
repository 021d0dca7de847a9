// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/postgres"
)

// manyRevoked is how many certificates are revoked beside those that a benchmark is about.
const manyRevoked = 100_000

// BenchmarkRevocation measures what is done with revocations where 100 000 are revoked already: a thousand more, what a
// gateway that knows all but these is told, what one is told that knows nothing, and what a list names.
func BenchmarkRevocation(b *testing.B) {
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	const batches = 20
	s := enrolled(b, now, manyRevoked+batches*fleet.RevocationBatch)
	err := postgres.InTenant(s, b.Context(), "acme", func(tx pgx.Tx) error {
		_, err := tx.Exec(b.Context(), `
			UPDATE certificates c SET revoked_at = $1, revocation = n.number, listed = 1
			FROM (SELECT serial, row_number() OVER (ORDER BY serial) AS number FROM certificates ORDER BY serial LIMIT $2) n WHERE c.serial = n.serial`, now, manyRevoked)
		if err == nil {
			_, err = tx.Exec(b.Context(), `UPDATE tenants SET revocations = $1`, manyRevoked)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	by := fleet.System("acme", now)
	next := manyRevoked
	b.Run("revoke 1000", func(b *testing.B) {
		for b.Loop() {
			if next >= manyRevoked+batches*fleet.RevocationBatch {
				b.Fatal("all are revoked: ask for fewer rounds, -benchtime 10x")
			}
			var r fleet.Revocation
			for range fleet.RevocationBatch {
				r.Agents = append(r.Agents, identityOf(next))
				next++
			}
			if revoked, err := s.RevokeCertificates(b.Context(), by, r); err != nil || len(revoked) != fleet.RevocationBatch {
				b.Fatal(len(revoked), err)
			}
		}
	})
	since := func(b *testing.B, number int64, want int) {
		var told int
		for more := true; more; {
			page, err := s.RevokedSince(b.Context(), "acme", number, now, 20_000)
			if err != nil {
				b.Fatal(err)
			}
			told, number, more = told+len(page.Serials), page.Last, page.More
		}
		if told < want {
			b.Fatalf("told %d", told)
		}
	}
	b.Run("since the last 1000", func(b *testing.B) {
		for b.Loop() {
			since(b, int64(next-fleet.RevocationBatch), fleet.RevocationBatch)
		}
	})
	b.Run("since nothing", func(b *testing.B) {
		for b.Loop() {
			since(b, 0, manyRevoked)
		}
	})
	b.Run("what a list names", func(b *testing.B) {
		for b.Loop() {
			if revoked, _, err := s.RevokedBy(b.Context(), "acme", "k", now); err != nil || len(revoked) < manyRevoked {
				b.Fatal(len(revoked), err)
			}
		}
	})
	b.Run("nothing new", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Tenants(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

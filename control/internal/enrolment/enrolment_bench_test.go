// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package enrolment_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/enrolment"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store/postgres"
	"gitlab.com/ampora/ampora/control/internal/store/postgres/postgrestest"
	"gitlab.com/ampora/ampora/shared/identity"
)

const tenant fleet.TenantID = "acme"

var now = time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)

// BenchmarkEnrol enrols 4000 agents, of which so many ask at a time, and says what a leaf costs of this process and of
// PostgreSQL's for its database (postgrestest.Cost).
func BenchmarkEnrol(b *testing.B) {
	const agents = 4000
	for _, crowd := range []int{1, 16, 256} {
		b.Run(strconv.Itoa(crowd), func(b *testing.B) {
			database := postgrestest.Database(b)
			s, err := postgres.Open(b.Context(), database)
			must(b, err)
			b.Cleanup(func() { must(b, s.Close()) })
			enrols := newEnrolment(b, s)
			admin, err := pgx.Connect(b.Context(), postgrestest.Superuser(b, database))
			must(b, err)
			b.Cleanup(func() { _ = admin.Close(context.WithoutCancel(b.Context())) })
			var cost postgrestest.Cost
			for b.Loop() {
				b.StopTimer()
				requests := prepare(b, s, agents)
				before := postgrestest.CostOf(b, admin)
				b.StartTimer()
				storm(b, enrols, requests, crowd)
				cost = cost.Plus(postgrestest.CostOf(b, admin).Since(before))
			}
			leaves := float64(agents * b.N)
			b.ReportMetric(leaves/cost.Sum().Seconds(), "leaves/CPU-s")
			b.ReportMetric(float64(cost.Ours.Microseconds())/leaves, "control-µs/leaf")
			b.ReportMetric(float64(cost.Theirs.Microseconds())/leaves, "postgres-µs/leaf")
		})
	}
}

func newEnrolment(b *testing.B, s *postgres.Store) *enrolment.Enrolment {
	b.Helper()
	_, err := s.EnsureTenant(b.Context(), fleet.Tenant{ID: tenant, CreatedAt: now, WrappedDataKey: []byte("wrapped")})
	must(b, err)
	ring := seal.NewKeyring(seal.NewMasterKey(), nil)
	authority, err := pki.Open(b.Context(), pki.Config{TrustDomain: "fleet.example", PublicURL: "http://pki.example"}, s, ring)
	must(b, err)
	must(b, authority.EnsureTenant(b.Context(), tenant, now))
	e := enrolment.New(s, authority, slog.New(slog.DiscardHandler), func() time.Time { return now })
	running, stop := context.WithCancel(b.Context())
	var all sync.WaitGroup
	all.Go(func() { must(b, e.Run(running)) })
	b.Cleanup(func() { stop(); all.Wait() })
	return e
}

// prepare issues tokens, and makes a request with each.
func prepare(b *testing.B, s *postgres.Store, n int) []enrolment.Request {
	b.Helper()
	requests := make([]enrolment.Request, n)
	each(n, 16, func(i int) {
		secret := identity.NewToken(identity.BootstrapToken)
		err := s.IssueBootstrapToken(b.Context(), fleet.System(tenant, now), fleet.BootstrapToken{
			ID: fleet.TokenID(identity.NewAgentID()), Tenant: tenant, Hash: secret.Hash(), CreatedAt: now, ExpiresAt: now.Add(time.Hour),
		})
		if err != nil {
			b.Error(err)
		}
		requests[i] = enrolment.Request{
			Presented: enrolment.Presented{Secret: secret.Reveal(), Gateway: "gw", Scope: fleet.ScopeOf(tenant), Peer: "198.51.100.7:4711"},
			CSR:       newCSR(b), Method: fleet.EnrolledByEST,
		}
	})
	return requests
}

func newCSR(t testing.TB) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Error(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Error(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func storm(b *testing.B, e *enrolment.Enrolment, requests []enrolment.Request, crowd int) {
	b.Helper()
	each(len(requests), crowd, func(i int) {
		if got, err := e.Enrol(b.Context(), requests[i]); err != nil || len(got.ChainPEM) == 0 {
			b.Errorf("agent %d: %v", i, err)
		}
	})
}

// each does n things, so many at a time.
func each(n, crowd int, do func(i int)) {
	next := make(chan int)
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}

func must(t testing.TB, err error) {
	if err != nil {
		t.Helper()
		t.Fatal(err)
	}
}

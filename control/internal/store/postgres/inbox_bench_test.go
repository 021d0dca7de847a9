// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/postgres"
	"gitlab.com/ampora/ampora/control/internal/store/postgres/postgrestest"
	"gitlab.com/ampora/ampora/shared/identity"
)

// BenchmarkRecord records 500 reports of 500 agents at a time: full first reports, then changes of health, then reports
// that say nothing new.
func BenchmarkRecord(b *testing.B) {
	const agents = 500
	s := postgrestest.Open(b)
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	reports := connected(b, s, now, agents)
	lease, err := s.AcquirePartition(b.Context(), 0, "bench", now)
	if err != nil {
		b.Fatal(err)
	}
	for name, parts := range map[string][]fleet.PartKind{
		"full":   {fleet.PartDescription, fleet.PartCapabilities, fleet.PartHealth, fleet.PartEffectiveConfig, fleet.PartRemoteConfigStatus},
		"health": {fleet.PartHealth},
		"alive":  nil,
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				now = now.Add(time.Second)
				r := store.Record{Lease: lease, Position: "p", At: now}
				for i := range reports {
					r.Uplinks = append(r.Uplinks, fleet.Uplink{Report: next(&reports[i], now, parts)})
				}
				if done, err := s.Record(b.Context(), r); err != nil || done.Applied != agents {
					b.Fatal(done, err)
				}
			}
			b.ReportMetric(float64(agents*b.N)/b.Elapsed().Seconds(), "reports/s")
		})
	}
}

// connected enrols agents and claims their sessions.
func connected(b *testing.B, s *postgres.Store, now time.Time, n int) []fleet.Report {
	check := func(err error) {
		if err != nil {
			b.Helper()
			b.Fatal(err)
		}
	}
	by := fleet.System("acme", now)
	_, err := s.EnsureTenant(b.Context(), fleet.Tenant{ID: "acme", CreatedAt: now, WrappedDataKey: []byte("wrapped")})
	check(err)
	check(s.RegisterGateway(b.Context(), fleet.Gateway{ID: "gw", BootID: 1, StartedAt: now, LeaseUntil: now.Add(time.Hour)}))
	reports := make([]fleet.Report, n)
	for i := range reports {
		id := fleet.AgentID(identity.NewAgentID())
		sum := sha256.Sum256([]byte(id))
		token := fleet.BootstrapToken{ID: fleet.TokenID(identity.NewAgentID()), Tenant: "acme", Hash: sum, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
		check(s.IssueBootstrapToken(b.Context(), by, token))
		certificate := fleet.Certificate{
			Tenant: "acme", Serial: fleet.Serial(id), Fingerprint: fleet.Fingerprint(id), Agent: id, NotBefore: now, NotAfter: now,
			DER: []byte{}, ChainPEM: []byte{}, CreatedAt: now,
		}
		check(errors.Join(s.Redeem(b.Context(), []store.Redemption{{By: by, Token: token.ID, Agent: id, Method: fleet.EnrolledByEST, Certificate: certificate}})...))
		claim := fleet.Claim{
			Tenant: "acme", Identity: id, Serial: certificate.Serial, Fingerprint: certificate.Fingerprint, UID: fleet.InstanceUID(uuid.New()),
			Gateway: "gw", BootID: 1, At: now,
		}
		results, err := s.Claim(b.Context(), []fleet.Claim{claim})
		check(err)
		reports[i] = fleet.Report{Tenant: "acme", Agent: id, Gateway: "gw", BootID: 1, Stamp: fleet.Stamp{Epoch: results[0].Epoch}}
	}
	return reports
}

// next is the agent's next message, with the parts changed.
func next(r *fleet.Report, now time.Time, parts []fleet.PartKind) *fleet.Report {
	r.Stamp.Sequence++
	said := *r
	said.At, said.Parts = now, nil
	name := fmt.Sprint("host-", r.Stamp.Sequence)
	said.Summary.HostName, said.Labels = &name, map[string]string{"os": "linux", "zone": "a", "seq": name}
	for _, kind := range parts {
		said.Parts = append(said.Parts, fleet.Part{
			Kind: kind, Value: fmt.Appendf(nil, `{"files":[%q]}`, name), Raw: make([]byte, 300), Digest: name,
			News: &fleet.Event{Kind: fleet.EventHealthChanged, Message: "changed", Attributes: map[string]string{"to": name}},
		})
	}
	return &said
}

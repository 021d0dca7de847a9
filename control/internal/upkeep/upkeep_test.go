// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package upkeep_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/control/internal/upkeep"
	"gitlab.com/ampora/ampora/migrations"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// crowd is a store with connected agents whose keys the server made and whose certificates are due.
func crowd(t *testing.T, n int, now time.Time) *sqlite.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ampora.db")
	if _, err := migrations.Apply(t.Context(), "sqlite:"+path); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, by := t.Context(), fleet.System("acme", now)
	_, err = db.EnsureTenant(ctx, fleet.Tenant{ID: "acme", CreatedAt: now, WrappedDataKey: []byte("k")})
	must(err)
	must(db.RegisterGateway(ctx, fleet.Gateway{ID: "gw", BootID: 1, StartedAt: now, LeaseUntil: now.Add(time.Hour)}))
	var claims []fleet.Claim
	for i := range n {
		id := fleet.AgentID(identity.NewAgentID())
		hash := sha256.Sum256([]byte(id))
		serial := fleet.Serial(fmt.Sprintf("%x", hash[:10]))
		token := fleet.BootstrapToken{ID: fleet.TokenID(identity.NewAgentID()), Tenant: "acme", Hash: hash, CreatedBy: "t", CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
		must(db.IssueBootstrapToken(ctx, by, token))
		must(errors.Join(db.Redeem(ctx, []store.Redemption{{
			By: by, Token: token.ID, Agent: id, Method: fleet.EnrolledByServerKey, Partition: bus.PartitionOf(identity.AgentID(id)),
			Certificate: fleet.Certificate{
				Tenant: "acme", Serial: serial, Fingerprint: fleet.Fingerprint(serial), Agent: id, Key: "k", NotBefore: now.AddDate(-1, 0, 0),
				NotAfter: now.Add(15 * dayTime), DER: []byte("d"), ChainPEM: []byte("p"), PublicKey: hash, CreatedAt: now.AddDate(-1, 0, 0),
			},
		}})...))
		claims = append(claims, fleet.Claim{
			Tenant: "acme", Identity: id, Serial: serial, Fingerprint: fleet.Fingerprint(serial), UID: fleet.InstanceUID{1, byte(i), byte(i >> 8)},
			Gateway: "gw", BootID: 1, Transport: fleet.TransportWebSocket, At: now,
		})
	}
	results, err := db.Claim(ctx, claims)
	must(err)
	_, err = db.RenewReplica(ctx, fleet.Replica{ID: "r", StartedAt: now, LeaseUntil: now.Add(time.Hour)}, now)
	must(err)
	lease, err := db.AcquirePartition(ctx, 1, "r", now)
	must(err)
	record := store.Record{Lease: lease, Position: "p", At: now}
	for _, r := range results {
		bits := fleet.AcceptsConnectionSettings
		record.Uplinks = append(record.Uplinks, fleet.Uplink{Report: &fleet.Report{
			Tenant: "acme", Agent: r.Agent, Gateway: "gw", BootID: 1, Stamp: fleet.Stamp{Epoch: r.Epoch, Sequence: 1}, At: now,
			Parts:   []fleet.Part{{Kind: fleet.PartCapabilities, Value: []byte("{}")}},
			Summary: fleet.Summary{Capabilities: &bits},
		}})
	}
	_, err = db.Record(ctx, record)
	must(err)
	return db
}

// TestNoMoreAtOnceThanAllowed: however many are due, offers are made at a pace, and each once.
func TestNoMoreAtOnceThanAllowed(t *testing.T) {
	const due, minute = 180, 1000
	now := made
	db := crowd(t, due, now)
	keeper := func() *upkeep.Keeper {
		k, err := upkeep.New(upkeep.Deps{
			Store: db, Policy: policy, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}, Now: func() time.Time { return now },
		})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	offered := func() (total int) {
		dispatches, err := db.ClaimDispatches(t.Context(), now, now.Add(time.Hour), 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range dispatches {
			if d.Kind == fleet.DispatchRenew {
				total++
			}
		}
		return total
	}
	var turns []int
	for range 4 {
		if err := keeper().Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		turns = append(turns, offered())
		now = now.Add(upkeep.Pause)
	}
	most := minute * int(upkeep.Pause) / int(time.Minute)
	want := []int{most, most, due - 2*most, 0}
	for i := range want {
		if turns[i] != want[i] {
			t.Fatalf("offers by turn %v, want %v", turns, want)
		}
	}
}

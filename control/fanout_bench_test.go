// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/postgres"
	"gitlab.com/ampora/ampora/control/internal/store/postgres/postgrestest"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
)

const fanoutGroup = "01980000-0000-7000-9000-000000000000"

// BenchmarkFanout5000 assigns a configuration of 4 KiB to a group of 5 000 agents, who run another, until all of them are
// addressed in signed messages on the bus. Nobody answers. What is told besides: how long Assign took, and how many
// messages there were.
func BenchmarkFanout5000(b *testing.B) {
	f := newFanout(b, 5000)
	var assigning time.Duration
	messages := 0
	for b.Loop() {
		b.StopTimer()
		version := f.prepare()
		b.StartTimer()
		began := time.Now()
		f.assign(version)
		assigning += time.Since(began)
		messages += f.receive()
	}
	b.ReportMetric(float64(assigning.Milliseconds())/float64(b.N), "assign-ms/op")
	b.ReportMetric(float64(messages)/float64(b.N), "messages/op")
}

// fanout is a control plane with a gateway whose agents are rows and nothing more.
type fanout struct {
	*testing.B
	agents int
	*plane
	db    store.Store
	super *pgx.Conn
	bus   bus.Bus
	at    bus.Position
	round int
}

func newFanout(b *testing.B, agents int) *fanout {
	b.Helper()
	database := postgrestest.Database(b)
	db, err := postgres.Open(b.Context(), database)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	super, err := pgx.Connect(b.Context(), postgrestest.Superuser(b, database))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = super.Close(context.WithoutCancel(b.Context())) })
	f := &fanout{B: b, agents: agents, super: super, bus: newBus(b)}
	f.plane = start(b, db, f.bus, newMasterKey())
	f.db = f.plane.Control.store
	now := time.Now()
	f.must(f.db.RegisterGateway(b.Context(), fleet.Gateway{ID: "g", BootID: 42, StartedAt: now, LeaseUntil: now.Add(time.Hour)}))
	f.exec(`INSERT INTO groups (tenant_id, id, name, created_at) VALUES ('default', $1, 'all', now())`, fanoutGroup)
	f.exec(`
		INSERT INTO agents (tenant_id, id, partition, enrolled_at, method, group_id, accepts_config, epoch, gateway_id, boot_id)
		SELECT 'default', ('01980000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, n % 64, now(), 'est', $1, true, 1, 'g', 42
		FROM generate_series(1, $2::int) AS n`, fanoutGroup, f.agents)
	f.assign(f.prepare())
	f.receive()
	return f
}

func (f *fanout) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fanout) exec(statement string, args ...any) {
	f.Helper()
	_, err := f.super.Exec(f.Context(), statement, args...)
	f.must(err)
}

// prepare waits until all that was sent is noted, lets the agents have applied it, and publishes a version.
func (f *fanout) prepare() fleet.ConfigID {
	f.Helper()
	for sent := f.round == 0; !sent; {
		f.must(f.super.QueryRow(f.Context(), "SELECT count(sent_at) = $1 FROM grants", f.agents).Scan(&sent))
	}
	f.exec("UPDATE grants SET state = 'met' WHERE state = 'open'")
	f.exec("DELETE FROM outbox")
	f.exec("UPDATE deliveries SET state = 'applied'")
	f.exec("UPDATE attempts SET outcome = 'applied' WHERE outcome <> 'applied'")
	f.exec("VACUUM ANALYZE")
	f.round++
	now, body := time.Now(), fmt.Appendf(nil, "receivers: {r%d: {}} # %04070d\n", f.round, f.round)
	hash, kind := fleet.HashOf(body), fleet.KindCollector
	id := fleet.ConfigID(fmt.Sprintf("01980000-0000-7000-a000-%012x", f.round))
	f.must(f.db.PutBodies(f.Context(), "default", now, []store.SealedBody{{Hash: hash, Size: int64(len(body)), Sealed: body}}))
	_, err := f.db.CreateConfig(f.Context(), fleet.System("default", now),
		fleet.Config{Tenant: "default", ID: id, Name: fmt.Sprint("edge-", f.round), Kind: kind, CreatedAt: now},
		&fleet.ConfigVersion{
			Tenant: "default", Config: id, Version: 1, State: fleet.VersionDraft, Hash: hash, Size: int64(len(body)), ContentType: kind.ContentType(),
			Offer: fleet.Rendered(hash, int64(len(body)), kind.ContentType()).OfferHash(), Revision: 1, CreatedAt: now,
		})
	f.must(err)
	_, err = f.db.PublishConfigVersion(f.Context(), fleet.System("default", now), fleet.Publication{Config: id, Version: 1})
	f.must(err)
	return id
}

func (f *fanout) assign(version fleet.ConfigID) {
	f.Helper()
	now := time.Now()
	_, agents, err := f.db.Assign(f.Context(), fleet.System("default", now), fleet.Assignment{
		Tenant: "default", Target: fleet.Target{Group: fanoutGroup}, Config: version, Version: 1, CreatedAt: now,
	}, f.agents)
	f.must(err)
	if agents != f.agents {
		f.Fatalf("assigned to %d agents", agents)
	}
}

// receive reads the gateway's stream until every agent was addressed, and says in how many messages.
func (f *fanout) receive() (messages int) {
	f.Helper()
	for left := f.agents; left > 0; {
		batch, err := f.bus.Receive(f.Context(), "g", f.at, 100)
		f.must(err)
		f.at = batch.Next
		for _, m := range batch.Messages {
			var signed relayv1.SignedDownlink
			var down relayv1.Downlink
			f.must(proto.Unmarshal(m.Payload, &signed))
			f.must(proto.Unmarshal(signed.GetDownlink(), &down))
			messages++
			left -= len(down.GetTargets())
		}
	}
	return messages
}

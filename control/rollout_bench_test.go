// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/postgres/postgrestest"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// BenchmarkRollout rolls a version out to all agents of a group at once, without gates, through engine, outbox, bus and
// inbox: from the start call until the last agent's word that it applied it is counted. There are no sockets; agents answer
// at once, each in three messages. Told besides are the rows that PostgreSQL wrote and the CPU that its connections and this
// process used, for each agent.
func BenchmarkRollout(b *testing.B) {
	for _, agents := range []int{1000, 3000, 10_000, 30_000, 100_000} {
		b.Run(fmt.Sprint(agents), func(b *testing.B) {
			f := newFanout(b, agents)
			f.answers()
			var planning time.Duration
			var rows float64
			var cost postgrestest.Cost
			for b.Loop() {
				b.StopTimer()
				version := f.prepare()
				began := time.Now()
				id := f.plan(version)
				planning += time.Since(began)
				written, before := f.written(), postgrestest.CostOf(b, f.super)
				b.StartTimer()
				f.begin(id)
				f.completed(id)
				rows, cost = rows+f.written()-written, cost.Plus(postgrestest.CostOf(b, f.super).Since(before))
			}
			n := float64(b.N) * float64(agents)
			b.ReportMetric(float64(b.Elapsed().Microseconds())/n, "µs/agent")
			b.ReportMetric(float64(planning.Microseconds())/n, "planning-µs/agent")
			b.ReportMetric(rows/n, "rows/agent")
			b.ReportMetric(float64(cost.Ours.Microseconds())/n, "control-µs/agent")
			b.ReportMetric(float64(cost.Theirs.Microseconds())/n, "postgres-µs/agent")
		})
	}
}

// plan makes a rollout of a version to the group.
func (f *fanout) plan(version fleet.ConfigID) fleet.RolloutID {
	f.Helper()
	now := time.Now()
	def := fleet.RolloutDefinition{
		Group: fanoutGroup, Config: version, Version: 1, Strategy: fleet.Strategy{Kind: fleet.StrategyImmediate}, Advance: fleet.AdvanceAutomatic,
		Order: fleet.Order{Kind: fleet.OrderRandom}, Late: fleet.LateFreeze, Deadline: fleet.DefaultDeadline,
		Gates: fleet.Gates{ApplyFailed: fleet.Gate{Off: true}, Disconnect: fleet.Gate{Off: true}, Mismatch: fleet.Gate{Off: true}, Unhealthy: fleet.Gate{Off: true}},
	}
	candidates, err := f.db.RolloutCandidates(f.Context(), "default", store.RolloutScope{Group: fanoutGroup, Config: version, Version: 1})
	f.must(err)
	plan, members := rollout.Draw(fleet.RolloutForward, def, candidates, now)
	made, err := f.db.CreateRollout(f.Context(), fleet.System("default", now), fleet.Rollout{
		Tenant: "default", ID: fleet.RolloutID(version), Kind: fleet.RolloutForward, Definition: def, State: fleet.RolloutPending, Plan: plan, CreatedAt: now,
	}, members)
	f.must(err)
	return made.ID
}

func (f *fanout) begin(id fleet.RolloutID) {
	f.Helper()
	r, err := f.db.Rollout(f.Context(), "default", id)
	f.must(err)
	_, err = f.db.StartRollout(f.Context(), fleet.System("default", time.Now()), store.RolloutStart{Rollout: id, Version: r.Version})
	f.must(err)
}

// completed waits until every agent has applied it.
func (f *fanout) completed(id fleet.RolloutID) {
	f.Helper()
	for {
		r, err := f.db.Rollout(f.Context(), "default", id)
		f.must(err)
		if r.State == fleet.RolloutCompleted {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	waves, err := f.db.RolloutWaves(f.Context(), "default", id)
	f.must(err)
	applied := 0
	for _, w := range waves {
		applied += w.Counts.Applied
	}
	if applied != f.agents {
		f.Fatalf("%d of %d agents applied it", applied, f.agents)
	}
}

// answers answers for all agents as gateways and agents do, until the end.
func (f *fanout) answers() {
	registered, err := f.Gateways().Register(f.Context(), &internalv1.RegisterRequest{GatewayId: "g", BootId: 42})
	f.must(err)
	key, err := uplink.ParseKey(registered.GetUplinkKey())
	f.must(err)
	f.exec("UPDATE gateways SET lease_until = now() + interval '1 hour'") // nobody renews it
	a := &answering{bus: f.bus, key: key, counter: map[int]uint64{}, sequence: map[string]uint64{}}
	go func() {
		for {
			batch, err := f.bus.Receive(f.Context(), "g", f.at, 100)
			if err != nil {
				return
			}
			f.at = batch.Next
			for _, m := range batch.Messages {
				if err := a.downlink(f.Context(), m.Payload); err != nil {
					f.Error(err)
					return
				}
			}
		}
	}()
}

// answering is a gateway with agents that apply everything at once.
type answering struct {
	bus      bus.Bus
	key      uplink.Key
	counter  map[int]uint64
	sequence map[string]uint64
	out      []bus.Outgoing
}

// downlink answers one message: its offers arrive, are applied, and that is said.
func (a *answering) downlink(ctx context.Context, payload []byte) error {
	var signed relayv1.SignedDownlink
	var down relayv1.Downlink
	if err := errors.Join(proto.Unmarshal(payload, &signed), proto.Unmarshal(signed.GetDownlink(), &down)); err != nil {
		return fmt.Errorf("a downlink: %w", err)
	}
	if down.GetKind() != relayv1.Downlink_KIND_CONFIG {
		return nil
	}
	a.out = a.out[:0]
	for _, to := range down.GetTargets() {
		a.says(to, &relayv1.Uplink{Event: &relayv1.Uplink_Delivery{Delivery: &relayv1.Delivery{
			Outcome: relayv1.Delivery_OUTCOME_DELIVERED, Kind: down.GetKind(), Hash: down.GetHash(), Generation: to.GetGeneration(),
		}}})
		for _, state := range []protobufs.RemoteConfigStatuses{
			protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING, protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED,
		} {
			a.sequence[to.GetAgentId()]++
			n := a.sequence[to.GetAgentId()]
			raw, err := proto.Marshal(&protobufs.AgentToServer{
				SequenceNum: n, RemoteConfigStatus: &protobufs.RemoteConfigStatus{LastRemoteConfigHash: down.GetHash(), Status: state},
			})
			if err != nil {
				return err
			}
			a.says(to, &relayv1.Uplink{Event: &relayv1.Uplink_Report{Report: &relayv1.Report{Sequence: n, AgentToServer: raw}}})
		}
	}
	return a.bus.Publish(ctx, a.out...)
}

// says adds a message of an agent to what is published.
func (a *answering) says(agent *relayv1.Target, u *relayv1.Uplink) {
	partition := bus.PartitionOf(identity.AgentID(agent.GetAgentId()))
	a.counter[partition]++
	u.GatewayId, u.BootId, u.Counter, u.Tenant, u.AgentId = "g", 42, a.counter[partition], "default", agent.GetAgentId()
	u.Epoch, u.ReceivedAt = agent.GetEpoch(), timestamppb.Now()
	body, err := proto.Marshal(u)
	if err != nil {
		panic(err) // of our own making
	}
	sealed, err := proto.Marshal(&relayv1.Sealed{Body: body, Seal: a.key.SealUplink(body)})
	if err != nil {
		panic(err)
	}
	a.out = append(a.out, bus.Outgoing{Partition: partition, Payload: sealed})
}

// written is how many rows were written to the database until now.
func (f *fanout) written() (rows float64) {
	f.Helper()
	f.must(f.super.QueryRow(f.Context(), "SELECT pg_stat_force_next_flush(), tup_inserted + tup_updated + tup_deleted FROM pg_stat_database WHERE datname = current_database()").Scan(nil, &rows))
	return rows
}

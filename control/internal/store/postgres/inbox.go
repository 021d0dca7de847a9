// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// AcquirePartition implements store.Inbox. It locks the row first, as AcquireDuty does.
func (s *Store) AcquirePartition(ctx context.Context, partition int, holder string, now time.Time) (store.PartitionLease, error) {
	lease := store.PartitionLease{Partition: partition, Holder: holder}
	err := s.asWorker(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO partitions AS p (partition, holder, epoch) VALUES ($1, '', 0)
			ON CONFLICT (partition) DO UPDATE SET holder = p.holder`, partition)
		if err != nil {
			return fail("lock the partition", err)
		}
		err = tx.QueryRow(ctx, `
			UPDATE partitions SET holder = $3, epoch = epoch + CASE WHEN holder = $3 THEN 0 ELSE 1 END
			WHERE partition = $2 AND (holder = $3 OR NOT `+living+`)
			RETURNING epoch, position`,
			moment(now), partition, holder).Scan(&lease.Epoch, &lease.Position)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("acquire partition %d: %w", partition, store.ErrLeaseLost)
		}
		return fail("acquire a partition", err)
	})
	if err != nil {
		return store.PartitionLease{}, err
	}
	return lease, nil
}

// ReleasePartition implements store.Inbox.
func (s *Store) ReleasePartition(ctx context.Context, lease store.PartitionLease) error {
	return s.asWorker(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE partitions SET holder = '' WHERE partition = $1 AND holder = $2 AND epoch = $3`,
			lease.Partition, lease.Holder, lease.Epoch)
		return fail("release a partition", err)
	})
}

// Counters implements store.Inbox.
func (s *Store) Counters(ctx context.Context, partition int) (counters []store.Counter, err error) {
	err = s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		counters, err = list(ctx, tx, scanCounter, `
			SELECT gateway_id, boot_id, counter FROM partition_counters WHERE partition = $1 ORDER BY gateway_id`, partition)
		return fail("read the counters", err)
	})
	return counters, err
}

func scanCounter(row pgx.Row) (c store.Counter, err error) {
	var boot, value int64
	err = row.Scan(&c.Gateway, &boot, &value)
	c.BootID, c.Value = column.Unbits(boot), column.Unbits(value)
	return c, err
}

// Record implements store.Inbox. What counts is verdict's to say, on rows locked until the commit: of the partition,
// which a taker-over waits for, and of the agents, which a claim waits for.
func (s *Store) Record(ctx context.Context, r store.Record) (store.Recorded, error) {
	var recorded store.Recorded
	err := s.bulkAsWorker(ctx, func(tx pgx.Tx) error {
		revoked, err := advance(ctx, tx, r)
		if err != nil {
			return err
		}
		parted, empty := verdict.ByTenant(r.Uplinks, revoked)
		recorded = store.Recorded{Stale: empty}
		for _, uplinks := range parted {
			some, err := recordTenant(ctx, tx, uplinks, r.At)
			if err != nil {
				return err
			}
			recorded.Applied += some.Applied
			recorded.Stale += some.Stale
			recorded.Unknown += some.Unknown
			recorded.Woken += some.Woken
		}
		return nil
	})
	if err != nil {
		return store.Recorded{}, err
	}
	return recorded, nil
}

// advance moves position and counters, and with them keeps the lease from being taken over until the commit. It returns
// the gateways that nobody listens to any more: few.
func advance(ctx context.Context, tx pgx.Tx, r store.Record) (revoked []fleet.GatewayID, err error) {
	held := false
	var partition int
	var gateway fleet.GatewayID
	err = pipelined(ctx, tx, "move the position", func(q *pipeline) {
		q.ask(func() error {
			held = true
			return nil
		}, []any{&partition}, `
			UPDATE partitions SET position = coalesce(nullif($4, ''), position)
			WHERE partition = $1 AND holder = $2 AND epoch = $3 RETURNING partition`,
			r.Lease.Partition, r.Lease.Holder, r.Lease.Epoch, r.Position)
		for _, c := range r.Counters {
			q.Queue(`
				INSERT INTO partition_counters (partition, gateway_id, boot_id, counter) VALUES ($1, $2, $3, $4)
				ON CONFLICT (partition, gateway_id) DO UPDATE SET boot_id = excluded.boot_id, counter = excluded.counter`,
				r.Lease.Partition, c.Gateway, column.Bits(c.BootID), column.Bits(c.Value))
		}
		q.ask(func() error {
			revoked = append(revoked, gateway)
			return nil
		}, []any{&gateway}, `SELECT id FROM gateways WHERE revoked_at IS NOT NULL`)
	})
	if err == nil && !held {
		err = fmt.Errorf("record partition %d: %w", r.Lease.Partition, store.ErrLeaseLost)
	}
	return revoked, err
}

func recordTenant(ctx context.Context, tx pgx.Tx, uplinks verdict.Uplinks, at time.Time) (store.Recorded, error) {
	agents, stored, err := lockStanding(ctx, tx, uplinks)
	if err != nil {
		return store.Recorded{}, err
	}
	events, recorded := uplinks.Judge(agents, stored)
	return recorded, writeReports(ctx, tx, uplinks.Tenant, agents, events, at)
}

// lockStanding enters the tenant, locks the agents the uplinks name, in the order of their ids, and reads their grants, the gateways that
// share their sessions, the marks of their parts, and which of the bodies there are: in one round trip, and each query
// begins when the locks are held.
func lockStanding(ctx context.Context, tx pgx.Tx, uplinks verdict.Uplinks) (
	agents map[fleet.AgentID]*verdict.Agent, stored map[fleet.ContentHash]bool, err error,
) {
	agents, stored = make(map[fleet.AgentID]*verdict.Agent, len(uplinks.Agents)), make(map[fleet.ContentHash]bool, len(uplinks.Bodies))
	named := ids(uplinks.Agents, itself)
	err = pipelined(ctx, tx, "lock the agents", func(q *pipeline) {
		q.Queue(entering, uplinks.Tenant)
		queueLock(q, uplinks.Tenant, named, agents)
		queueSeats(q, uplinks.Tenant, named, agents)
		queueMarks(q, uplinks.Tenant, named, agents)
		var h fleet.ContentHash
		q.ask(func() error {
			stored[h] = true
			return nil
		}, []any{(*hash)(&h)}, `SELECT hash FROM bodies WHERE tenant_id = $1 AND hash = ANY((SELECT $2::bytea[])::bytea[])`,
			uplinks.Tenant, array(uplinks.Bodies, func(h fleet.ContentHash) []byte { return h[:] }))
	})
	return agents, stored, err
}

func queueLock(q *pipeline, tenant fleet.TenantID, named pgtype.FlatArray[[16]byte], to map[fleet.AgentID]*verdict.Agent) {
	var a verdict.Agent
	var boot, former int64
	q.ask(func() error {
		seen := a
		seen.BootID, seen.Former.BootID, seen.Parts = column.Unbits(boot), column.Unbits(former), map[fleet.PartKind]verdict.Mark{}
		to[a.ID] = &seen
		return nil
	}, []any{
		&a.ID, &a.Epoch, &a.Gateway, &boot, &a.LastSequence, &a.StateKnown, (*instant)(&a.LastSeenAt), (*instant)(&a.EndedAt), &a.EndReason,
		&a.Transport, &a.Former.Epoch, &a.Former.Gateway, &former, &a.Former.Sequence,
		(*instant)(&a.Telling.Hour), &a.Telling.Told, &a.Telling.Untold,
	}, `
		SELECT id, epoch, gateway_id, boot_id, last_sequence, state_known, last_seen_at, ended_at, end_reason,
		       transport, former_epoch, former_gateway_id, former_boot_id, former_sequence, told_hour, told, untold
		FROM agents WHERE tenant_id = $1 AND id `+among+` ORDER BY id FOR NO KEY UPDATE`, tenant, named)
	var id fleet.AgentID
	var grant fleet.Generation
	var open bool
	q.ask(func() error {
		if a := to[id]; a != nil {
			a.Grant, a.GrantOpen = grant, open
		}
		return nil
	}, []any{&id, &grant, &open}, `
		SELECT agent_id, generation, state = 'open' FROM grants WHERE tenant_id = $1 AND agent_id `+among, tenant, named)
}

// queueSeats adds to agents that poll the gateways that share their sessions.
func queueSeats(q *pipeline, tenant fleet.TenantID, named pgtype.FlatArray[[16]byte], to map[fleet.AgentID]*verdict.Agent) {
	var id fleet.AgentID
	var by verdict.Server
	var boot int64
	q.ask(func() error {
		if a := to[id]; a != nil && a.Transport == fleet.TransportHTTP {
			a.Seats = append(a.Seats, verdict.Server{Gateway: by.Gateway, BootID: column.Unbits(boot)})
		}
		return nil
	}, []any{&id, &by.Gateway, &boot}, `
		SELECT agent_id, gateway_id, boot_id FROM seats WHERE tenant_id = $1 AND agent_id `+among, tenant, named)
}

func queueMarks(q *pipeline, tenant fleet.TenantID, named pgtype.FlatArray[[16]byte], to map[fleet.AgentID]*verdict.Agent) {
	var id fleet.AgentID
	var kind fleet.PartKind
	var mark verdict.Mark
	q.ask(func() error {
		if a := to[id]; a != nil {
			a.Parts[kind] = mark
		}
		return nil
	}, []any{&id, &kind, &mark.Stamp.Epoch, &mark.Stamp.Sequence, &mark.Digest}, `
		SELECT agent_id, kind, epoch, sequence, digest FROM agent_parts WHERE tenant_id = $1 AND agent_id `+among, tenant, named)
}

// Resync implements store.Inbox.
func (s *Store) Resync(ctx context.Context, partition int, gateway fleet.GatewayID, at time.Time) (int, error) {
	var asked int
	err := s.asWorker(ctx, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `
			INSERT INTO outbox (tenant_id, agent_id, kind, due_at)
			SELECT tenant_id, id, $4, $3 FROM agents
			WHERE partition = $1 AND ended_at IS NULL AND epoch > 0 AND ($2 = '' OR gateway_id = $2 OR former_gateway_id = $2
				OR EXISTS (SELECT FROM seats s WHERE s.tenant_id = agents.tenant_id AND s.agent_id = agents.id AND s.gateway_id = $2))
			ORDER BY tenant_id, id`+onDispatch,
			partition, gateway, moment(at), fleet.DispatchFullState)
		asked = int(done.RowsAffected())
		return fail("ask for full state", err)
	})
	return asked, err
}

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

// AcquirePartition implements store.Inbox.
func (s *Store) AcquirePartition(ctx context.Context, partition int, holder string, now, until time.Time) (store.PartitionLease, error) {
	lease := store.PartitionLease{Partition: partition}
	err := s.asWorker(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			INSERT INTO partitions AS p (partition, holder, epoch, lease_until) VALUES ($1, $2, 1, $4)
			ON CONFLICT (partition) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until,
				epoch = p.epoch + CASE WHEN p.holder = excluded.holder THEN 0 ELSE 1 END
			WHERE p.holder = excluded.holder OR p.lease_until <= $3
			RETURNING holder, epoch, position, lease_until`,
			partition, holder, moment(now), moment(until)).Scan(&lease.Holder, &lease.Epoch, &lease.Position, (*instant)(&lease.Until))
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("acquire partition %d: %w", partition, store.ErrLeaseLost)
		}
		return fail("acquire a partition", err)
	})
	return lease, err
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
		parted, empty := verdict.ByTenant(r.Uplinks)
		recorded = store.Recorded{Stale: empty}
		if err := advance(ctx, tx, r); err != nil {
			return err
		}
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

// advance moves position and counters, and with them keeps the lease from being taken over until the commit.
func advance(ctx context.Context, tx pgx.Tx, r store.Record) error {
	held, err := tx.Exec(ctx, `
		UPDATE partitions SET position = coalesce(nullif($4, ''), position)
		WHERE partition = $1 AND holder = $2 AND epoch = $3`,
		r.Lease.Partition, r.Lease.Holder, r.Lease.Epoch, r.Position)
	if err != nil {
		return fail("move the position", err)
	}
	if held.RowsAffected() == 0 {
		return fmt.Errorf("record partition %d: %w", r.Lease.Partition, store.ErrLeaseLost)
	}
	var batch pgx.Batch
	for _, c := range r.Counters {
		batch.Queue(`
			INSERT INTO partition_counters (partition, gateway_id, boot_id, counter) VALUES ($1, $2, $3, $4)
			ON CONFLICT (partition, gateway_id) DO UPDATE SET boot_id = excluded.boot_id, counter = excluded.counter`,
			r.Lease.Partition, c.Gateway, column.Bits(c.BootID), column.Bits(c.Value))
	}
	return fail("move the counters", tx.SendBatch(ctx, &batch).Close())
}

func recordTenant(ctx context.Context, tx pgx.Tx, uplinks verdict.Uplinks, at time.Time) (store.Recorded, error) {
	if err := enter(ctx, tx, uplinks.Tenant); err != nil {
		return store.Recorded{}, err
	}
	agents, stored, err := lockStanding(ctx, tx, uplinks)
	if err != nil {
		return store.Recorded{}, err
	}
	events, recorded := uplinks.Judge(agents, stored)
	return recorded, writeReports(ctx, tx, uplinks.Tenant, agents, events, at)
}

// lockStanding locks the agents the uplinks name, in the order of their ids, and reads their grants, the marks of their
// parts, and which of the bodies there are: in one round trip, and each query begins when the locks are held.
func lockStanding(ctx context.Context, tx pgx.Tx, uplinks verdict.Uplinks) (
	agents map[fleet.AgentID]*verdict.Agent, stored map[fleet.ContentHash]bool, err error,
) {
	agents, stored = make(map[fleet.AgentID]*verdict.Agent, len(uplinks.Agents)), make(map[fleet.ContentHash]bool, len(uplinks.Bodies))
	named := ids(uplinks.Agents, itself)
	err = pipelined(ctx, tx, "lock the agents", func(q *pipeline) {
		queueLock(q, uplinks.Tenant, named, agents)
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
	var boot int64
	q.ask(func() error {
		seen := a
		seen.BootID, seen.Parts = column.Unbits(boot), map[fleet.PartKind]verdict.Mark{}
		to[a.ID] = &seen
		return nil
	}, []any{
		&a.ID, &a.Epoch, &a.Gateway, &boot, &a.LastSequence, &a.StateKnown, (*instant)(&a.LastSeenAt), (*instant)(&a.EndedAt), &a.EndReason,
	}, `
		SELECT id, epoch, gateway_id, boot_id, last_sequence, state_known, last_seen_at, ended_at, end_reason
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
			WHERE partition = $1 AND ended_at IS NULL AND epoch > 0 AND ($2 = '' OR gateway_id = $2)
			ORDER BY tenant_id, id`+onDispatch,
			partition, gateway, moment(at), fleet.DispatchFullState)
		asked = int(done.RowsAffected())
		return fail("ask for full state", err)
	})
	return asked, err
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// AcquirePartition implements store.Inbox.
func (s *Store) AcquirePartition(ctx context.Context, partition int, holder string, now time.Time) (store.PartitionLease, error) {
	lease := store.PartitionLease{Partition: partition, Holder: holder}
	err := s.asWorker(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO partitions (partition, holder, epoch) VALUES (?1, '', 0) ON CONFLICT (partition) DO NOTHING`, partition)
		if err != nil {
			return fail("note the partition", err)
		}
		err = tx.QueryRowContext(ctx, `
			UPDATE partitions SET holder = ?3, epoch = epoch + CASE WHEN holder = ?3 THEN 0 ELSE 1 END
			WHERE partition = ?2 AND (holder = ?3 OR NOT `+living+`)
			RETURNING epoch, position`,
			moment(now), partition, holder).Scan(&lease.Epoch, &lease.Position)
		if errors.Is(err, sql.ErrNoRows) {
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
	return s.asWorker(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE partitions SET holder = '' WHERE partition = ?1 AND holder = ?2 AND epoch = ?3`,
			lease.Partition, lease.Holder, lease.Epoch)
		return fail("release a partition", err)
	})
}

// Counters implements store.Inbox.
func (s *Store) Counters(ctx context.Context, partition int) (counters []store.Counter, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		counters, err = list(ctx, tx, scanCounter, `
			SELECT gateway_id, boot_id, counter FROM partition_counters WHERE partition = ?1 ORDER BY gateway_id`, partition)
		return fail("read the counters", err)
	})
	return counters, err
}

func scanCounter(row scanner) (c store.Counter, err error) {
	var boot, value int64
	err = row.Scan(&c.Gateway, &boot, &value)
	c.BootID, c.Value = column.Unbits(boot), column.Unbits(value)
	return c, err
}

// Record implements store.Inbox. What counts is verdict's to say.
func (s *Store) Record(ctx context.Context, r store.Record) (store.Recorded, error) {
	var recorded store.Recorded
	err := s.asWorker(ctx, func(tx *sql.Tx) error {
		if err := advance(ctx, tx, r); err != nil {
			return err
		}
		revoked, err := revokedGateways(ctx, tx)
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

// revokedGateways are those that nobody listens to any more: few.
func revokedGateways(ctx context.Context, tx *sql.Tx) ([]fleet.GatewayID, error) {
	scan := func(row scanner) (id fleet.GatewayID, err error) {
		err = row.Scan(&id)
		return id, err
	}
	revoked, err := list(ctx, tx, scan, `SELECT id FROM gateways WHERE revoked_at IS NOT NULL`)
	return revoked, fail("read which gateways are revoked", err)
}

// advance moves position and counters, if the lease is still held.
func advance(ctx context.Context, tx *sql.Tx, r store.Record) error {
	held, err := changed(tx.ExecContext(ctx, `
		UPDATE partitions SET position = coalesce(nullif(?4, ''), position)
		WHERE partition = ?1 AND holder = ?2 AND epoch = ?3`,
		r.Lease.Partition, r.Lease.Holder, r.Lease.Epoch, r.Position))
	if err != nil {
		return fail("move the position", err)
	}
	if held == 0 {
		return fmt.Errorf("record partition %d: %w", r.Lease.Partition, store.ErrLeaseLost)
	}
	for _, c := range r.Counters {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO partition_counters (partition, gateway_id, boot_id, counter) VALUES (?1, ?2, ?3, ?4)
			ON CONFLICT (partition, gateway_id) DO UPDATE SET boot_id = excluded.boot_id, counter = excluded.counter`,
			r.Lease.Partition, c.Gateway, column.Bits(c.BootID), column.Bits(c.Value))
		if err != nil {
			return fail("move the counters", err)
		}
	}
	return nil
}

func recordTenant(ctx context.Context, tx *sql.Tx, uplinks verdict.Uplinks, at time.Time) (store.Recorded, error) {
	if err := enter(ctx, tx, uplinks.Tenant); err != nil {
		return store.Recorded{}, err
	}
	agents, err := standings(ctx, tx, uplinks)
	if err != nil {
		return store.Recorded{}, err
	}
	stored, err := storedBodies(ctx, tx, uplinks)
	if err != nil {
		return store.Recorded{}, err
	}
	events, recorded := uplinks.Judge(agents, stored)
	return recorded, writeReports(ctx, tx, uplinks.Tenant, agents, events, at)
}

// standings reads the agents the uplinks name and the marks of their parts.
func standings(ctx context.Context, tx *sql.Tx, uplinks verdict.Uplinks) (map[fleet.AgentID]*verdict.Agent, error) {
	standing, err := list(ctx, tx, scanStanding, `
		SELECT a.id, a.epoch, a.gateway_id, a.boot_id, a.last_sequence, a.state_known, a.last_seen_at, a.ended_at,
		       a.end_reason, coalesce(g.generation, 0), coalesce(g.state = 'open', false), a.transport,
		       a.former_epoch, a.former_gateway_id, a.former_boot_id, a.former_sequence, a.told_hour, a.told, a.untold
		FROM agents a LEFT JOIN grants g ON g.tenant_id = a.tenant_id AND g.agent_id = a.id
		WHERE a.tenant_id = ?1 AND a.id IN (SELECT value FROM json_each(?2))`,
		uplinks.Tenant, asJSON(uplinks.Agents))
	if err != nil {
		return nil, fail("read the agents", err)
	}
	agents := make(map[fleet.AgentID]*verdict.Agent, len(standing))
	for i := range standing {
		agents[standing[i].ID] = &standing[i]
	}
	if err := readSeats(ctx, tx, uplinks, agents); err != nil {
		return nil, err
	}
	return agents, readMarks(ctx, tx, uplinks, agents)
}

// readSeats adds to agents that poll the gateways that share their sessions.
func readSeats(ctx context.Context, tx *sql.Tx, uplinks verdict.Uplinks, agents map[fleet.AgentID]*verdict.Agent) error {
	scan := func(row scanner) (by verdict.Server, err error) {
		var agent fleet.AgentID
		var boot int64
		err = row.Scan(&agent, &by.Gateway, &boot)
		by.BootID = column.Unbits(boot)
		if a := agents[agent]; a != nil && a.Transport == fleet.TransportHTTP {
			a.Seats = append(a.Seats, by)
		}
		return by, err
	}
	_, err := list(ctx, tx, scan, `
		SELECT agent_id, gateway_id, boot_id FROM seats WHERE tenant_id = ?1 AND agent_id IN (SELECT value FROM json_each(?2))`,
		uplinks.Tenant, asJSON(uplinks.Agents))
	return fail("read who serves the agents", err)
}

func scanStanding(row scanner) (a verdict.Agent, err error) {
	var boot, former int64
	err = row.Scan(&a.ID, &a.Epoch, &a.Gateway, &boot, &a.LastSequence, &a.StateKnown, (*instant)(&a.LastSeenAt),
		(*instant)(&a.EndedAt), &a.EndReason, &a.Grant, &a.GrantOpen, &a.Transport,
		&a.Former.Epoch, &a.Former.Gateway, &former, &a.Former.Sequence,
		(*instant)(&a.Telling.Hour), &a.Telling.Told, &a.Telling.Untold)
	a.BootID, a.Former.BootID, a.Parts = column.Unbits(boot), column.Unbits(former), map[fleet.PartKind]verdict.Mark{}
	return a, err
}

func readMarks(ctx context.Context, tx *sql.Tx, uplinks verdict.Uplinks, agents map[fleet.AgentID]*verdict.Agent) error {
	scan := func(row scanner) (kind fleet.PartKind, err error) {
		var agent fleet.AgentID
		var mark verdict.Mark
		err = row.Scan(&agent, &kind, &mark.Stamp.Epoch, &mark.Stamp.Sequence, &mark.Digest)
		if a := agents[agent]; a != nil {
			a.Parts[kind] = mark
		}
		return kind, err
	}
	_, err := list(ctx, tx, scan, `
		SELECT agent_id, kind, epoch, sequence, digest FROM agent_parts WHERE tenant_id = ?1 AND agent_id IN (SELECT value FROM json_each(?2))`,
		uplinks.Tenant, asJSON(uplinks.Agents))
	return fail("read the marks of parts", err)
}

func storedBodies(ctx context.Context, tx *sql.Tx, uplinks verdict.Uplinks) (map[fleet.ContentHash]bool, error) {
	stored := make(map[fleet.ContentHash]bool, len(uplinks.Bodies))
	for _, h := range uplinks.Bodies {
		var is bool
		err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM bodies WHERE tenant_id = ?1 AND hash = ?2)`,
			uplinks.Tenant, h[:]).Scan(&is)
		if err != nil {
			return nil, fail("look for bodies", err)
		}
		stored[h] = is
	}
	return stored, nil
}

// Resync implements store.Inbox.
func (s *Store) Resync(ctx context.Context, partition int, gateway fleet.GatewayID, at time.Time) (asked int, err error) {
	err = s.asWorker(ctx, func(tx *sql.Tx) error {
		asked, err = changed(tx.ExecContext(ctx, `
			INSERT INTO outbox (tenant_id, agent_id, kind, due_at)
			SELECT tenant_id, id, ?4, ?3 FROM agents
			WHERE partition = ?1 AND ended_at IS NULL AND epoch > 0 AND (?2 = '' OR gateway_id = ?2 OR former_gateway_id = ?2
				OR EXISTS (SELECT 1 FROM seats s WHERE s.tenant_id = agents.tenant_id AND s.agent_id = agents.id AND s.gateway_id = ?2))
			ORDER BY tenant_id, id`+onDispatch,
			partition, gateway, moment(at), fleet.DispatchFullState))
		return fail("ask for full state", err)
	})
	return asked, err
}

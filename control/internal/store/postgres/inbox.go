// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

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
	err := s.asWorker(ctx, func(tx pgx.Tx) error {
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
		}
		return nil
	})
	if err != nil {
		return store.Recorded{}, err
	}
	return recorded, nil
}

// revokedGateways are those that nobody listens to any more: few.
func revokedGateways(ctx context.Context, tx pgx.Tx) ([]fleet.GatewayID, error) {
	scan := func(row pgx.Row) (id fleet.GatewayID, err error) {
		err = row.Scan(&id)
		return id, err
	}
	revoked, err := list(ctx, tx, scan, `SELECT id FROM gateways WHERE revoked_at IS NOT NULL`)
	return revoked, fail("read which gateways are revoked", err)
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
	agents, err := lockAgents(ctx, tx, uplinks)
	if err != nil {
		return store.Recorded{}, err
	}
	stored, err := storedBodies(ctx, tx, uplinks)
	if err != nil {
		return store.Recorded{}, err
	}
	events, recorded := uplinks.Judge(agents, stored)
	return recorded, write(ctx, tx, uplinks.Tenant, agents, events, at)
}

// lockAgents reads the agents the uplinks name, in the order of their ids, and the marks of their parts.
func lockAgents(ctx context.Context, tx pgx.Tx, uplinks verdict.Uplinks) (map[fleet.AgentID]*verdict.Agent, error) {
	standing, err := list(ctx, tx, scanStanding, `
		SELECT a.id, a.epoch, a.gateway_id, a.boot_id, a.last_sequence, a.state_known, a.last_seen_at, a.ended_at,
		       a.end_reason, coalesce(g.generation, 0), coalesce(g.state = 'open', false), a.transport,
		       a.former_epoch, a.former_gateway_id, a.former_boot_id, a.former_sequence
		FROM agents a LEFT JOIN grants g ON g.tenant_id = a.tenant_id AND g.agent_id = a.id
		WHERE a.tenant_id = $1 AND a.id = ANY($2::uuid[]) ORDER BY a.id FOR NO KEY UPDATE OF a`,
		uplinks.Tenant, uplinks.Agents)
	if err != nil {
		return nil, fail("lock the agents", err)
	}
	agents := make(map[fleet.AgentID]*verdict.Agent, len(standing))
	for i := range standing {
		agents[standing[i].ID] = &standing[i]
	}
	if err := readSeats(ctx, tx, uplinks.Tenant, agents); err != nil {
		return nil, err
	}
	return agents, readMarks(ctx, tx, uplinks, agents)
}

// readSeats adds to agents that poll the gateways that share their sessions.
func readSeats(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, agents map[fleet.AgentID]*verdict.Agent) error {
	var polling []fleet.AgentID
	for id, a := range agents {
		if a.Transport == fleet.TransportHTTP {
			polling = append(polling, id)
		}
	}
	if len(polling) == 0 {
		return nil
	}
	scan := func(row pgx.Row) (by verdict.Server, err error) {
		var agent fleet.AgentID
		var boot int64
		err = row.Scan(&agent, &by.Gateway, &boot)
		by.BootID = column.Unbits(boot)
		if a := agents[agent]; a != nil {
			a.Seats = append(a.Seats, by)
		}
		return by, err
	}
	_, err := list(ctx, tx, scan, `
		SELECT agent_id, gateway_id, boot_id FROM seats WHERE tenant_id = $1 AND agent_id = ANY($2::uuid[])`, tenant, polling)
	return fail("read who serves the agents", err)
}

func scanStanding(row pgx.Row) (a verdict.Agent, err error) {
	var boot, former int64
	err = row.Scan(&a.ID, &a.Epoch, &a.Gateway, &boot, &a.LastSequence, &a.StateKnown, (*instant)(&a.LastSeenAt),
		(*instant)(&a.EndedAt), &a.EndReason, &a.Grant, &a.GrantOpen, &a.Transport,
		&a.Former.Epoch, &a.Former.Gateway, &former, &a.Former.Sequence)
	a.BootID, a.Former.BootID, a.Parts = column.Unbits(boot), column.Unbits(former), map[fleet.PartKind]verdict.Mark{}
	return a, err
}

func readMarks(ctx context.Context, tx pgx.Tx, uplinks verdict.Uplinks, agents map[fleet.AgentID]*verdict.Agent) error {
	scan := func(row pgx.Row) (kind fleet.PartKind, err error) {
		var agent fleet.AgentID
		var mark verdict.Mark
		err = row.Scan(&agent, &kind, &mark.Stamp.Epoch, &mark.Stamp.Sequence, &mark.Digest)
		if a := agents[agent]; a != nil {
			a.Parts[kind] = mark
		}
		return kind, err
	}
	_, err := list(ctx, tx, scan, `
		SELECT agent_id, kind, epoch, sequence, digest FROM agent_parts WHERE tenant_id = $1 AND agent_id = ANY($2::uuid[])`,
		uplinks.Tenant, uplinks.Agents)
	return fail("read the marks of parts", err)
}

func storedBodies(ctx context.Context, tx pgx.Tx, uplinks verdict.Uplinks) (map[fleet.ContentHash]bool, error) {
	if len(uplinks.Bodies) == 0 {
		return nil, nil
	}
	asked := make([][]byte, len(uplinks.Bodies))
	for i := range uplinks.Bodies {
		asked[i] = uplinks.Bodies[i][:]
	}
	scan := func(row pgx.Row) (h fleet.ContentHash, err error) {
		err = row.Scan((*hash)(&h))
		return h, err
	}
	found, err := list(ctx, tx, scan, `SELECT hash FROM bodies WHERE tenant_id = $1 AND hash = ANY($2)`, uplinks.Tenant, asked)
	stored := make(map[fleet.ContentHash]bool, len(found))
	for _, h := range found {
		stored[h] = true
	}
	return stored, fail("look for bodies", err)
}

// write writes what was judged: in one round trip, agents in the order of their ids.
func write(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, agents map[fleet.AgentID]*verdict.Agent, events []fleet.Event, at time.Time) error {
	var batch pgx.Batch
	woken := map[fleet.AgentID]fleet.Traceparent{}
	for _, id := range slices.Sorted(maps.Keys(agents)) {
		queueAgent(&batch, tenant, agents[id], at)
		if agents[id].Write.Wake {
			woken[id] = agents[id].Write.Trace
		}
	}
	for _, e := range events {
		batch.Queue(`INSERT INTO events (tenant_id, at, kind, agent_id, message, attributes) VALUES ($1, $2, $3, $4, $5, $6)`,
			e.Tenant, moment(e.At), e.Kind, e.Agent, e.Message, e.Attributes)
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fail("write the reports", err)
	}
	return wake(ctx, tx, tenant, at, woken)
}

func queueAgent(batch *pgx.Batch, tenant fleet.TenantID, a *verdict.Agent, at time.Time) {
	if a.Write.Row {
		queueRow(batch, tenant, a)
	}
	for _, kind := range slices.Sorted(maps.Keys(a.Write.Parts)) {
		queuePart(batch, tenant, a.ID, a.Write.Parts[kind])
	}
	if a.Write.Labels != nil {
		queueLabels(batch, tenant, a.ID, a.Write.Labels)
	}
	if d := a.Write.Delivery; d != nil {
		queueDelivery(batch, d)
	}
	if a.Write.Answered {
		batch.Queue(answered, tenant, a.ID)
	}
	if a.Write.FullState {
		batch.Queue(`INSERT INTO outbox (tenant_id, agent_id, kind, due_at) VALUES ($1, $2, $3, $4)`+onDispatch,
			tenant, a.ID, fleet.DispatchFullState, moment(at))
	}
	if a.Write.Park {
		batch.Queue(park, tenant, a.ID)
	}
}

func queueRow(batch *pgx.Batch, tenant fleet.TenantID, a *verdict.Agent) {
	s := a.Write.Summary
	batch.Queue(`
		UPDATE agents SET last_sequence = $3, state_known = $4, last_seen_at = $5, ended_at = $6, end_reason = $7,
			service_name = coalesce($8, service_name), service_version = coalesce($9, service_version),
			host_name = coalesce($10, host_name), capabilities = coalesce($11, capabilities),
			accepts_config = coalesce($12, accepts_config), healthy = coalesce($13, healthy)
		WHERE tenant_id = $1 AND id = $2`,
		tenant, a.ID, a.LastSequence, a.StateKnown, moment(a.LastSeenAt), moment(a.EndedAt), a.EndReason,
		s.ServiceName, s.ServiceVersion, s.HostName, column.CapabilityBits(s.Capabilities), s.AcceptsConfig, s.Healthy)
}

func queuePart(batch *pgx.Batch, tenant fleet.TenantID, agent fleet.AgentID, p fleet.Part) {
	batch.Queue(`
		INSERT INTO agent_parts (tenant_id, agent_id, kind, epoch, sequence, at, value, raw, digest)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (tenant_id, agent_id, kind) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence,
			at = excluded.at, value = excluded.value, raw = excluded.raw, digest = excluded.digest
		WHERE (agent_parts.epoch, agent_parts.sequence) < (excluded.epoch, excluded.sequence)`,
		tenant, agent, p.Kind, p.Stamp.Epoch, p.Stamp.Sequence, moment(p.At), p.Value, column.NotNull(p.Raw), p.Digest)
}

func queueLabels(batch *pgx.Batch, tenant fleet.TenantID, agent fleet.AgentID, labels map[string]string) {
	// Not nil if there are none: of NULL nothing is known, and every label would stay.
	keys, values := make([]string, 0, len(labels)), make([]string, 0, len(labels))
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		keys, values = append(keys, key), append(values, labels[key])
	}
	batch.Queue(`DELETE FROM agent_labels WHERE tenant_id = $1 AND agent_id = $2 AND key <> ALL($3::text[])`, tenant, agent, keys)
	batch.Queue(`
		INSERT INTO agent_labels (tenant_id, agent_id, key, value)
		SELECT $1, $2, l.key, l.value FROM unnest($3::text[], $4::text[]) AS l (key, value)
		ON CONFLICT (tenant_id, agent_id, key) DO UPDATE SET value = excluded.value WHERE agent_labels.value <> excluded.value`,
		tenant, agent, keys, values)
}

func queueDelivery(batch *pgx.Batch, d *fleet.DeliveryReport) {
	if d.Outcome == fleet.Delivered {
		batch.Queue(`
			UPDATE grants SET delivered_at = $4, undelivered = ''
			WHERE tenant_id = $1 AND agent_id = $2 AND generation = $3 AND state = 'open'`,
			d.Tenant, d.Agent, d.Generation, moment(d.At))
		return
	}
	batch.Queue(`
		UPDATE grants SET undelivered = $4
		WHERE tenant_id = $1 AND agent_id = $2 AND generation = $3 AND state = 'open'`,
		d.Tenant, d.Agent, d.Generation, d.Outcome)
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

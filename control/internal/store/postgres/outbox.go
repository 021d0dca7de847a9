// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// onDispatch ends the statements that put something into the outbox: the latest of each kind counts, and begins anew, so
// that noting an earlier one as sent does not take it away.
const onDispatch = `
		ON CONFLICT (tenant_id, agent_id, kind) DO UPDATE SET generation = excluded.generation, reason = excluded.reason, traceparent = excluded.traceparent,
			due_at = least(outbox.due_at, excluded.due_at), expires_at = excluded.expires_at, tries = 0`

// ClaimDispatches implements store.Outbox. It goes on while it only finds rows that cannot be sent.
func (s *Store) ClaimDispatches(ctx context.Context, now, retry time.Time, max int) (due []fleet.Dispatch, err error) {
	err = s.asWorker(ctx, func(tx pgx.Tx) error {
		due = nil
		for found := true; found && len(due) == 0; {
			var d dueRows
			if err := d.read(ctx, tx, now, max); err != nil {
				return err
			}
			if err := d.write(ctx, tx, retry); err != nil {
				return err
			}
			due, found = d.claimed(), len(d.rows) > 0
		}
		return nameVersions(ctx, tx, due)
	})
	return due, err
}

// dueRows are rows of the outbox that were locked when they were due, in the order of their agents, and what becomes of
// each. One that somebody else has locked is passed over. Whoever claims a session, ends it or registers a gateway writes
// all rows of the agents in question, so what is read about the agents with these locks held stays so for the rows.
type dueRows struct {
	rows  []fleet.Dispatch
	to    map[addressKey]*addressee
	fates []verdict.Fate
}

type addressKey struct {
	tenant fleet.TenantID
	agent  fleet.AgentID
}

type addressee struct {
	verdict.Addressee
	granted versionKey
	rollout fleet.RolloutID // that it was granted under
}

func (d *dueRows) read(ctx context.Context, tx pgx.Tx, now time.Time, max int) (err error) {
	d.rows, err = list(ctx, tx, scanDue, `
		SELECT tenant_id, agent_id, kind, generation, reason, tries, traceparent, expires_at FROM outbox WHERE due_at <= $1 ORDER BY due_at LIMIT $2
		FOR UPDATE SKIP LOCKED`, moment(now), max)
	if err != nil || len(d.rows) == 0 {
		return fail("find what is due", err)
	}
	slices.SortFunc(d.rows, func(a, b fleet.Dispatch) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Agent, b.Agent), cmp.Compare(a.Kind, b.Kind))
	})
	if err := d.readAddressees(ctx, tx); err != nil {
		return err
	}
	if err := d.readRollouts(ctx, tx); err != nil {
		return err
	}
	d.fates = make([]verdict.Fate, len(d.rows))
	for i, row := range d.rows {
		var to verdict.Addressee
		if a := d.to[addressKey{row.Tenant, row.Agent}]; a != nil {
			to = a.Addressee
		}
		d.fates[i] = verdict.OfDispatch(row, to, now)
	}
	return nil
}

func scanDue(row pgx.Row) (d fleet.Dispatch, err error) {
	err = row.Scan(&d.Tenant, &d.Agent, &d.Kind, &d.Generation, &d.Reason, &d.Tries, &d.Trace, (*instant)(&d.ExpiresAt))
	return d, err
}

// readAddressees reads sessions, leases and open grants of the rows' agents.
func (d *dueRows) readAddressees(ctx context.Context, tx pgx.Tx) error {
	type boot struct {
		gateway fleet.GatewayID
		id      int64
	}
	d.to = make(map[addressKey]*addressee, len(d.rows))
	leases := map[boot]time.Time{}
	var key addressKey
	var a addressee
	var at boot
	var until time.Time
	tenants, agents := tenantsOf(d.rows), ids(d.rows, func(d fleet.Dispatch) fleet.AgentID { return d.Agent })
	return pipelined(ctx, tx, "read whom it is for", func(q *pipeline) {
		q.ask(func() error {
			leases[at] = until
			return nil
		}, []any{&at.gateway, &at.id, (*instant)(&until)}, `SELECT id, boot_id, lease_until FROM gateways`)
		q.ask(func() error {
			d.to[key] = &addressee{Addressee: verdict.Addressee{Epoch: a.Epoch, Gateway: at.gateway, Open: a.Open, Transport: a.Transport, LeaseUntil: leases[at]}}
			return nil
		}, []any{&key.tenant, &key.agent, &a.Epoch, &at.gateway, &at.id, &a.Transport, &a.Open}, `
			SELECT tenant_id, id, epoch, gateway_id, boot_id, transport, epoch > 0 AND ended_at IS NULL
			FROM agents WHERE tenant_id = ANY($1) AND id `+among, tenants, agents)
		q.ask(func() error {
			if to := d.to[key]; to != nil {
				to.Granted, to.granted, to.rollout = a.Granted, a.granted, a.rollout
			}
			return nil
		}, []any{&key.tenant, &key.agent, &a.Granted, &a.granted.config, &a.granted.version, (*hash)(&a.granted.offer), (*text)(&a.rollout)}, `
			SELECT tenant_id, agent_id, generation, config_id, version, offer_hash, rollout_id
			FROM grants WHERE tenant_id = ANY($1) AND agent_id `+among+` AND state = 'open'`, tenants, agents)
	})
}

// readRollouts reads how the rollouts stand under which something is to be sent. What somebody closes at this moment is put
// off: whatever is read of it here would be of before.
func (d *dueRows) readRollouts(ctx context.Context, tx pgx.Tx) error {
	under := map[fleet.RolloutID]verdict.GrantedUnder{}
	for _, to := range d.to {
		if to.rollout != "" {
			under[to.rollout] = verdict.Deciding
		}
	}
	if len(under) == 0 {
		return nil
	}
	named := slices.Sorted(maps.Keys(under))
	got, err := list(ctx, tx, scanBool, tryShared, array(named, lockKey))
	if err != nil {
		return fail("lock rollouts", err)
	}
	var kept []fleet.RolloutID
	for i, id := range named {
		if got[i] {
			kept = append(kept, id)
		}
	}
	var id fleet.RolloutID
	var state fleet.RolloutState
	err = pipelined(ctx, tx, "read the rollouts", func(q *pipeline) {
		q.ask(func() error {
			under[id] = verdict.UnderRollout(state)
			return nil
		}, []any{&id, &state}, `SELECT id, state FROM rollouts WHERE tenant_id = ANY($1) AND id `+among, tenantsOf(d.rows), ids(kept, itself))
	})
	for _, to := range d.to {
		if to.rollout != "" {
			to.Rollout = under[to.rollout]
		}
	}
	return err
}

func scanBool(row pgx.Row) (b bool, err error) {
	err = row.Scan(&b)
	return b, err
}

// claimed are the dispatches that are sent now.
func (d *dueRows) claimed() (due []fleet.Dispatch) {
	for i, row := range d.rows {
		if fate := d.fates[i]; fate != verdict.Send && fate != verdict.SendOnce {
			continue
		}
		to := d.to[addressKey{row.Tenant, row.Agent}]
		row.Gateway, row.Transport, row.Epoch, row.Tries = to.Gateway, to.Transport, to.Epoch, row.Tries+1
		if row.Kind == fleet.DispatchConfig {
			row.Version.Config, row.Version.Version, row.Version.Offer = to.granted.config, to.granted.version, to.granted.offer
		}
		due = append(due, row)
	}
	return due
}

// write moves the rows' times, and counts the tries of those that are sent.
func (d *dueRows) write(ctx context.Context, tx pgx.Tx, retry time.Time) error {
	var batch pgx.Batch
	for _, tenant := range tenantsOf(d.rows) {
		for _, kind := range fleet.DispatchKinds {
			d.queue(&batch, tenant, kind, verdict.Send, "UPDATE outbox SET due_at = $4, tries = tries + 1", moment(retry))
			d.queue(&batch, tenant, kind, verdict.PutOff, "UPDATE outbox SET due_at = $4", moment(retry))
			d.queue(&batch, tenant, kind, verdict.Park, "UPDATE outbox SET due_at = 'infinity'")
			d.queue(&batch, tenant, kind, verdict.SendOnce, "DELETE FROM outbox")
			d.queue(&batch, tenant, kind, verdict.Drop, "DELETE FROM outbox")
		}
	}
	return fail("move what is due", tx.SendBatch(ctx, &batch).Close())
}

func (d *dueRows) queue(batch *pgx.Batch, tenant fleet.TenantID, kind fleet.DispatchKind, fate verdict.Fate, change string, args ...any) {
	var agents []fleet.AgentID
	for i, row := range d.rows {
		if row.Tenant == tenant && row.Kind == kind && d.fates[i] == fate {
			agents = append(agents, row.Agent)
		}
	}
	if len(agents) > 0 {
		batch.Queue(change+` WHERE tenant_id = $1 AND kind = $2 AND agent_id = ANY((SELECT $3::uuid[])::uuid[])`,
			append([]any{tenant, kind, ids(agents, itself)}, args...)...)
	}
}

// nameVersions reads what the dispatches' versions are. They are few.
func nameVersions(ctx context.Context, tx pgx.Tx, of []fleet.Dispatch) error {
	for _, tenant := range tenantsOf(of) {
		named := map[versionKey]bool{}
		for _, d := range of {
			if d.Tenant == tenant && d.Kind == fleet.DispatchConfig {
				named[versionKey{d.Version.Config, d.Version.Version, d.Version.Offer}] = true
			}
		}
		versions, err := readVersions(ctx, tx, tenant, slices.Collect(maps.Keys(named)))
		if err != nil {
			return err
		}
		for i, d := range of {
			if v := versions[versionKey{d.Version.Config, d.Version.Version, d.Version.Offer}]; d.Tenant == tenant && v != nil {
				of[i].Version = *v
			}
		}
	}
	return nil
}

// MarkSent implements store.Outbox. Grants and rows are locked in the order of their ids, as by everybody.
func (s *Store) MarkSent(ctx context.Context, sent []fleet.Dispatch, at time.Time) error {
	return s.bulkAsWorker(ctx, func(tx pgx.Tx) error {
		for _, tenant := range tenantsOf(sent) {
			if err := enter(ctx, tx, tenant); err != nil {
				return err
			}
			var batch pgx.Batch
			queueSent(&batch, tenant, sent, at)
			queueGivenUp(&batch, tenant, sent)
			if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
				return fail("mark dispatches as sent", err)
			}
		}
		return nil
	})
}

// queueSent notes on open grants that their offers were sent.
func queueSent(batch *pgx.Batch, tenant fleet.TenantID, sent []fleet.Dispatch, at time.Time) {
	offers := dispatchesOf(sent, func(d fleet.Dispatch) bool { return d.Tenant == tenant && d.Kind == fleet.DispatchConfig })
	if len(offers) == 0 {
		return
	}
	agents := ids(offers, func(d fleet.Dispatch) fleet.AgentID { return d.Agent })
	batch.Queue(`
		SELECT FROM grants WHERE tenant_id = $1 AND agent_id `+among+` ORDER BY agent_id FOR NO KEY UPDATE`, tenant, agents)
	batch.Queue(`
		UPDATE grants g SET sent_at = $4 FROM unnest($2::uuid[], $3::bigint[]) AS s (agent_id, generation)
		WHERE g.tenant_id = $1 AND g.agent_id `+among+` AND g.agent_id = s.agent_id AND g.generation = s.generation AND g.state = 'open'`,
		tenant, agents, array(offers, func(d fleet.Dispatch) fleet.Generation { return d.Generation }), moment(at))
}

// queueGivenUp drops what was tried often enough. A row that was asked for anew has begun its tries anew and stays.
func queueGivenUp(batch *pgx.Batch, tenant fleet.TenantID, sent []fleet.Dispatch) {
	last := dispatchesOf(sent, func(d fleet.Dispatch) bool {
		return d.Tenant == tenant && d.Kind != fleet.DispatchConfig && d.Tries >= store.DispatchTries
	})
	if len(last) == 0 {
		return
	}
	agents := ids(last, func(d fleet.Dispatch) fleet.AgentID { return d.Agent })
	batch.Queue(`
		SELECT FROM outbox WHERE tenant_id = $1 AND agent_id `+among+` ORDER BY agent_id, kind FOR UPDATE`, tenant, agents)
	batch.Queue(`
		DELETE FROM outbox o USING unnest($2::uuid[], $3::text[], $4::int[]) AS l (agent_id, kind, tries)
		WHERE o.tenant_id = $1 AND o.agent_id `+among+` AND o.agent_id = l.agent_id AND o.kind = l.kind AND o.tries = l.tries`,
		tenant, agents, array(last, func(d fleet.Dispatch) fleet.DispatchKind { return d.Kind }),
		array(last, func(d fleet.Dispatch) int { return d.Tries }))
}

func dispatchesOf(all []fleet.Dispatch, which func(fleet.Dispatch) bool) (some []fleet.Dispatch) {
	for _, d := range all {
		if which(d) {
			some = append(some, d)
		}
	}
	return some
}

func tenantsOf(sent []fleet.Dispatch) []fleet.TenantID {
	tenants := map[fleet.TenantID]bool{}
	for _, d := range sent {
		tenants[d.Tenant] = true
	}
	return slices.Sorted(maps.Keys(tenants))
}

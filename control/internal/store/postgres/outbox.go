// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// answered ends a request for full state that was sent (to agent $2 of tenant $1). What an agent says before is no answer.
const answered = `
		DELETE FROM outbox WHERE tenant_id = $1 AND agent_id = $2 AND kind = 'full_state' AND tries > 0`

// onDispatch ends the statements that put something into the outbox: the latest of each kind counts, and begins anew, so
// that noting an earlier one as sent does not take it away.
const onDispatch = `
		ON CONFLICT (tenant_id, agent_id, kind) DO UPDATE SET generation = excluded.generation, reason = excluded.reason, traceparent = excluded.traceparent,
			due_at = least(outbox.due_at, excluded.due_at), tries = 0`

// park puts off what is to be sent to an agent ($2 of tenant $1) whose session ended, so that polling passes over those
// who are away; a claim lets it fall due. What was to close the session is done. Park and claim hold the agent's row.
const park = `
		WITH done AS (DELETE FROM outbox WHERE tenant_id = $1 AND agent_id = $2 AND kind = 'close')
		UPDATE outbox SET due_at = 'infinity' WHERE tenant_id = $1 AND agent_id = $2 AND kind <> 'close'`

// ClaimDispatches implements store.Outbox. A row that another sender has locked is passed over.
func (s *Store) ClaimDispatches(ctx context.Context, now, retry time.Time, max int) (due []fleet.Dispatch, err error) {
	err = s.asWorker(ctx, func(tx pgx.Tx) error {
		due, err = list(ctx, tx, scanDispatch, `
			WITH due AS (
				SELECT o.tenant_id, o.agent_id, o.kind, a.gateway_id, a.transport, a.epoch, gr.config_id, gr.version, gr.offer_hash
				FROM outbox o
				JOIN agents a ON a.tenant_id = o.tenant_id AND a.id = o.agent_id AND a.epoch > 0 AND a.ended_at IS NULL
				JOIN gateways g ON g.id = a.gateway_id AND g.boot_id = a.boot_id AND g.lease_until > $1
				LEFT JOIN grants gr ON gr.tenant_id = o.tenant_id AND gr.agent_id = o.agent_id AND o.kind = 'config'
					AND gr.state = 'open' AND gr.generation = o.generation
				WHERE o.due_at <= $1 AND (o.kind <> 'config' OR gr.agent_id IS NOT NULL)
				ORDER BY o.due_at LIMIT $3
				FOR UPDATE OF o SKIP LOCKED
			), claimed AS (
				UPDATE outbox o SET due_at = $2, tries = o.tries + 1 FROM due
				WHERE o.tenant_id = due.tenant_id AND o.agent_id = due.agent_id AND o.kind = due.kind
				RETURNING due.*, o.generation, o.reason, o.tries, o.traceparent
			)
			SELECT d.tenant_id, d.agent_id, d.kind, d.generation, d.reason, d.gateway_id, d.transport, d.epoch, d.tries, d.traceparent,
			       d.config_id, coalesce(c.name, ''), coalesce(d.version, 0), d.offer_hash, v.body_hash,
			       coalesce(v.size, 0), coalesce(v.content_type, '')
			FROM claimed d
			LEFT JOIN config_versions v ON v.tenant_id = d.tenant_id AND v.config_id = d.config_id AND v.version = d.version
			LEFT JOIN configs c ON c.tenant_id = d.tenant_id AND c.id = d.config_id
			ORDER BY d.tenant_id, d.agent_id, d.kind`,
			moment(now), moment(retry), max)
		if err != nil {
			return fail("claim dispatches", err)
		}
		return parkStranded(ctx, tx, now, max)
	})
	return due, err
}

// stranded holds of an outbox row's agent a whose session nobody has: see LeaseGrace for $1.
const stranded = `
		(a.epoch = 0 OR a.ended_at IS NOT NULL OR NOT EXISTS (
			SELECT FROM gateways g WHERE g.id = a.gateway_id AND g.boot_id = a.boot_id AND g.lease_until > $1))`

// parkStranded parks what nobody can send, of the max rows that were due longest, so that polling passes over the agents
// of a gateway that never came back. It locks their agents first and looks again then: a claim that it overtook would
// not let the row fall due any more. It waits for nobody.
func parkStranded(ctx context.Context, tx pgx.Tx, now time.Time, max int) error {
	since := moment(now.Add(-store.LeaseGrace))
	locked, err := list(ctx, tx, scanAddress, `
		SELECT o.tenant_id, o.agent_id, o.kind
		FROM (SELECT tenant_id, agent_id, kind FROM outbox WHERE due_at <= $2 ORDER BY due_at LIMIT $3) AS oldest
		JOIN outbox o USING (tenant_id, agent_id, kind)
		JOIN agents a ON a.tenant_id = o.tenant_id AND a.id = o.agent_id
		WHERE `+stranded+`
		FOR NO KEY UPDATE OF o, a SKIP LOCKED`,
		since, moment(now), max)
	if err != nil || len(locked) == 0 {
		return fail("find what is stranded", err)
	}
	var batch pgx.Batch
	for _, d := range locked {
		batch.Queue(`
			UPDATE outbox o SET due_at = 'infinity' FROM agents a
			WHERE o.tenant_id = $2 AND o.agent_id = $3 AND o.kind = $4 AND a.tenant_id = o.tenant_id AND a.id = o.agent_id AND `+stranded,
			since, d.Tenant, d.Agent, d.Kind)
	}
	return fail("park what is stranded", tx.SendBatch(ctx, &batch).Close())
}

func scanAddress(row pgx.Row) (d fleet.Dispatch, err error) {
	err = row.Scan(&d.Tenant, &d.Agent, &d.Kind)
	return d, err
}

func scanDispatch(row pgx.Row) (d fleet.Dispatch, err error) {
	v := &d.Version
	err = row.Scan(&d.Tenant, &d.Agent, &d.Kind, &d.Generation, &d.Reason, &d.Gateway, &d.Transport, &d.Epoch, &d.Tries, &d.Trace,
		(*text)(&v.Config), &v.ConfigName, &v.Version, (*hash)(&v.Offer), (*hash)(&v.Hash), &v.Size, &v.Type)
	return d, err
}

// MarkSent implements store.Outbox. A row that was asked for anew since the claim has begun its tries anew and stays.
func (s *Store) MarkSent(ctx context.Context, sent []fleet.Dispatch, at time.Time) error {
	return s.asWorker(ctx, func(tx pgx.Tx) error {
		for _, tenant := range tenantsOf(sent) {
			if err := enter(ctx, tx, tenant); err != nil {
				return err
			}
			var batch pgx.Batch
			for _, d := range sent {
				if d.Tenant == tenant {
					queueSent(&batch, d, at)
				}
			}
			if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
				return fail("mark dispatches as sent", err)
			}
		}
		return nil
	})
}

func queueSent(batch *pgx.Batch, d fleet.Dispatch, at time.Time) {
	if d.Kind == fleet.DispatchConfig {
		batch.Queue(`UPDATE grants SET sent_at = $4 WHERE tenant_id = $1 AND agent_id = $2 AND generation = $3 AND state = 'open'`,
			d.Tenant, d.Agent, d.Generation, moment(at))
		return
	}
	if d.Tries >= store.DispatchTries {
		batch.Queue(`DELETE FROM outbox WHERE tenant_id = $1 AND agent_id = $2 AND kind = $3 AND tries = $4`,
			d.Tenant, d.Agent, d.Kind, d.Tries)
	}
}

func tenantsOf(sent []fleet.Dispatch) []fleet.TenantID {
	tenants := map[fleet.TenantID]bool{}
	for _, d := range sent {
		tenants[d.Tenant] = true
	}
	return slices.Sorted(maps.Keys(tenants))
}

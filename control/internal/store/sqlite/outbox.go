// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"math"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// answered ends a request for full state that was sent (to agent ?2 of tenant ?1). What an agent says before is no answer.
const answered = `
		DELETE FROM outbox WHERE tenant_id = ?1 AND agent_id = ?2 AND kind = 'full_state' AND tries > 0`

// onDispatch ends the statements that put something into the outbox: the latest of each kind counts, and begins anew, so
// that noting an earlier one as sent does not take it away.
const onDispatch = `
		ON CONFLICT (tenant_id, agent_id, kind) DO UPDATE SET generation = excluded.generation, reason = excluded.reason, traceparent = excluded.traceparent,
			due_at = min(outbox.due_at, excluded.due_at), tries = 0`

// never is after every time.
const never = math.MaxInt64

// park puts off what is to be sent to an agent whose session ended, so that polling passes over those who are away; a
// claim lets it fall due. What was to close the session is done.
func park(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, agent fleet.AgentID) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE tenant_id = ?1 AND agent_id = ?2 AND kind = 'close'`, tenant, agent)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE outbox SET due_at = ?3 WHERE tenant_id = ?1 AND agent_id = ?2 AND kind <> 'close'`,
		tenant, agent, int64(never))
	return err
}

// ClaimDispatches implements store.Outbox.
func (s *Store) ClaimDispatches(ctx context.Context, now, retry time.Time, max int) (due []fleet.Dispatch, err error) {
	err = s.asWorker(ctx, func(tx *sql.Tx) error {
		due, err = list(ctx, tx, scanDispatch, `
			SELECT o.tenant_id, o.agent_id, o.kind, o.generation, o.reason, a.gateway_id, a.transport, a.epoch, o.tries + 1, o.traceparent,
			       gr.config_id, coalesce(c.name, ''), coalesce(gr.version, 0), gr.offer_hash, v.body_hash,
			       coalesce(v.size, 0), coalesce(v.content_type, '')
			FROM outbox o
			JOIN agents a ON a.tenant_id = o.tenant_id AND a.id = o.agent_id AND a.epoch > 0 AND a.ended_at IS NULL
			JOIN gateways g ON g.id = a.gateway_id AND g.boot_id = a.boot_id AND g.lease_until > ?1
			LEFT JOIN grants gr ON gr.tenant_id = o.tenant_id AND gr.agent_id = o.agent_id AND o.kind = 'config'
				AND gr.state = 'open' AND gr.generation = o.generation
			LEFT JOIN config_versions v ON v.tenant_id = o.tenant_id AND v.config_id = gr.config_id AND v.version = gr.version
			LEFT JOIN configs c ON c.tenant_id = o.tenant_id AND c.id = gr.config_id
			WHERE o.due_at <= ?1 AND (o.kind <> 'config' OR gr.agent_id IS NOT NULL)
			ORDER BY o.due_at, o.tenant_id, o.agent_id, o.kind LIMIT ?2`,
			moment(now), max)
		if err != nil {
			return fail("claim dispatches", err)
		}
		for _, d := range due {
			_, err := tx.ExecContext(ctx, `
				UPDATE outbox SET due_at = ?4, tries = ?5 WHERE tenant_id = ?1 AND agent_id = ?2 AND kind = ?3`,
				d.Tenant, d.Agent, d.Kind, moment(retry), d.Tries)
			if err != nil {
				return fail("claim dispatches", err)
			}
		}
		return parkStranded(ctx, tx, now, max)
	})
	return due, err
}

// parkStranded parks what nobody can send, of the max rows that were due longest, so that polling passes over the agents
// of a gateway that never came back.
func parkStranded(ctx context.Context, tx *sql.Tx, now time.Time, max int) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE outbox SET due_at = ?4 WHERE (tenant_id, agent_id, kind) IN (
			SELECT o.tenant_id, o.agent_id, o.kind
			FROM (SELECT tenant_id, agent_id, kind FROM outbox WHERE due_at <= ?2 ORDER BY due_at LIMIT ?3) AS o
			JOIN agents a ON a.tenant_id = o.tenant_id AND a.id = o.agent_id
			WHERE a.epoch = 0 OR a.ended_at IS NOT NULL OR NOT EXISTS (
				SELECT 1 FROM gateways g WHERE g.id = a.gateway_id AND g.boot_id = a.boot_id AND g.lease_until > ?1))`,
		moment(now.Add(-store.LeaseGrace)), moment(now), max, int64(never))
	return fail("park what is stranded", err)
}

func scanDispatch(row scanner) (d fleet.Dispatch, err error) {
	v := &d.Version
	err = row.Scan(&d.Tenant, &d.Agent, &d.Kind, &d.Generation, &d.Reason, &d.Gateway, &d.Transport, &d.Epoch, &d.Tries, &d.Trace,
		(*text)(&v.Config), &v.ConfigName, &v.Version, (*hash)(&v.Offer), (*hash)(&v.Hash), &v.Size, &v.Type)
	return d, err
}

// MarkSent implements store.Outbox. A row that was asked for anew since the claim has begun its tries anew and stays.
func (s *Store) MarkSent(ctx context.Context, sent []fleet.Dispatch, at time.Time) error {
	return s.asWorker(ctx, func(tx *sql.Tx) error {
		for _, d := range sent {
			if err := markSent(ctx, tx, d, at); err != nil {
				return fail("mark dispatches as sent", err)
			}
		}
		return nil
	})
}

func markSent(ctx context.Context, tx *sql.Tx, d fleet.Dispatch, at time.Time) (err error) {
	if d.Kind == fleet.DispatchConfig {
		_, err = tx.ExecContext(ctx, `
			UPDATE grants SET sent_at = ?4 WHERE tenant_id = ?1 AND agent_id = ?2 AND generation = ?3 AND state = 'open'`,
			d.Tenant, d.Agent, d.Generation, moment(at))
		return err
	}
	if d.Tries < store.DispatchTries {
		return nil
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM outbox WHERE tenant_id = ?1 AND agent_id = ?2 AND kind = ?3 AND tries = ?4`,
		d.Tenant, d.Agent, d.Kind, d.Tries)
	return err
}

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
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// answered ends a request for full state that was sent (to agent ?2 of tenant ?1). What an agent says before is no answer.
const answered = `
		DELETE FROM outbox WHERE tenant_id = ?1 AND agent_id = ?2 AND kind = 'full_state' AND tries > 0`

// onDispatch ends the statements that put something into the outbox: the latest of each kind counts, and begins anew, so
// that noting an earlier one as sent does not take it away.
const onDispatch = `
		ON CONFLICT (tenant_id, agent_id, kind) DO UPDATE SET generation = excluded.generation, reason = excluded.reason, traceparent = excluded.traceparent,
			due_at = min(outbox.due_at, excluded.due_at), expires_at = excluded.expires_at, tries = 0`

// never is after every time.
const never = math.MaxInt64

// park puts off what is to be sent to an agent whose session ended, so that polling passes over those who are away; a
// claim lets it fall due. What was to close the session is done.
func park(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, agent fleet.AgentID) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE tenant_id = ?1 AND agent_id = ?2 AND kind IN ('close', 'restart')`, tenant, agent)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE outbox SET due_at = ?3 WHERE tenant_id = ?1 AND agent_id = ?2`,
		tenant, agent, int64(never))
	return err
}

// ClaimDispatches implements store.Outbox. It goes on while it only finds rows that cannot be sent.
func (s *Store) ClaimDispatches(ctx context.Context, now, retry time.Time, max int) (due []fleet.Dispatch, err error) {
	err = s.asWorker(ctx, func(tx *sql.Tx) error {
		for found := true; found && len(due) == 0; {
			rows, err := list(ctx, tx, scanDue, `
				SELECT o.tenant_id, o.agent_id, o.kind, o.generation, o.reason, o.tries, o.traceparent, o.expires_at,
				       coalesce(a.epoch, 0), coalesce(a.gateway_id, ''), coalesce(a.transport, ''), coalesce(a.epoch > 0 AND a.ended_at IS NULL, false), g.lease_until,
				       coalesce(gr.generation, 0), gr.config_id, coalesce(c.name, ''), coalesce(gr.version, 0), gr.offer_hash, coalesce(r.body_hash, v.body_hash),
				       coalesce(r.size, v.size, 0), coalesce(v.content_type, ''), coalesce(ro.state, '')
				FROM outbox o
				LEFT JOIN agents a ON a.tenant_id = o.tenant_id AND a.id = o.agent_id
				LEFT JOIN gateways g ON g.id = a.gateway_id AND g.boot_id = a.boot_id
				LEFT JOIN grants gr ON gr.tenant_id = o.tenant_id AND gr.agent_id = o.agent_id AND o.kind = 'config' AND gr.state = 'open'
				LEFT JOIN rollouts ro ON ro.tenant_id = o.tenant_id AND ro.id = gr.rollout_id
				LEFT JOIN config_versions v ON v.tenant_id = o.tenant_id AND v.config_id = gr.config_id AND v.version = gr.version
				LEFT JOIN configs c ON c.tenant_id = o.tenant_id AND c.id = gr.config_id
				LEFT JOIN renderings r ON r.tenant_id = o.tenant_id AND r.offer_hash = gr.offer_hash
				WHERE o.due_at <= ?1
				ORDER BY o.due_at, o.tenant_id, o.agent_id, o.kind LIMIT ?2`,
				moment(now), max)
			if err != nil {
				return fail("find what is due", err)
			}
			if due, err = claimDue(ctx, tx, rows, now, retry); err != nil {
				return err
			}
			found = len(rows) > 0
		}
		return nil
	})
	return due, err
}

// dueRow is a row that is due, with what becomes of it depends on.
type dueRow struct {
	fleet.Dispatch
	to verdict.Addressee
}

func scanDue(row scanner) (d dueRow, err error) {
	v := &d.Version
	var under fleet.RolloutState // empty if it was granted under none
	err = row.Scan(&d.Tenant, &d.Agent, &d.Kind, &d.Generation, &d.Reason, &d.Tries, &d.Trace, (*instant)(&d.ExpiresAt),
		&d.to.Epoch, &d.to.Gateway, &d.to.Transport, &d.to.Open, (*instant)(&d.to.LeaseUntil),
		&d.to.Granted, (*text)(&v.Config), &v.ConfigName, &v.Version, (*hash)(&v.Offer), (*hash)(&v.Hash), &v.Size, &v.Type, &under)
	if under != "" {
		d.to.Rollout = verdict.UnderRollout(under)
	}
	return d, err
}

// claimDue moves the rows' times, and returns what is sent now.
func claimDue(ctx context.Context, tx *sql.Tx, rows []dueRow, now, retry time.Time) (due []fleet.Dispatch, err error) {
	for _, row := range rows {
		fate := verdict.OfDispatch(row.Dispatch, row.to, now)
		if fate == verdict.Send || fate == verdict.SendOnce {
			row.Gateway, row.Transport, row.Epoch, row.Tries = row.to.Gateway, row.to.Transport, row.to.Epoch, row.Tries+1
			due = append(due, row.Dispatch)
		}
		if err := moveDue(ctx, tx, row.Dispatch, fate, retry); err != nil {
			return nil, fail("move what is due", err)
		}
	}
	return due, nil
}

// moveDue moves a row's time, or drops it.
func moveDue(ctx context.Context, tx *sql.Tx, d fleet.Dispatch, fate verdict.Fate, retry time.Time) error {
	if fate == verdict.SendOnce || fate == verdict.Drop {
		_, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE tenant_id = ?1 AND agent_id = ?2 AND kind = ?3`, d.Tenant, d.Agent, d.Kind)
		return err
	}
	at := moment(retry)
	if fate == verdict.Park {
		at = int64(never)
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE outbox SET due_at = ?4, tries = ?5 WHERE tenant_id = ?1 AND agent_id = ?2 AND kind = ?3`,
		d.Tenant, d.Agent, d.Kind, at, d.Tries)
	return err
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

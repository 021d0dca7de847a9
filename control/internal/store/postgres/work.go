// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// ClaimWork implements store.Work. The claim makes a new version too: who claimed the item before and was too slow does
// not settle it any more.
func (s *Store) ClaimWork(ctx context.Context, now, until time.Time, max int) (items []store.WorkItem, err error) {
	err = s.asWorker(ctx, func(tx pgx.Tx) error {
		items, err = list(ctx, tx, scanWorkItem, `
			UPDATE work w SET wake_at = $2, version = w.version + 1
			FROM (SELECT tenant_id, agent_id FROM work WHERE wake_at <= $1 ORDER BY wake_at LIMIT $3
			      FOR UPDATE SKIP LOCKED) AS due
			WHERE w.tenant_id = due.tenant_id AND w.agent_id = due.agent_id
			RETURNING w.tenant_id, w.agent_id, w.version, w.traceparent`,
			moment(now), moment(until), max)
		return fail("claim work", err)
	})
	return items, err
}

func scanWorkItem(row pgx.Row) (w store.WorkItem, err error) {
	err = row.Scan(&w.Tenant, &w.Agent, &w.Version, &w.Trace)
	return w, err
}

// Situation implements store.Work.
func (s *Store) Situation(ctx context.Context, item store.WorkItem) (fleet.Situation, error) {
	situation := fleet.Situation{Tenant: item.Tenant, Agent: item.Agent}
	err := s.reading(ctx, item.Tenant, func(tx pgx.Tx) error {
		group, err := readStanding(ctx, tx, &situation)
		if err != nil {
			return err
		}
		if err := readAssigned(ctx, tx, &situation, group); err != nil {
			return err
		}
		if err := readGrant(ctx, tx, &situation); err != nil {
			return err
		}
		return readLedger(ctx, tx, &situation)
	})
	return situation, err
}

// readStanding reads what the agent's row and its last word on an offer say.
func readStanding(ctx context.Context, tx pgx.Tx, to *fleet.Situation) (group fleet.GroupID, err error) {
	var status []byte
	var state fleet.DeliveryState
	err = tx.QueryRow(ctx, `
		SELECT a.group_id, a.accepts_config, a.delivery_state, a.delivery, a.attention,
		       p.value, coalesce(p.epoch, 0), coalesce(p.sequence, 0)
		FROM agents a LEFT JOIN agent_parts p ON p.tenant_id = a.tenant_id AND p.agent_id = a.id AND p.kind = $3
		WHERE a.tenant_id = $1 AND a.id = $2`,
		to.Tenant, to.Agent, fleet.PartRemoteConfigStatus).Scan(
		(*text)(&group), &to.AcceptsConfig, &state, &to.Delivery, &to.Attention,
		&status, &to.StatusStamp.Epoch, &to.StatusStamp.Sequence)
	if err != nil {
		return "", fail("read the agent", err)
	}
	to.Delivery.State = state
	if status == nil {
		return group, nil
	}
	if err := json.Unmarshal(status, &to.Status); err != nil {
		return "", fmt.Errorf("read the status of agent %s: %w", to.Agent, err)
	}
	return group, nil
}

// readAssigned finds what the agent shall end up with: its own assignment before its group's.
func readAssigned(ctx context.Context, tx pgx.Tx, to *fleet.Situation, group fleet.GroupID) error {
	var v fleet.VersionRef
	err := tx.QueryRow(ctx, `
		SELECT s.target, `+versionRef+`
		FROM assignments s JOIN config_versions v USING (tenant_id, config_id, version)
		JOIN configs c ON c.tenant_id = v.tenant_id AND c.id = v.config_id
		WHERE s.tenant_id = $1 AND (s.target, s.target_id) IN (('agent', $2), ('group', $3))
		ORDER BY s.target LIMIT 1`,
		to.Tenant, to.Agent, column.OrNull(group)).Scan(append([]any{&to.Through}, refOf(&v)...)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	to.Assigned = &v
	return fail("read the assignment", err)
}

// versionRef are the columns of a fleet.VersionRef, of a version v and its configuration c; refOf scans them.
const versionRef = `v.config_id, c.name, v.version, v.offer_hash, v.body_hash, v.size, v.content_type`

func refOf(v *fleet.VersionRef) []any {
	return []any{&v.Config, &v.ConfigName, &v.Version, (*hash)(&v.Offer), (*hash)(&v.Hash), &v.Size, &v.Type}
}

func readGrant(ctx context.Context, tx pgx.Tx, to *fleet.Situation) error {
	var g fleet.Grant
	var undelivered fleet.DeliveryOutcome
	err := tx.QueryRow(ctx, `
		SELECT g.state, g.reason, g.generation, g.opened_at, g.seen_epoch, g.seen_sequence, g.sent_at, g.delivered_at,
		       g.applying_at, g.settled_at, g.message, g.undelivered, `+versionRef+`
		FROM grants g JOIN config_versions v USING (tenant_id, config_id, version)
		JOIN configs c ON c.tenant_id = v.tenant_id AND c.id = v.config_id
		WHERE g.tenant_id = $1 AND g.agent_id = $2`,
		to.Tenant, to.Agent).Scan(append([]any{
		&g.State, &g.Reason, &g.Generation, (*instant)(&g.OpenedAt), &g.Seen.Epoch,
		&g.Seen.Sequence, (*instant)(&g.SentAt), (*instant)(&g.DeliveredAt), (*instant)(&g.ApplyingAt), (*instant)(&g.SettledAt),
		&g.Message, &undelivered,
	}, refOf(&g.Version)...)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	to.Grant, to.Undelivered = &g, undelivered
	return fail("read the grant", err)
}

// readLedger reads the last good version and the attempts that matter: of what is assigned, granted and reported, and of
// the last good one.
func readLedger(ctx context.Context, tx pgx.Tx, to *fleet.Situation) error {
	good, err := list(ctx, tx, scanAttempt, `
		SELECT `+attemptColumns+`
		FROM attempts t JOIN config_versions v USING (tenant_id, config_id, version)
		JOIN configs c ON c.tenant_id = v.tenant_id AND c.id = v.config_id
		JOIN bodies b ON b.tenant_id = v.tenant_id AND b.hash = v.body_hash
		WHERE t.tenant_id = $1 AND t.agent_id = $2 AND t.outcome = 'applied'
		ORDER BY t.last_at DESC, t.offer_hash LIMIT 1`, to.Tenant, to.Agent)
	if err != nil {
		return fail("read the last good version", err)
	}
	if len(good) > 0 {
		to.LastGood = &good[0].Version
	}
	offers := verdict.OffersInQuestion(*to)
	lines, err := list(ctx, tx, scanAttempt, `
		SELECT `+attemptColumns+`
		FROM attempts t JOIN config_versions v USING (tenant_id, config_id, version)
		JOIN configs c ON c.tenant_id = v.tenant_id AND c.id = v.config_id
		WHERE t.tenant_id = $1 AND t.agent_id = $2 AND t.offer_hash = ANY($3)`, to.Tenant, to.Agent, offers)
	to.Attempts = make(map[fleet.OfferHash]fleet.Attempt, len(lines))
	for _, a := range lines {
		to.Attempts[a.Version.Offer] = a
	}
	return fail("read the ledger", err)
}

// attemptColumns are those of a fleet.Attempt, of a line t for version v of configuration c; scanAttempt reads them.
const attemptColumns = `t.outcome, t.message, t.first_at, t.last_at, t.cleared_at, ` + versionRef

func scanAttempt(row pgx.Row) (a fleet.Attempt, err error) {
	err = row.Scan(append([]any{&a.Outcome, &a.Message, (*instant)(&a.FirstAt), (*instant)(&a.LastAt), (*instant)(&a.ClearedAt)},
		refOf(&a.Version)...)...)
	return a, err
}

// Apply implements store.Work. The agent's row is locked first, as by everything that writes about an agent.
func (s *Store) Apply(ctx context.Context, item store.WorkItem, on fleet.Situation, step fleet.Step, at time.Time) error {
	if !verdict.Allowed(on, step) {
		return fmt.Errorf("grant of agent %s cannot become %s: %w", item.Agent, step.Grant.State, store.ErrState)
	}
	return s.inTenant(ctx, item.Tenant, func(tx pgx.Tx) error {
		generation, err := lockGrant(ctx, tx, item, on)
		if err != nil {
			return err
		}
		if step.Grant != nil {
			if err := putGrant(ctx, tx, item, *step.Grant, generation); err != nil {
				return err
			}
			generation = step.Grant.Generation
		}
		if err := putAttempts(ctx, tx, item, on, step.Attempts); err != nil {
			return err
		}
		if err := dispatch(ctx, tx, item, step, generation, at); err != nil {
			return err
		}
		if err := summarize(ctx, tx, item, step); err != nil {
			return err
		}
		for _, e := range step.Events {
			e.Tenant, e.Agent = item.Tenant, item.Agent
			if err := appendEvent(ctx, tx, e); err != nil {
				return err
			}
		}
		return settle(ctx, tx, item, step)
	})
}

// lockGrant locks agent and grant and makes sure that they are what the step was decided on.
func lockGrant(ctx context.Context, tx pgx.Tx, item store.WorkItem, on fleet.Situation) (fleet.Generation, error) {
	var attention []fleet.Attention
	var generation fleet.Generation
	err := tx.QueryRow(ctx, `
		SELECT a.attention, coalesce((SELECT generation FROM grants g WHERE g.tenant_id = a.tenant_id AND g.agent_id = a.id), 0)
		FROM agents a WHERE a.tenant_id = $1 AND a.id = $2 FOR NO KEY UPDATE OF a`,
		item.Tenant, item.Agent).Scan(&attention, &generation)
	if err != nil {
		return 0, fail("lock the agent", err)
	}
	if !verdict.StillStands(on, generation, attention) {
		return 0, fmt.Errorf("apply a step to agent %s: %w", item.Agent, store.ErrConflict)
	}
	return generation, nil
}

// putGrant replaces the grant, whose generation is the one given. What the outbox and the inbox noted on an open one it
// keeps while it is the same grant and when it settles; a newly opened one begins without.
func putGrant(ctx context.Context, tx pgx.Tx, item store.WorkItem, g fleet.Grant, generation fleet.Generation) error {
	if g.Generation < max(generation, 1) {
		return fmt.Errorf("grant of agent %s goes back from generation %d to %d: %w", item.Agent, generation, g.Generation, store.ErrState)
	}
	put, err := tx.Exec(ctx, `
		INSERT INTO grants (tenant_id, agent_id, config_id, version, offer_hash, state, reason, generation, opened_at,
		                    seen_epoch, seen_sequence, applying_at, settled_at, message)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
		ON CONFLICT (tenant_id, agent_id) DO UPDATE SET config_id = excluded.config_id, version = excluded.version,
			offer_hash = excluded.offer_hash, state = excluded.state, reason = excluded.reason,
			generation = excluded.generation, opened_at = excluded.opened_at, seen_epoch = excluded.seen_epoch,
			seen_sequence = excluded.seen_sequence, applying_at = excluded.applying_at,
			settled_at = excluded.settled_at, message = excluded.message,
			sent_at = CASE WHEN grants.generation = $8 OR excluded.state <> 'open' THEN grants.sent_at END,
			delivered_at = CASE WHEN grants.generation = $8 OR excluded.state <> 'open' THEN grants.delivered_at END,
			undelivered = CASE WHEN grants.generation = $8 THEN grants.undelivered ELSE '' END
		WHERE grants.generation = $15`,
		item.Tenant, item.Agent, g.Version.Config, g.Version.Version, g.Version.Offer[:], g.State, g.Reason, g.Generation,
		moment(g.OpenedAt), g.Seen.Epoch, g.Seen.Sequence, moment(g.ApplyingAt), moment(g.SettledAt), g.Message, generation)
	if err == nil && put.RowsAffected() == 0 {
		return fmt.Errorf("grant of agent %s: %w", item.Agent, store.ErrConflict)
	}
	return fail("write the grant", err)
}

// putAttempts writes lines of the ledger, unless an operator cleared one meanwhile.
func putAttempts(ctx context.Context, tx pgx.Tx, item store.WorkItem, on fleet.Situation, lines []fleet.Attempt) error {
	for _, a := range lines {
		put, err := tx.Exec(ctx, `
			INSERT INTO attempts (tenant_id, agent_id, offer_hash, config_id, version, outcome, message, first_at, last_at, cleared_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			ON CONFLICT (tenant_id, agent_id, offer_hash) DO UPDATE SET outcome = excluded.outcome,
				message = excluded.message, last_at = excluded.last_at, cleared_at = excluded.cleared_at
			WHERE attempts.cleared_at IS NOT DISTINCT FROM $11`,
			item.Tenant, item.Agent, a.Version.Offer[:], a.Version.Config, a.Version.Version, a.Outcome, a.Message,
			moment(a.FirstAt), moment(a.LastAt), moment(a.ClearedAt), moment(on.Attempts[a.Version.Offer].ClearedAt))
		if err == nil && put.RowsAffected() == 0 {
			err = fmt.Errorf("ledger of agent %s: %w", item.Agent, store.ErrConflict)
		}
		if err != nil {
			return fail("write the ledger", err)
		}
	}
	return nil
}

// dispatch keeps the outbox in step: an offer leaves it when it is withdrawn or its grant is not open any more. One for an
// agent that is away falls due when it claims its session.
func dispatch(ctx context.Context, tx pgx.Tx, item store.WorkItem, step fleet.Step, generation fleet.Generation, at time.Time) error {
	if step.Withdraw || step.Grant != nil && step.Grant.State != fleet.GrantOpen {
		_, err := tx.Exec(ctx, `DELETE FROM outbox WHERE tenant_id = $1 AND agent_id = $2 AND kind = $3`,
			item.Tenant, item.Agent, fleet.DispatchConfig)
		if err != nil {
			return fail("withdraw the offer", err)
		}
	}
	if !step.Send {
		return nil
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO outbox (tenant_id, agent_id, kind, generation, due_at, traceparent)
		SELECT tenant_id, id, $3, $4, CASE WHEN epoch > 0 AND ended_at IS NULL THEN $5 ELSE 'infinity'::timestamptz END, $6
		FROM agents WHERE tenant_id = $1 AND id = $2`+onDispatch,
		item.Tenant, item.Agent, fleet.DispatchConfig, generation, moment(at), item.Trace)
	return fail("send the offer", err)
}

func summarize(ctx context.Context, tx pgx.Tx, item store.WorkItem, step fleet.Step) error {
	if step.Delivery != nil {
		d := *step.Delivery
		d.Since = d.Since.UTC()
		if _, err := tx.Exec(ctx, `UPDATE agents SET delivery_state = $3, delivery = $4 WHERE tenant_id = $1 AND id = $2`,
			item.Tenant, item.Agent, d.State, d); err != nil {
			return fail("write the delivery", err)
		}
	}
	if step.Attention == nil {
		return nil
	}
	remarks := append([]fleet.Attention{}, *step.Attention...) // [] in the row, not null
	_, err := tx.Exec(ctx, `UPDATE agents SET attention = $3 WHERE tenant_id = $1 AND id = $2`, item.Tenant, item.Agent, remarks)
	return fail("write the remarks", err)
}

// settle lets the item rest, or sleep until the step's time, unless it was woken since the claim. The row stays: would
// its versions begin anew, a late Apply could settle a wake it never saw.
func settle(ctx context.Context, tx pgx.Tx, item store.WorkItem, step fleet.Step) error {
	_, err := tx.Exec(ctx, `
		UPDATE work SET wake_at = coalesce($4, 'infinity'::timestamptz), traceparent = '' WHERE tenant_id = $1 AND agent_id = $2 AND version = $3`,
		item.Tenant, item.Agent, item.Version, moment(step.WakeAt))
	return fail("settle the item", err)
}

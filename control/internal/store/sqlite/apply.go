// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Apply implements store.Work.
func (s *Store) Apply(ctx context.Context, tenant fleet.TenantID, decided []store.Decision, at time.Time) (outcomes []error, err error) {
	err = s.inTenant(ctx, tenant, func(tx *sql.Tx) error {
		on, err := readStandings(ctx, tx, tenant, decided)
		if err != nil {
			return err
		}
		var todo []store.Decision
		todo, outcomes = verdict.OfSteps(decided, on)
		for _, d := range todo {
			if err := apply(ctx, tx, d, at); err != nil {
				return err
			}
		}
		return writeMembers(ctx, tx, tenant, verdict.MemberChanges(todo), statesOf(on, todo), at)
	})
	if err != nil {
		return nil, err
	}
	return outcomes, nil
}

// statesOf are the states of the rollouts that steps were decided under, as they are now.
func statesOf(on map[fleet.AgentID]*verdict.Standing, todo []store.Decision) map[fleet.RolloutID]fleet.RolloutState {
	states := map[fleet.RolloutID]fleet.RolloutState{}
	for _, d := range todo {
		if d.On.Member != nil {
			states[d.On.Member.Rollout] = on[d.Item.Agent].Under.State
		}
	}
	return states
}

func apply(ctx context.Context, tx *sql.Tx, d store.Decision, at time.Time) error {
	item, step := d.Item, d.Step
	if step.Grant != nil {
		if err := putGrant(ctx, tx, item, *step.Grant); err != nil {
			return err
		}
	}
	if verdict.Settles(step) {
		if err := driftLook(ctx, tx, item.Tenant, item.Agent, at); err != nil {
			return err
		}
	}
	if err := putAttempts(ctx, tx, item, step.Attempts); err != nil {
		return err
	}
	if err := dispatch(ctx, tx, d, at); err != nil {
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
}

// readStandings reads what the steps' guards look at.
func readStandings(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, decided []store.Decision) (map[fleet.AgentID]*verdict.Standing, error) {
	on := make(map[fleet.AgentID]*verdict.Standing, len(decided))
	for _, d := range decided {
		now := verdict.Standing{Cleared: map[fleet.OfferHash]time.Time{}}
		err := tx.QueryRowContext(ctx, `
			SELECT a.attention, w.version, coalesce(g.generation, 0)
			FROM agents a JOIN work w ON w.tenant_id = a.tenant_id AND w.agent_id = a.id
			LEFT JOIN grants g ON g.tenant_id = a.tenant_id AND g.agent_id = a.id
			WHERE a.tenant_id = ?1 AND a.id = ?2`,
			tenant, d.Item.Agent).Scan(document(&now.Attention), &now.Version, &now.Generation)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, fail("read the agent", err)
		}
		if err := readMember(ctx, tx, d, &now); err != nil {
			return nil, err
		}
		if err := readCleared(ctx, tx, d, &now); err != nil {
			return nil, err
		}
		on[d.Item.Agent] = &now
	}
	return on, nil
}

// readMember reads what stands of the agent in the rollout that the step was decided under, and how that is by now.
func readMember(ctx context.Context, tx *sql.Tx, d store.Decision, to *verdict.Standing) error {
	if d.On.Member == nil {
		return nil
	}
	err := tx.QueryRowContext(ctx, `
		SELECT m.revision, r.state, r.generation
		FROM rollout_members m JOIN rollouts r ON r.tenant_id = m.tenant_id AND r.id = m.rollout_id
		WHERE m.tenant_id = ?1 AND m.rollout_id = ?2 AND m.agent_id = ?3`,
		d.Item.Tenant, d.On.Member.Rollout, d.Item.Agent).Scan(&to.Member, &to.Under.State, &to.Under.Generation)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return fail("read the agent's rollout", err)
}

// readCleared reads which of the lines that the step writes were cleared, and when.
func readCleared(ctx context.Context, tx *sql.Tx, d store.Decision, to *verdict.Standing) error {
	for _, a := range d.Step.Attempts {
		var at instant
		err := tx.QueryRowContext(ctx, `
			SELECT cleared_at FROM attempts WHERE tenant_id = ?1 AND agent_id = ?2 AND offer_hash = ?3 AND cleared_at IS NOT NULL`,
			d.Item.Tenant, d.Item.Agent, a.Version.Offer[:]).Scan(&at)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return fail("read the ledger", err)
		}
		to.Cleared[a.Version.Offer] = time.Time(at)
	}
	return nil
}

// putGrant replaces the grant. What the outbox and the inbox noted on an open one it
// keeps while it is the same grant and when it settles; a newly opened one begins without.
func putGrant(ctx context.Context, tx *sql.Tx, item store.WorkItem, g fleet.Grant) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO grants (tenant_id, agent_id, config_id, version, offer_hash, state, reason, generation, opened_at,
		                    seen_epoch, seen_sequence, applying_at, settled_at, message, rollout_id, wave)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
		ON CONFLICT (tenant_id, agent_id) DO UPDATE SET config_id = excluded.config_id, version = excluded.version,
			offer_hash = excluded.offer_hash, state = excluded.state, reason = excluded.reason,
			generation = excluded.generation, opened_at = excluded.opened_at, seen_epoch = excluded.seen_epoch,
			seen_sequence = excluded.seen_sequence, applying_at = excluded.applying_at,
			settled_at = excluded.settled_at, message = excluded.message,
			rollout_id = excluded.rollout_id, wave = excluded.wave,
			sent_at = CASE WHEN grants.generation = ?8 OR excluded.state <> 'open' THEN grants.sent_at END,
			delivered_at = CASE WHEN grants.generation = ?8 OR excluded.state <> 'open' THEN grants.delivered_at END,
			undelivered = CASE WHEN grants.generation = ?8 THEN grants.undelivered ELSE '' END`,
		item.Tenant, item.Agent, g.Version.Config, g.Version.Version, g.Version.Offer[:], g.State, g.Reason, g.Generation,
		moment(g.OpenedAt), g.Seen.Epoch, g.Seen.Sequence, moment(g.ApplyingAt), moment(g.SettledAt), g.Message,
		column.OrNull(g.Rollout), g.Wave)
	return fail("write the grant", err)
}

// putAttempts writes lines of the ledger.
func putAttempts(ctx context.Context, tx *sql.Tx, item store.WorkItem, lines []fleet.Attempt) error {
	for _, a := range lines {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO attempts (tenant_id, agent_id, offer_hash, config_id, version, outcome, message, first_at, last_at, cleared_at)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
			ON CONFLICT (tenant_id, agent_id, offer_hash) DO UPDATE SET outcome = excluded.outcome,
				message = excluded.message, last_at = excluded.last_at, cleared_at = excluded.cleared_at`,
			item.Tenant, item.Agent, a.Version.Offer[:], a.Version.Config, a.Version.Version, a.Outcome, a.Message,
			moment(a.FirstAt), moment(a.LastAt), moment(a.ClearedAt))
		if err != nil {
			return fail("write the ledger", err)
		}
	}
	return nil
}

// dispatch keeps the outbox in step: an offer leaves it when it is withdrawn or its grant is not open any more. One for an
// agent that is away falls due when it claims its session.
func dispatch(ctx context.Context, tx *sql.Tx, d store.Decision, at time.Time) error {
	item, step := d.Item, d.Step
	if step.Withdraw || step.Grant != nil && step.Grant.State != fleet.GrantOpen {
		_, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE tenant_id = ?1 AND agent_id = ?2 AND kind = ?3`,
			item.Tenant, item.Agent, fleet.DispatchConfig)
		if err != nil {
			return fail("withdraw the offer", err)
		}
	}
	if !step.Send {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO outbox (tenant_id, agent_id, kind, generation, due_at, traceparent)
		SELECT tenant_id, id, ?3, ?4, CASE WHEN epoch > 0 AND ended_at IS NULL THEN ?5 ELSE ?6 END, ?7
		FROM agents WHERE tenant_id = ?1 AND id = ?2`+onDispatch,
		item.Tenant, item.Agent, fleet.DispatchConfig, d.Generation(), moment(at), int64(never), item.Trace)
	return fail("send the offer", err)
}

func summarize(ctx context.Context, tx *sql.Tx, item store.WorkItem, step fleet.Step) error {
	if step.Delivery != nil {
		d := *step.Delivery
		d.Since = d.Since.UTC()
		_, err := tx.ExecContext(ctx, `
			INSERT INTO deliveries (tenant_id, agent_id, state, delivery, config_id, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
			ON CONFLICT (tenant_id, agent_id) DO UPDATE SET state = excluded.state, delivery = excluded.delivery,
				config_id = excluded.config_id, version = excluded.version`,
			item.Tenant, item.Agent, d.State, asJSON(d), column.OrNull(d.Desired.Config), d.Desired.Version)
		if err != nil {
			return fail("write the delivery", err)
		}
	}
	if step.Attention == nil {
		return nil
	}
	remarks := append([]fleet.Attention{}, *step.Attention...) // [] in the row, not null
	_, err := tx.ExecContext(ctx, `UPDATE agents SET attention = ?3 WHERE tenant_id = ?1 AND id = ?2`, item.Tenant, item.Agent, asJSON(remarks))
	return fail("write the remarks", err)
}

// settle lets the item rest, or sleep until the step's time. The row stays: would its versions begin anew, a late Apply
// could settle a wake it never saw.
func settle(ctx context.Context, tx *sql.Tx, item store.WorkItem, step fleet.Step) error {
	_, err := tx.ExecContext(ctx, `UPDATE work SET wake_at = coalesce(?3, ?4), traceparent = '', push = false WHERE tenant_id = ?1 AND agent_id = ?2`,
		item.Tenant, item.Agent, moment(step.WakeAt), int64(never))
	return fail("settle the item", err)
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Apply implements store.Work. It locks the rollouts against who closes them, then the agents, as everything does that
// writes about agents, what stands of them in their rollouts and the items, each in the order of their ids; what the guards
// look at stays as it is until the commit. Every table is then written by one statement for all steps. The rollouts' own
// rows and counts, for which all wait that are about the same rollout, come last.
func (s *Store) Apply(ctx context.Context, tenant fleet.TenantID, decided []store.Decision, at time.Time) (outcomes []error, err error) {
	err = s.bulkInTenant(ctx, tenant, func(tx pgx.Tx) error {
		if err := lockAdvisory(ctx, tx, lockShared, rolloutsIn(decided)...); err != nil {
			return err
		}
		on, here, err := lockStandings(ctx, tx, tenant, decided)
		if err != nil {
			return err
		}
		var todo []store.Decision
		todo, outcomes = verdict.OfSteps(decided, on)
		var batch pgx.Batch
		queueGrants(&batch, tenant, todo)
		queueAttempts(&batch, tenant, todo)
		queueOffers(&batch, tenant, todo, here, at)
		if err := queueDeliveries(&batch, tenant, todo); err != nil {
			return err
		}
		queueRemarks(&batch, tenant, todo)
		queueDriftLooks(&batch, tenant, settling(todo), at)
		queueEvents(&batch, told(tenant, todo))
		queueSettled(&batch, tenant, todo)
		changes := verdict.MemberChanges(todo)
		queueMembers(&batch, tenant, changes, statesOf(on, todo))
		queueDue(&batch, tenant, rolloutsOf(changes), moment(at))
		queueCounts(&batch, tenant, verdict.Deltas(changes))
		return fail("apply steps", tx.SendBatch(ctx, &batch).Close())
	})
	if err != nil {
		return nil, err
	}
	return outcomes, nil
}

// settling are the agents of which the steps settle a grant.
func settling(todo []store.Decision) (agents []fleet.AgentID) {
	for _, d := range todo {
		if verdict.Settles(d.Step) {
			agents = append(agents, d.Item.Agent)
		}
	}
	return agents
}

// rolloutsIn are the rollouts that steps were decided under, each once.
func rolloutsIn(decided []store.Decision) []fleet.RolloutID {
	named := map[fleet.RolloutID]bool{}
	for _, d := range decided {
		if d.On.Member != nil {
			named[d.On.Member.Rollout] = true
		}
	}
	return slices.Collect(maps.Keys(named))
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

func agentOf(d store.Decision) fleet.AgentID { return d.Item.Agent }

// lockStandings locks the agents and their items, and reads what the steps' guards look at and who has an open session: in
// one round trip, and each query begins when the locks of those before it are held.
func lockStandings(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, decided []store.Decision) (
	on map[fleet.AgentID]*verdict.Standing, here map[fleet.AgentID]bool, err error,
) {
	on, here = make(map[fleet.AgentID]*verdict.Standing, len(decided)), make(map[fleet.AgentID]bool, len(decided))
	of := func(id fleet.AgentID) *verdict.Standing {
		if on[id] == nil {
			return &verdict.Standing{Cleared: map[fleet.OfferHash]time.Time{}} // of an item without agent
		}
		return on[id]
	}
	var id fleet.AgentID
	var now verdict.Standing
	var open bool
	var offer fleet.OfferHash
	var cleared time.Time
	agents := ids(decided, agentOf)
	err = pipelined(ctx, tx, "lock the agents", func(q *pipeline) {
		q.ask(func() error {
			on[id] = &verdict.Standing{Attention: now.Attention, Cleared: map[fleet.OfferHash]time.Time{}}
			here[id], now.Attention = open, nil
			return nil
		}, []any{&id, &now.Attention, &open}, `
			SELECT id, attention, epoch > 0 AND ended_at IS NULL
			FROM agents WHERE tenant_id = $1 AND id `+among+` ORDER BY id FOR NO KEY UPDATE`, tenant, agents)
		queueMemberStandings(q, tenant, decided, of)
		q.ask(func() error {
			of(id).Version = now.Version
			return nil
		}, []any{&id, &now.Version}, `
			SELECT agent_id, version FROM work WHERE tenant_id = $1 AND agent_id `+among+` ORDER BY agent_id FOR UPDATE`,
			tenant, agents)
		q.ask(func() error {
			of(id).Generation = now.Generation
			return nil
		}, []any{&id, &now.Generation}, `
			SELECT agent_id, generation FROM grants WHERE tenant_id = $1 AND agent_id `+among, tenant, agents)
		q.ask(func() error {
			of(id).Cleared[offer] = cleared
			return nil
		}, []any{&id, (*hash)(&offer), (*instant)(&cleared)}, `
			SELECT agent_id, offer_hash, cleared_at
			FROM attempts WHERE tenant_id = $1 AND agent_id `+among+` AND offer_hash = ANY((SELECT $3::bytea[])::bytea[]) AND cleared_at IS NOT NULL`,
			tenant, agents, offers(lines(decided)))
	})
	return on, here, err
}

// queueMemberStandings locks what stands of the agents in the rollouts that the steps were decided under, and reads how
// these are by now.
func queueMemberStandings(q *pipeline, tenant fleet.TenantID, decided []store.Decision, of func(fleet.AgentID) *verdict.Standing) {
	rollouts := rolloutsIn(decided)
	if len(rollouts) == 0 {
		return
	}
	under, in := map[fleet.RolloutID]fleet.Under{}, map[fleet.AgentID]fleet.RolloutID{}
	for _, d := range decided {
		if d.On.Member != nil {
			in[d.Item.Agent] = d.On.Member.Rollout
		}
	}
	var id fleet.RolloutID
	var now fleet.Under
	q.ask(func() error {
		under[id] = now
		return nil
	}, []any{&id, &now.State, &now.Generation}, `
		SELECT id, state, generation FROM rollouts WHERE tenant_id = $1 AND id `+among, tenant, ids(rollouts, itself))
	var agent fleet.AgentID
	var revision int64
	q.ask(func() error {
		if in[agent] == id {
			of(agent).Member, of(agent).Under = revision, under[id]
		}
		return nil
	}, []any{&id, &agent, &revision}, `
		SELECT rollout_id, agent_id, revision FROM rollout_members
		WHERE tenant_id = $1 AND agent_id `+among+` AND rollout_id = ANY((SELECT $3::uuid[])::uuid[]) ORDER BY agent_id FOR UPDATE`,
		tenant, ids(decided, agentOf), ids(rollouts, itself))
}

// line is one line of the ledger that a step writes.
type line struct {
	agent fleet.AgentID
	fleet.Attempt
}

func lines(of []store.Decision) (all []line) {
	for _, d := range of {
		for _, a := range d.Step.Attempts {
			all = append(all, line{d.Item.Agent, a})
		}
	}
	return all
}

// offers are the offers of lines, each once.
func offers(of []line) pgtype.FlatArray[[]byte] {
	seen := map[fleet.OfferHash]bool{}
	for _, l := range of {
		seen[l.Version.Offer] = true
	}
	return array(slices.Collect(maps.Keys(seen)), func(h fleet.OfferHash) []byte { return h[:] })
}

func (l line) of() fleet.AgentID { return l.agent }
func (l line) offer() []byte     { return l.Version.Offer[:] }

// granting is a step's grant.
type granting struct {
	agent fleet.AgentID
	fleet.Grant
}

// queueGrants replaces grants. What the outbox and the inbox noted on an open one it keeps while it is the same grant
// and when it settles; a newly opened one begins without.
func queueGrants(batch *pgx.Batch, tenant fleet.TenantID, todo []store.Decision) {
	var granted []granting
	for _, d := range todo {
		if d.Step.Grant != nil {
			granted = append(granted, granting{d.Item.Agent, *d.Step.Grant})
		}
	}
	if len(granted) == 0 {
		return
	}
	batch.Queue(`
		INSERT INTO grants (tenant_id, agent_id, config_id, version, offer_hash, state, reason, generation, opened_at,
		                    seen_epoch, seen_sequence, applying_at, settled_at, message, rollout_id, wave)
		SELECT $1, unnest($2::uuid[]), unnest($3::uuid[]), unnest($4::int[]), unnest($5::bytea[]), unnest($6::text[]), unnest($7::text[]),
			unnest($8::bigint[]), unnest($9::timestamptz[]), unnest($10::bigint[]), unnest($11::bigint[]), unnest($12::timestamptz[]),
			unnest($13::timestamptz[]), unnest($14::text[]), nullif(unnest($15::uuid[]), '00000000-0000-0000-0000-000000000000'), unnest($16::int[])
		ON CONFLICT (tenant_id, agent_id) DO UPDATE SET config_id = excluded.config_id, version = excluded.version,
			offer_hash = excluded.offer_hash, state = excluded.state, reason = excluded.reason,
			generation = excluded.generation, opened_at = excluded.opened_at, seen_epoch = excluded.seen_epoch,
			seen_sequence = excluded.seen_sequence, applying_at = excluded.applying_at,
			settled_at = excluded.settled_at, message = excluded.message, rollout_id = excluded.rollout_id, wave = excluded.wave,
			sent_at = CASE WHEN grants.generation = excluded.generation OR excluded.state <> 'open' THEN grants.sent_at END,
			delivered_at = CASE WHEN grants.generation = excluded.generation OR excluded.state <> 'open' THEN grants.delivered_at END,
			undelivered = CASE WHEN grants.generation = excluded.generation THEN grants.undelivered ELSE '' END`,
		tenant,
		ids(granted, func(g granting) fleet.AgentID { return g.agent }),
		ids(granted, func(g granting) fleet.ConfigID { return g.Version.Config }),
		array(granted, func(g granting) int { return g.Version.Version }),
		array(granted, func(g granting) []byte { return g.Version.Offer[:] }),
		array(granted, func(g granting) fleet.GrantState { return g.State }),
		array(granted, func(g granting) fleet.GrantReason { return g.Reason }),
		array(granted, func(g granting) fleet.Generation { return g.Generation }),
		moments(granted, func(g granting) time.Time { return g.OpenedAt }),
		array(granted, func(g granting) fleet.Epoch { return g.Seen.Epoch }),
		array(granted, func(g granting) fleet.Sequence { return g.Seen.Sequence }),
		moments(granted, func(g granting) time.Time { return g.ApplyingAt }),
		moments(granted, func(g granting) time.Time { return g.SettledAt }),
		array(granted, func(g granting) string { return g.Message }),
		ids(granted, func(g granting) fleet.RolloutID { return g.Rollout }),
		array(granted, func(g granting) int { return g.Wave }))
}

// queueAttempts writes lines of the ledger.
func queueAttempts(batch *pgx.Batch, tenant fleet.TenantID, todo []store.Decision) {
	written := lines(todo)
	if len(written) == 0 {
		return
	}
	batch.Queue(`
		INSERT INTO attempts (tenant_id, agent_id, offer_hash, config_id, version, outcome, message, first_at, last_at, cleared_at)
		SELECT $1, unnest($2::uuid[]), unnest($3::bytea[]), unnest($4::uuid[]), unnest($5::int[]), unnest($6::text[]), unnest($7::text[]),
			unnest($8::timestamptz[]), unnest($9::timestamptz[]), unnest($10::timestamptz[])
		ON CONFLICT (tenant_id, agent_id, offer_hash) DO UPDATE SET outcome = excluded.outcome,
			message = excluded.message, last_at = excluded.last_at, cleared_at = excluded.cleared_at`,
		tenant, ids(written, line.of), array(written, line.offer),
		ids(written, func(l line) fleet.ConfigID { return l.Version.Config }),
		array(written, func(l line) int { return l.Version.Version }),
		array(written, func(l line) fleet.AttemptOutcome { return l.Outcome }),
		array(written, func(l line) string { return l.Message }),
		moments(written, func(l line) time.Time { return l.FirstAt }),
		moments(written, func(l line) time.Time { return l.LastAt }),
		moments(written, func(l line) time.Time { return l.ClearedAt }))
}

// queueOffers keeps the outbox in step: an offer leaves it when it is withdrawn or its grant is not open any more. One
// for an agent that is not here falls due when it claims its session.
func queueOffers(batch *pgx.Batch, tenant fleet.TenantID, todo []store.Decision, here map[fleet.AgentID]bool, at time.Time) {
	var withdrawn, sent []store.Decision
	for _, d := range todo {
		if d.Step.Withdraw || d.Step.Grant != nil && d.Step.Grant.State != fleet.GrantOpen {
			withdrawn = append(withdrawn, d)
		}
		if d.Step.Send {
			sent = append(sent, d)
		}
	}
	if len(withdrawn) > 0 {
		batch.Queue(`DELETE FROM outbox WHERE tenant_id = $1 AND agent_id `+among+` AND kind = $3`,
			tenant, ids(withdrawn, agentOf), fleet.DispatchConfig)
	}
	if len(sent) > 0 {
		batch.Queue(`
			INSERT INTO outbox (tenant_id, agent_id, kind, generation, due_at, traceparent)
			SELECT $1, id, $5, generation, CASE WHEN here THEN $6 ELSE 'infinity'::timestamptz END, trace
			FROM (SELECT unnest($2::uuid[]) AS id, unnest($3::bigint[]) AS generation, unnest($4::boolean[]) AS here, unnest($7::text[]) AS trace) AS s ORDER BY id`+onDispatch,
			tenant, ids(sent, agentOf), array(sent, store.Decision.Generation),
			array(sent, func(d store.Decision) bool { return here[d.Item.Agent] }), fleet.DispatchConfig, moment(at),
			array(sent, func(d store.Decision) fleet.Traceparent { return d.Item.Trace }))
	}
}

// delivering is the summary of a delivery, as JSON.
type delivering struct {
	agent fleet.AgentID
	fleet.Delivery
	document json.RawMessage
}

// queueDeliveries replaces summaries of deliveries. Most of many are the same, and encoded once.
func queueDeliveries(batch *pgx.Batch, tenant fleet.TenantID, todo []store.Decision) error {
	var changed []delivering
	encoded := map[fleet.Delivery]json.RawMessage{}
	for _, of := range todo {
		if of.Step.Delivery == nil {
			continue
		}
		d := *of.Step.Delivery
		d.Since = d.Since.UTC()
		if encoded[d] == nil {
			document, err := json.Marshal(d)
			if err != nil {
				return fmt.Errorf("encode a delivery: %w", err)
			}
			encoded[d] = document
		}
		changed = append(changed, delivering{of.Item.Agent, d, encoded[d]})
	}
	if len(changed) == 0 {
		return nil
	}
	batch.Queue(`
		INSERT INTO deliveries (tenant_id, agent_id, state, delivery, config_id, version)
		SELECT $1, unnest($2::uuid[]), unnest($3::text[]), unnest($4::json[]), nullif(unnest($5::uuid[]), '00000000-0000-0000-0000-000000000000'), unnest($6::int[])
		ON CONFLICT (tenant_id, agent_id) DO UPDATE SET state = excluded.state, delivery = excluded.delivery,
			config_id = excluded.config_id, version = excluded.version`,
		tenant, ids(changed, func(d delivering) fleet.AgentID { return d.agent }),
		array(changed, func(d delivering) string { return string(d.State) }),
		array(changed, func(d delivering) json.RawMessage { return d.document }),
		ids(changed, func(d delivering) fleet.ConfigID { return d.Desired.Config }),
		array(changed, func(d delivering) int { return d.Desired.Version }))
	return nil
}

// queueRemarks replaces the remarks on agents.
func queueRemarks(batch *pgx.Batch, tenant fleet.TenantID, todo []store.Decision) {
	var changed []store.Decision
	for _, d := range todo {
		if d.Step.Attention != nil {
			changed = append(changed, d)
		}
	}
	if len(changed) == 0 {
		return
	}
	batch.Queue(`
		UPDATE agents a SET attention = r.remarks FROM unnest($2::uuid[], $3::jsonb[]) AS r (id, remarks)
		WHERE a.tenant_id = $1 AND a.id `+among+` AND a.id = r.id`,
		tenant, ids(changed, agentOf), array(changed, func(d store.Decision) []fleet.Attention {
			return column.NotNull(*d.Step.Attention) // [] in the row, not null
		}))
}

// told are the events of the steps.
func told(tenant fleet.TenantID, todo []store.Decision) (events []fleet.Event) {
	for _, d := range todo {
		for _, e := range d.Step.Events {
			e.Tenant, e.Agent = tenant, d.Item.Agent
			events = append(events, e)
		}
	}
	return events
}

// queueSettled lets the items rest, or sleep until their steps' times. The rows stay: would their versions begin anew, a
// late Apply could settle a wake it never saw.
func queueSettled(batch *pgx.Batch, tenant fleet.TenantID, todo []store.Decision) {
	var resting, sleeping []store.Decision
	for _, d := range todo {
		if d.Step.WakeAt.IsZero() {
			resting = append(resting, d)
		} else {
			sleeping = append(sleeping, d)
		}
	}
	if len(resting) > 0 {
		batch.Queue(`UPDATE work SET wake_at = 'infinity', traceparent = '', push = false WHERE tenant_id = $1 AND agent_id `+among, tenant, ids(resting, agentOf))
	}
	if len(sleeping) > 0 {
		batch.Queue(`
			UPDATE work w SET wake_at = s.wake_at, traceparent = '', push = false FROM unnest($2::uuid[], $3::timestamptz[]) AS s (id, wake_at)
			WHERE w.tenant_id = $1 AND w.agent_id `+among+` AND w.agent_id = s.id`,
			tenant, ids(sleeping, agentOf), moments(sleeping, func(d store.Decision) time.Time { return d.Step.WakeAt }))
	}
}

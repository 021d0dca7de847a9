// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// DueUpkeep implements store.Upkeep. What is due is found by the index certificate_upkeep_due, and all else of it by
// primary keys, so that it costs the same in any fleet.
func (s *Store) DueUpkeep(ctx context.Context, now time.Time, max int) (due []fleet.Upkeep, err error) {
	err = s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		found, err := list(ctx, tx, scanDueUpkeep, findUpkeep, moment(now), max)
		if err != nil {
			return fail("find certificates that are due", err)
		}
		if len(found) > 0 {
			// The worker's policies are alternatives, by which no join is planned well: from here on it is in tenants alone.
			if _, err := tx.Exec(ctx, "SET LOCAL ROLE ampora_api"); err != nil {
				return fail("leave the worker's role", err)
			}
		}
		for _, part := range verdict.UpkeepByTenant(found) {
			if err := enter(ctx, tx, part.Tenant); err != nil {
				return err
			}
			known, err := list(ctx, tx, scanUpkeep, selectUpkeep, part.Tenant, ids(part.Agents, itself), moment(now))
			if err != nil {
				return fail("read about certificates that are due", err)
			}
			due = append(due, known...)
		}
		verdict.SortUpkeep(due, found)
		return nil
	})
	return due, err
}

const findUpkeep = `
		SELECT tenant_id, agent_id FROM certificate_upkeep WHERE look_at <= $1 ORDER BY look_at LIMIT $2`

func scanDueUpkeep(row pgx.Row) (u fleet.Upkeep, err error) {
	err = row.Scan(&u.Tenant, &u.Agent)
	return u, err
}

// selectUpkeep reads what is known of agents' certificates. A key that another has replaced was so at the moment at which
// that one was activated. That a certificate is not revoked is asked so that the partial index certificates_key, by which all
// of a tenant's would be read, does not come into question: without statistics it seems as good as certificates_agent.
const selectUpkeep = `
		SELECT u.tenant_id, u.agent_id, u.version, u.serial, u.offers, u.generation, u.offered_at, u.offer_epoch, u.failure, u.told,
		       a.method, a.capabilities, a.quarantined_at IS NOT NULL, a.epoch, a.transport,
		       a.epoch > 0 AND a.ended_at IS NULL AND coalesce(g.lease_until > $3, false), a.attention,
		       c.created_at, c.not_after, c.revoked_at,
		       (SELECT n.activated_at FROM signing_keys k JOIN signing_keys n ON n.tenant_id = k.tenant_id AND n.kind = k.kind AND n.state = 'active'
		        WHERE k.tenant_id = c.tenant_id AND k.id = c.key_id AND k.state = 'trusted'),
		       EXISTS (SELECT FROM certificates m WHERE m.tenant_id = u.tenant_id AND m.agent_id = u.agent_id
		               AND m.created_at > c.created_at AND m.not_after > $3 AND coalesce(m.revoked_at, 'infinity') = 'infinity'),
		       EXISTS (SELECT FROM outbox o WHERE o.tenant_id = u.tenant_id AND o.agent_id = u.agent_id AND o.kind = 'renew')
		FROM certificate_upkeep u
		JOIN agents a ON a.tenant_id = u.tenant_id AND a.id = u.agent_id
		JOIN certificates c ON c.tenant_id = u.tenant_id AND c.serial = u.serial
		LEFT JOIN gateways g ON g.id = a.gateway_id AND g.boot_id = a.boot_id
		WHERE u.tenant_id = $1 AND u.agent_id ` + among

func scanUpkeep(row pgx.Row) (u fleet.Upkeep, err error) {
	var capabilities int64
	err = row.Scan(&u.Tenant, &u.Agent, &u.Version, &u.Serial, &u.Offers, &u.Generation, (*instant)(&u.OfferedAt), &u.OfferEpoch, &u.Failure, &u.Told,
		&u.Method, &capabilities, &u.Quarantined, &u.Epoch, &u.Transport, &u.Live, &u.Attention,
		(*instant)(&u.MadeAt), (*instant)(&u.NotAfter), (*instant)(&u.RevokedAt), (*instant)(&u.RotatedAt), &u.Newer, &u.Pending)
	u.TakesSettings = fleet.Capabilities(capabilities).Has(fleet.AcceptsConnectionSettings) //nolint:gosec // bits
	return u, err
}

// ApplyUpkeep implements store.Upkeep. Agents are locked first, in the order of their ids, as everything does that writes
// about agents: what a step depends on stays as it is.
func (s *Store) ApplyUpkeep(ctx context.Context, tenant fleet.TenantID, decided []store.UpkeepDecision, at time.Time) (done int, err error) {
	err = s.bulkInTenant(ctx, tenant, func(tx pgx.Tx) error {
		on := make(map[fleet.AgentID]*verdict.UpkeepStanding, len(decided))
		agents := ids(decided, upkeepOf)
		var id fleet.AgentID
		var now verdict.UpkeepStanding
		err := pipelined(ctx, tx, "lock the agents", func(q *pipeline) {
			q.ask(func() error {
				standing := now
				on[id] = &standing
				return nil
			}, []any{&id, &now.Epoch, &now.Open, &now.Attention}, `
				SELECT id, epoch, epoch > 0 AND ended_at IS NULL, attention FROM agents
				WHERE tenant_id = $1 AND id `+among+` ORDER BY id FOR NO KEY UPDATE`, tenant, agents)
			q.ask(func() error {
				if on[id] != nil {
					on[id].Version = now.Version
				}
				return nil
			}, []any{&id, &now.Version}, `SELECT agent_id, version FROM certificate_upkeep WHERE tenant_id = $1 AND agent_id `+among, tenant, agents)
		})
		if err != nil {
			return err
		}
		todo := verdict.OfUpkeep(decided, on)
		done = len(todo)
		var batch pgx.Batch
		queueUpkeep(&batch, tenant, todo, at)
		if err := queueUpkeepTold(&batch, tenant, todo, on, at); err != nil {
			return err
		}
		return fail("write about certificates", tx.SendBatch(ctx, &batch).Close())
	})
	if err != nil {
		return 0, err
	}
	return done, nil
}

func upkeepOf(d store.UpkeepDecision) fleet.AgentID { return d.On.Agent }

// queueUpkeep writes the rows and what is to be sent.
func queueUpkeep(batch *pgx.Batch, tenant fleet.TenantID, todo []store.UpkeepDecision, at time.Time) {
	if len(todo) == 0 {
		return
	}
	batch.Queue(`
		UPDATE certificate_upkeep u SET version = u.version + 1, look_at = coalesce(s.look_at, 'infinity'), told = s.told
		FROM (SELECT unnest($2::uuid[]) AS agent_id, unnest($3::timestamptz[]) AS look_at, unnest($4::int[]) AS told) AS s
		WHERE u.tenant_id = $1 AND u.agent_id `+among+` AND u.agent_id = s.agent_id`,
		tenant, ids(todo, upkeepOf),
		moments(todo, func(d store.UpkeepDecision) time.Time { return d.Step.LookAt }),
		array(todo, func(d store.UpkeepDecision) int { return d.Step.Told }))
	offers := verdict.UpkeepOffers(todo)
	if len(offers) == 0 {
		return
	}
	batch.Queue(`
		UPDATE certificate_upkeep u SET offers = u.offers + 1, generation = u.generation + 1, offered_at = $3, offer_epoch = s.epoch,
			given = '', offer_hash = '', failure = ''
		FROM (SELECT unnest($2::uuid[]) AS agent_id, unnest($4::bigint[]) AS epoch) AS s
		WHERE u.tenant_id = $1 AND u.agent_id `+among+` AND u.agent_id = s.agent_id`,
		tenant, ids(offers, upkeepOf), moment(at), array(offers, func(d store.UpkeepDecision) fleet.Epoch { return d.On.Epoch }))
	batch.Queue(`
		INSERT INTO outbox (tenant_id, agent_id, kind, generation, due_at)
		SELECT $1, agent_id, $4, generation, $3 FROM certificate_upkeep WHERE tenant_id = $1 AND agent_id `+among+` ORDER BY agent_id`+onDispatch,
		tenant, ids(offers, upkeepOf), moment(at), fleet.DispatchRenew)
}

// queueUpkeepTold writes remarks, events and what the audit log says.
func queueUpkeepTold(batch *pgx.Batch, tenant fleet.TenantID, todo []store.UpkeepDecision, on map[fleet.AgentID]*verdict.UpkeepStanding, at time.Time) error {
	for _, d := range todo { // few
		if list, changed := on[d.On.Agent].Remarks(d.Step); changed {
			batch.Queue(`UPDATE agents SET attention = $3 WHERE tenant_id = $1 AND id = $2`, tenant, d.On.Agent, list)
		}
	}
	events, entries := verdict.UpkeepTold(todo)
	queueEvents(batch, events)
	told := make([]verdict.Told, len(entries))
	for i, entry := range entries {
		told[i] = verdict.Told{By: fleet.System(tenant, at), Entry: entry}
	}
	return queueAudit(batch, told)
}

// OfferAgain implements store.Upkeep. The agent is locked first, as by whoever makes offers.
func (s *Store) OfferAgain(ctx context.Context, by fleet.By, id fleet.AgentID) (forgotten int, reason string, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		if err := lockAgent(ctx, tx, by.Tenant, id); err != nil {
			return err
		}
		var on *fleet.Upkeep
		known, err := list(ctx, tx, scanUpkeep, selectUpkeep, by.Tenant, ids([]fleet.AgentID{id}, itself), moment(by.At))
		if err != nil {
			return fail("read about the certificate", err)
		}
		if len(known) > 0 {
			on = &known[0]
		}
		if reason = verdict.OfOfferAgain(on, by.At); reason != "" {
			return nil
		}
		forgotten = on.Offers
		var batch pgx.Batch
		batch.Queue(`
			UPDATE certificate_upkeep SET version = version + 1, look_at = $3, offers = 0, generation = generation + 1,
				offered_at = NULL, offer_epoch = 0, offer_hash = '', failure = ''
			WHERE tenant_id = $1 AND agent_id = $2`, by.Tenant, id, moment(by.At))
		batch.Queue(`DELETE FROM outbox WHERE tenant_id = $1 AND agent_id = $2 AND kind = 'renew'`, by.Tenant, id)
		batch.Queue(`UPDATE agents SET attention = $3 WHERE tenant_id = $1 AND id = $2`, by.Tenant, id, fleet.WithUpkeep(on.Attention, nil))
		if err := queueAudit(&batch, []verdict.Told{{By: by, Entry: trail.OfferedAgain(id, forgotten)}}); err != nil {
			return err
		}
		return fail("forget the offers", tx.SendBatch(ctx, &batch).Close())
	})
	if err != nil {
		return 0, "", err
	}
	return forgotten, reason, nil
}

// queueShown begins anew with certificates that agents have not shown before. What was to be offered is of the past.
func queueShown(batch *pgx.Batch, tenant fleet.TenantID, shown []verdict.Seated) {
	if len(shown) == 0 {
		return
	}
	batch.Queue(`
		INSERT INTO certificate_upkeep (tenant_id, agent_id, look_at, serial)
		SELECT $1, unnest($2::uuid[]), unnest($3::timestamptz[]), unnest($4::text[])
		ON CONFLICT (tenant_id, agent_id) DO UPDATE SET version = certificate_upkeep.version + 1, look_at = excluded.look_at, serial = excluded.serial,
			offers = 0, generation = certificate_upkeep.generation + 1, given = '', offer_hash = '', failure = '', told = 0`,
		tenant, ids(shown, seatedID), moments(shown, claimedAt), array(shown, func(s verdict.Seated) string { return string(s.Claim.Serial) }))
	batch.Queue(`SELECT FROM outbox WHERE tenant_id = $1 AND agent_id `+among+` ORDER BY agent_id, kind FOR UPDATE`, tenant, ids(shown, seatedID))
	batch.Queue(`DELETE FROM outbox WHERE tenant_id = $1 AND agent_id `+among+` AND kind = 'renew'`, tenant, ids(shown, seatedID))
}

// readGiven reads which certificates were made for agents to be offered.
func readGiven(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, agents []fleet.AgentID, to *verdict.Roll) error {
	if len(agents) == 0 {
		return nil
	}
	var id fleet.AgentID
	var given fleet.Serial
	return pipelined(ctx, tx, "read what was made to be offered", func(q *pipeline) {
		q.ask(func() error {
			to.Seats[id].Given = given
			return nil
		}, []any{&id, &given}, `SELECT agent_id, given FROM certificate_upkeep WHERE tenant_id = $1 AND agent_id `+among, tenant, ids(agents, itself))
	})
}

// queueUpkeepOutcomes notes what was said of an agent's last offer, which ends its sending. One that a gateway has made is
// made, whatever another says.
func queueUpkeepOutcomes(batch *pgx.Batch, tenant fleet.TenantID, a *verdict.Agent) {
	for _, said := range a.Write.Upkeep { // few
		if said.Generation == 0 {
			batch.Queue(`UPDATE certificate_upkeep SET failure = $4 WHERE tenant_id = $1 AND agent_id = $2 AND offer_hash = $3`,
				tenant, a.ID, said.Hash, said.Failure)
			continue
		}
		batch.Queue(`
			UPDATE certificate_upkeep SET offer_hash = coalesce($4, ''::bytea), failure = $5::text
			WHERE tenant_id = $1 AND agent_id = $2 AND generation = $3 AND ($5::text = '' OR offer_hash = '')`,
			tenant, a.ID, said.Generation, said.Hash, said.Failure)
		batch.Queue(`DELETE FROM outbox WHERE tenant_id = $1 AND agent_id = $2 AND kind = 'renew' AND generation = $3`,
			tenant, a.ID, said.Generation)
	}
}

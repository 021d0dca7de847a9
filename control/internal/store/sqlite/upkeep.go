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
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// DueUpkeep implements store.Upkeep.
func (s *Store) DueUpkeep(ctx context.Context, now time.Time, max int) (due []fleet.Upkeep, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		due, err = list(ctx, tx, scanUpkeep, selectUpkeep+`WHERE u.look_at <= ?1 ORDER BY u.look_at LIMIT ?2`, moment(now), max)
		return fail("find certificates that are due", err)
	})
	return due, err
}

// selectUpkeep reads what is known of agents' certificates at ?1.
const selectUpkeep = `
	SELECT u.tenant_id, u.agent_id, u.version, u.serial, u.offers, u.generation, u.offered_at, u.offer_epoch, u.failure, u.told,
	       a.method, a.capabilities, a.quarantined_at IS NOT NULL, a.epoch, a.transport,
	       a.epoch > 0 AND a.ended_at IS NULL AND coalesce(g.lease_until > ?1, false), a.attention,
	       c.created_at, c.not_after, c.revoked_at,
	       (SELECT n.activated_at FROM signing_keys k JOIN signing_keys n ON n.tenant_id = k.tenant_id AND n.kind = k.kind AND n.state = 'active'
	        WHERE k.tenant_id = c.tenant_id AND k.id = c.key_id AND k.state = 'trusted'),
	       EXISTS (SELECT 1 FROM certificates m WHERE m.tenant_id = u.tenant_id AND m.agent_id = u.agent_id
	               AND m.created_at > c.created_at AND m.not_after > ?1 AND m.revoked_at IS NULL),
	       EXISTS (SELECT 1 FROM outbox o WHERE o.tenant_id = u.tenant_id AND o.agent_id = u.agent_id AND o.kind = 'renew')
	FROM certificate_upkeep u
	JOIN agents a ON a.tenant_id = u.tenant_id AND a.id = u.agent_id
	JOIN certificates c ON c.tenant_id = u.tenant_id AND c.serial = u.serial
	LEFT JOIN gateways g ON g.id = a.gateway_id AND g.boot_id = a.boot_id
	`

func scanUpkeep(row scanner) (u fleet.Upkeep, err error) {
	var capabilities int64
	err = row.Scan(&u.Tenant, &u.Agent, &u.Version, &u.Serial, &u.Offers, &u.Generation, (*instant)(&u.OfferedAt), &u.OfferEpoch, &u.Failure, &u.Told,
		&u.Method, &capabilities, &u.Quarantined, &u.Epoch, &u.Transport, &u.Live, document(&u.Attention),
		(*instant)(&u.MadeAt), (*instant)(&u.NotAfter), (*instant)(&u.RevokedAt), (*instant)(&u.RotatedAt), &u.Newer, &u.Pending)
	u.TakesSettings = fleet.Capabilities(capabilities).Has(fleet.AcceptsConnectionSettings) //nolint:gosec // bits
	return u, err
}

// ApplyUpkeep implements store.Upkeep.
func (s *Store) ApplyUpkeep(ctx context.Context, tenant fleet.TenantID, decided []store.UpkeepDecision, at time.Time) (done int, err error) {
	err = s.inTenant(ctx, tenant, func(tx *sql.Tx) error {
		on, err := readUpkeepStandings(ctx, tx, tenant, decided)
		if err != nil {
			return err
		}
		todo := verdict.OfUpkeep(decided, on)
		done = len(todo)
		for _, d := range todo {
			if err := applyUpkeep(ctx, tx, tenant, d, on[d.On.Agent], at); err != nil {
				return fail("write about certificates", err)
			}
		}
		events, entries := verdict.UpkeepTold(todo)
		for _, e := range events {
			if err := appendEvent(ctx, tx, e); err != nil {
				return err
			}
		}
		for _, entry := range entries {
			if err := appendAudit(ctx, tx, fleet.System(tenant, at), entry); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return done, nil
}

func readUpkeepStandings(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, decided []store.UpkeepDecision) (map[fleet.AgentID]*verdict.UpkeepStanding, error) {
	on := make(map[fleet.AgentID]*verdict.UpkeepStanding, len(decided))
	for _, d := range decided {
		var now verdict.UpkeepStanding
		err := tx.QueryRowContext(ctx, `
			SELECT u.version, a.epoch, a.epoch > 0 AND a.ended_at IS NULL, a.attention
			FROM certificate_upkeep u JOIN agents a ON a.tenant_id = u.tenant_id AND a.id = u.agent_id
			WHERE u.tenant_id = ?1 AND u.agent_id = ?2`, tenant, d.On.Agent).Scan(&now.Version, &now.Epoch, &now.Open, document(&now.Attention))
		switch {
		case err == nil:
			on[d.On.Agent] = &now
		case !errors.Is(err, sql.ErrNoRows):
			return nil, fail("read about certificates", err)
		}
	}
	return on, nil
}

// applyUpkeep writes a row, the agent's remarks and what is to be sent.
func applyUpkeep(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, d store.UpkeepDecision, on *verdict.UpkeepStanding, at time.Time) error {
	look := moment(d.Step.LookAt)
	if look == nil {
		look = int64(never)
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE certificate_upkeep SET version = version + 1, look_at = ?3, told = ?4 WHERE tenant_id = ?1 AND agent_id = ?2`,
		tenant, d.On.Agent, look, d.Step.Told)
	if err != nil {
		return err
	}
	if remarks, changed := on.Remarks(d.Step); changed {
		_, err := tx.ExecContext(ctx, `UPDATE agents SET attention = ?3 WHERE tenant_id = ?1 AND id = ?2`, tenant, d.On.Agent, asJSON(remarks))
		if err != nil {
			return err
		}
	}
	if !d.Step.Offer {
		return nil
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE certificate_upkeep SET offers = offers + 1, generation = generation + 1, offered_at = ?3, offer_epoch = ?4,
			given = '', offer_hash = x'', failure = ''
		WHERE tenant_id = ?1 AND agent_id = ?2`, tenant, d.On.Agent, moment(at), d.On.Epoch)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO outbox (tenant_id, agent_id, kind, generation, due_at)
		SELECT tenant_id, agent_id, ?3, generation, ?4 FROM certificate_upkeep WHERE tenant_id = ?1 AND agent_id = ?2`+onDispatch,
		tenant, d.On.Agent, fleet.DispatchRenew, moment(at))
	return err
}

// OfferAgain implements store.Upkeep.
func (s *Store) OfferAgain(ctx context.Context, by fleet.By, id fleet.AgentID) (forgotten int, reason string, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		if err := checkAgent(ctx, tx, by.Tenant, id); err != nil {
			return err
		}
		var on *fleet.Upkeep
		known, err := list(ctx, tx, scanUpkeep, selectUpkeep+`WHERE u.tenant_id = ?2 AND u.agent_id = ?3`, moment(by.At), by.Tenant, id)
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
		return offerAgain(ctx, tx, by, on)
	})
	if err != nil {
		return 0, "", err
	}
	return forgotten, reason, nil
}

// offerAgain forgets the offers, what is on its way of them, and the remark.
func offerAgain(ctx context.Context, tx *sql.Tx, by fleet.By, on *fleet.Upkeep) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE certificate_upkeep SET version = version + 1, look_at = ?3, offers = 0, generation = generation + 1,
			offered_at = NULL, offer_epoch = 0, offer_hash = x'', failure = ''
		WHERE tenant_id = ?1 AND agent_id = ?2`, by.Tenant, on.Agent, moment(by.At))
	if err != nil {
		return fail("forget the offers", err)
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE tenant_id = ?1 AND agent_id = ?2 AND kind = 'renew'`, by.Tenant, on.Agent); err != nil {
		return fail("drop the offer", err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE agents SET attention = ?3 WHERE tenant_id = ?1 AND id = ?2`,
		by.Tenant, on.Agent, asJSON(fleet.WithUpkeep(on.Attention, nil)))
	if err != nil {
		return fail("take the remark away", err)
	}
	return appendAudit(ctx, tx, by, trail.OfferedAgain(on.Agent, on.Offers))
}

// showCertificate begins anew with a certificate that an agent has not shown before. What was to be offered is of the past.
func showCertificate(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, s verdict.Seated) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO certificate_upkeep (tenant_id, agent_id, look_at, serial) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (tenant_id, agent_id) DO UPDATE SET version = version + 1, look_at = excluded.look_at, serial = excluded.serial,
			offers = 0, generation = generation + 1, given = '', offer_hash = x'', failure = '', told = 0`,
		tenant, s.Agent, moment(s.Claim.At), s.Claim.Serial)
	if err != nil {
		return fail("note the certificate", err)
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM outbox WHERE tenant_id = ?1 AND agent_id = ?2 AND kind = 'renew'`, tenant, s.Agent)
	return fail("drop the offer of the former certificate", err)
}

// writeUpkeepOutcome notes what was said of an agent's last offer, which ends its sending. One that a gateway has made is
// made, whatever another says.
func writeUpkeepOutcome(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, agent fleet.AgentID, said fleet.UpkeepOutcome) error {
	if said.Generation == 0 {
		_, err := tx.ExecContext(ctx, `UPDATE certificate_upkeep SET failure = ?4 WHERE tenant_id = ?1 AND agent_id = ?2 AND offer_hash = ?3`,
			tenant, agent, said.Hash, said.Failure)
		return err
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE certificate_upkeep SET offer_hash = ?4, failure = ?5
		WHERE tenant_id = ?1 AND agent_id = ?2 AND generation = ?3 AND (?5 = '' OR offer_hash = x'')`,
		tenant, agent, said.Generation, column.NotNull(said.Hash), said.Failure)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM outbox WHERE tenant_id = ?1 AND agent_id = ?2 AND kind = 'renew' AND generation = ?3`,
		tenant, agent, said.Generation)
	return err
}

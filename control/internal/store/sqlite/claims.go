// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Claim implements store.Sessions. The rules are verdict's.
func (s *Store) Claim(ctx context.Context, claims []fleet.Claim) ([]fleet.ClaimResult, error) {
	results := make([]fleet.ClaimResult, len(claims))
	err := s.asWorker(ctx, func(tx *sql.Tx) error {
		gateways, err := checkGateways(ctx, tx, claims)
		if err != nil {
			return err
		}
		for _, part := range verdict.ClaimsByTenant(claims) {
			judged, err := claimInTenant(ctx, tx, part, gateways)
			if err != nil {
				return err
			}
			for i, place := range part.Places {
				results[place] = judged[i]
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

func claimInTenant(ctx context.Context, tx *sql.Tx, claims verdict.Claims, gateways map[fleet.GatewayID]fleet.Gateway) ([]fleet.ClaimResult, error) {
	if err := enter(ctx, tx, claims.Tenant); err != nil {
		return nil, err
	}
	roll, err := callRoll(ctx, tx, claims, gateways)
	if err != nil {
		return nil, err
	}
	judged := roll.Judge(claims.List, func() fleet.AgentID { return fleet.AgentID(identity.NewAgentID()) })
	return judged.Results, writeJudged(ctx, tx, claims.Tenant, judged)
}

// checkGateways makes sure that the claiming gateways have their leases.
func checkGateways(ctx context.Context, tx *sql.Tx, claims []fleet.Claim) (map[fleet.GatewayID]fleet.Gateway, error) {
	gateways := map[fleet.GatewayID]fleet.Gateway{}
	for _, c := range claims {
		g, read := gateways[c.Gateway]
		if !read {
			var boot int64
			err := tx.QueryRowContext(ctx, `SELECT id, boot_id, lease_until FROM gateways WHERE id = ?1 AND revoked_at IS NULL`, c.Gateway).Scan(
				&g.ID, &boot, (*instant)(&g.LeaseUntil))
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return nil, fail("read the gateway's lease", err)
			}
			g.BootID = column.Unbits(boot)
			gateways[c.Gateway] = g
		}
		if g.BootID != c.BootID || !g.LeaseUntil.After(c.At) {
			return nil, fmt.Errorf("claim at gateway %s: %w", c.Gateway, store.ErrLeaseLost)
		}
	}
	return gateways, nil
}

// callRoll reads what is on record about the claims.
func callRoll(ctx context.Context, tx *sql.Tx, claims verdict.Claims, gateways map[fleet.GatewayID]fleet.Gateway) (*verdict.Roll, error) {
	roll := &verdict.Roll{
		Certificates: map[fleet.Serial]*fleet.Certificate{}, Seats: map[fleet.AgentID]*verdict.Seat{},
		Owners: map[fleet.InstanceUID]*verdict.Seat{}, Children: map[fleet.AgentID]int{}, Gateways: gateways,
	}
	for _, serial := range claims.Serials {
		if err := readCertificate(ctx, tx, claims.Tenant, serial, roll); err != nil {
			return nil, err
		}
	}
	for _, agent := range roll.Certified(claims.List) {
		if err := readSeat(ctx, tx, claims.Tenant, agent, roll); err != nil {
			return nil, err
		}
	}
	for _, uid := range claims.UIDs {
		if err := readOwner(ctx, tx, claims.Tenant, uid, roll); err != nil {
			return nil, err
		}
	}
	return roll, nil
}

func readCertificate(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, serial fleet.Serial, to *verdict.Roll) error {
	c := fleet.Certificate{Tenant: tenant, Serial: serial}
	err := tx.QueryRowContext(ctx, `
		SELECT agent_id, fingerprint, revoked_at, `+keyRetired+` FROM certificates WHERE tenant_id = ?1 AND serial = ?2`,
		tenant, serial).Scan(&c.Agent, &c.Fingerprint, (*instant)(&c.RevokedAt), &c.KeyRetired)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	to.Certificates[serial] = &c
	return fail("read the certificate", err)
}

func readSeat(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, id fleet.AgentID, to *verdict.Roll) error {
	at := verdict.Seat{Agent: id}
	var takeovers []int64
	var boot int64
	var children int
	err := tx.QueryRowContext(ctx, `
		SELECT a.method, a.parent_id, a.max_children, a.instance_uid,
		       a.quarantined_at, a.takeovers, a.attention, a.epoch, a.gateway_id, a.boot_id, a.transport,
		       a.last_sequence, a.state_known, a.first_seen_at, a.serial,
		       coalesce((SELECT u.given FROM certificate_upkeep u WHERE u.tenant_id = a.tenant_id AND u.agent_id = a.id), ''),
		       a.epoch > 0 AND a.ended_at IS NULL,
		       (SELECT max(g.lease_until) FROM gateways g WHERE g.id = a.gateway_id AND g.boot_id = a.boot_id OR EXISTS (
		           SELECT 1 FROM seats s WHERE s.tenant_id = a.tenant_id AND s.agent_id = a.id
		               AND s.gateway_id = g.id AND s.boot_id = g.boot_id)),
		       (SELECT count(*) FROM agents c WHERE c.tenant_id = a.tenant_id AND c.parent_id = a.id), a.told_hour, a.told, a.untold
		FROM agents a WHERE a.tenant_id = ?1 AND a.id = ?2`,
		tenant, id).Scan(
		&at.Method, (*text)(&at.Parent), &at.MaxChildren, (*uid)(&at.UID),
		(*instant)(&at.QuarantinedAt), document(&takeovers), document(&at.Attention), &at.Epoch, &at.Gateway, &boot, &at.Transport,
		&at.LastSequence, &at.StateKnown, (*instant)(&at.FirstSeenAt), &at.Serial, &at.Given, &at.Open, (*instant)(&at.LeaseUntil), &children,
		(*instant)(&at.Telling.Hour), &at.Telling.Told, &at.Telling.Untold)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	at.BootID = column.Unbits(boot)
	for _, micros := range takeovers {
		at.Takeovers = append(at.Takeovers, time.UnixMicro(micros).UTC())
	}
	to.Seats[id], to.Children[id] = &at, children
	return fail("read the agent", err)
}

// readOwner reads which agent a uid is bound to: one of the seats, a child of one, or a stranger.
func readOwner(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, uid fleet.InstanceUID, to *verdict.Roll) error {
	var owner verdict.Seat
	err := tx.QueryRowContext(ctx, `
		SELECT a.id, a.parent_id FROM agent_uids u JOIN agents a ON a.tenant_id = u.tenant_id AND a.id = u.agent_id
		WHERE u.tenant_id = ?1 AND u.instance_uid = ?2`, tenant, uid.String()).Scan(&owner.Agent, (*text)(&owner.Parent))
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fail("read whose uid it is", err)
	}
	if to.Seats[owner.Parent] != nil && to.Seats[owner.Agent] == nil {
		if err := readSeat(ctx, tx, tenant, owner.Agent, to); err != nil {
			return err
		}
	}
	to.Owners[uid] = &owner
	if seat := to.Seats[owner.Agent]; seat != nil {
		to.Owners[uid] = seat
	}
	return nil
}

// writeJudged writes what was judged.
func writeJudged(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, j verdict.Judged) error {
	for _, child := range j.Born {
		if err := putBorn(ctx, tx, child); err != nil {
			return err
		}
		if err := noteChanged(ctx, tx, tenant, []fleet.AgentID{child.ID}); err != nil {
			return err
		}
	}
	for _, b := range j.Bound {
		if err := bind(ctx, tx, tenant, b); err != nil {
			return err
		}
	}
	for _, s := range j.Seated {
		if err := seat(ctx, tx, tenant, s); err != nil {
			return err
		}
	}
	for _, agent := range j.Left {
		if _, err := tx.ExecContext(ctx, `DELETE FROM seats WHERE tenant_id = ?1 AND agent_id = ?2`, tenant, agent); err != nil {
			return fail("forget who else served the former session", err)
		}
	}
	for _, s := range j.Shared {
		if err := share(ctx, tx, tenant, s); err != nil {
			return err
		}
	}
	if err := noteCertificates(ctx, tx, tenant, j); err != nil {
		return err
	}
	for _, q := range j.Quarantined {
		if err := quarantine(ctx, tx, tenant, q); err != nil {
			return err
		}
	}
	return leaveTrail(ctx, tx, j)
}

// noteCertificates notes the first use of certificates, and those that were not shown before.
func noteCertificates(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, j verdict.Judged) error {
	for _, s := range j.Seen {
		_, err := tx.ExecContext(ctx, `UPDATE agents SET first_seen_at = ?3 WHERE tenant_id = ?1 AND id = ?2 AND first_seen_at IS NULL`,
			tenant, s.Agent, moment(s.Claim.At))
		if err != nil {
			return fail("note the first connection", err)
		}
	}
	for _, s := range j.Shown {
		if err := showCertificate(ctx, tx, tenant, s); err != nil {
			return err
		}
	}
	return nil
}

// leaveTrail tells what was judged: to the history, to the audit log, and of whom was refused.
func leaveTrail(ctx context.Context, tx *sql.Tx, j verdict.Judged) error {
	for _, e := range j.Events {
		if err := appendEvent(ctx, tx, e); err != nil {
			return err
		}
	}
	for _, told := range j.Entries {
		if err := appendAudit(ctx, tx, told.By, told.Entry); err != nil {
			return err
		}
	}
	for _, r := range j.Refusals {
		if err := countRefusal(ctx, tx, r); err != nil {
			return err
		}
	}
	return nil
}

// putBorn records an agent that another speaks for.
func putBorn(ctx context.Context, tx *sql.Tx, child fleet.Agent) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO agents (tenant_id, id, partition, enrolled_at, method, parent_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6)`,
		child.Tenant, child.ID, bus.PartitionOf(identity.AgentID(child.ID)), moment(child.EnrolledAt), child.Method, child.Parent)
	return fail("record the child", err)
}

// bind makes a uid its agent's, for good.
func bind(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, b verdict.Binding) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO agent_uids (tenant_id, instance_uid, agent_id, bound_at) VALUES (?1, ?2, ?3, ?4)`,
		tenant, b.Claim.UID.String(), b.Agent, moment(b.Claim.At))
	return fail("bind the uid", err)
}

// seat gives an agent its session, lets what is to be sent to it fall due, and wakes the engine for it. What was to close
// its former session is done.
func seat(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, s verdict.Seated) error {
	c := s.Claim
	_, err := tx.ExecContext(ctx, `
		UPDATE agents SET epoch = ?3, gateway_id = ?4, boot_id = ?5, transport = ?6, peer = ?7, serial = ?8,
			connected_at = ?9, last_seen_at = ?9, ended_at = NULL, end_reason = '', last_sequence = 0, state_known = ?12,
			takeovers = coalesce(?10, takeovers), instance_uid = ?11,
			former_epoch = ?13, former_gateway_id = ?14, former_boot_id = ?15, former_sequence = ?16,
			told_hour = ?17, told = ?18, untold = ?19
		WHERE tenant_id = ?1 AND id = ?2`,
		tenant, s.Agent, s.Epoch, c.Gateway, column.Bits(c.BootID), c.Transport, c.Peer, c.Serial, moment(c.At), momentsOrNull(s.Takeovers),
		s.UID.String(), s.StateKnown, s.Former.Epoch, s.Former.Gateway, column.Bits(s.Former.BootID), s.Former.Sequence,
		moment(s.Telling.Hour), s.Telling.Told, s.Telling.Untold)
	if err != nil {
		return fail("write the session", err)
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM outbox WHERE tenant_id = ?1 AND agent_id = ?2 AND kind IN ('close', 'restart')`, tenant, s.Agent)
	if err != nil {
		return fail("drop the close of the former session", err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE outbox SET due_at = min(due_at, ?3), tries = 0 WHERE tenant_id = ?1 AND agent_id = ?2`,
		tenant, s.Agent, moment(c.At))
	if err != nil {
		return fail("let dispatches fall due", err)
	}
	return wake(ctx, tx, tenant, c.At, map[fleet.AgentID]fleet.Traceparent{s.Agent: ""})
}

// share lets one gateway more serve the session of an agent that polls.
func share(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, s verdict.Seated) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO seats (tenant_id, agent_id, gateway_id, boot_id) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (tenant_id, agent_id, gateway_id) DO UPDATE SET boot_id = excluded.boot_id`,
		tenant, s.Agent, s.Claim.Gateway, column.Bits(s.Claim.BootID))
	return fail("share the session", err)
}

// quarantine refuses an agent from now on and closes the session that is open.
func quarantine(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, q verdict.Quarantined) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE agents SET quarantined_at = ?3, takeovers = ?4, attention = ?5 WHERE tenant_id = ?1 AND id = ?2`,
		tenant, q.Agent, moment(q.QuarantinedAt), momentsOrNull(q.Takeovers), asJSON(q.Attention))
	if err != nil {
		return fail("quarantine the agent", err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO outbox (tenant_id, agent_id, kind, reason, due_at) VALUES (?1, ?2, ?3, ?4, ?5)`+onDispatch,
		tenant, q.Agent, fleet.DispatchClose, fleet.RefusedQuarantined, moment(q.Claim.At))
	return fail("close the open session", err)
}

// momentsOrNull is a list of times as a parameter: JSON, NULL if nil.
func momentsOrNull(times []time.Time) any {
	if times == nil {
		return nil
	}
	micros := make([]int64, len(times))
	for i, t := range times {
		micros[i] = t.UnixMicro()
	}
	return asJSON(micros)
}

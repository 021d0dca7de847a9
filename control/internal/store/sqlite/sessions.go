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
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// RegisterGateway implements store.Sessions.
func (s *Store) RegisterGateway(ctx context.Context, g fleet.Gateway) error {
	return s.asWorker(ctx, func(tx *sql.Tx) error {
		done, err := changed(tx.ExecContext(ctx, `
			INSERT INTO gateways AS g (id, boot_id, version, started_at, lease_until) VALUES (?1, ?2, ?3, ?4, ?5)
			ON CONFLICT (id) DO UPDATE SET boot_id = excluded.boot_id, version = excluded.version,
				started_at = excluded.started_at, lease_until = excluded.lease_until, bus_lost = false
			WHERE g.revoked_at IS NULL`,
			g.ID, column.Bits(g.BootID), g.Version, moment(g.StartedAt), moment(g.LeaseUntil)))
		if err != nil {
			return fail("register the gateway", err)
		}
		if done == 0 {
			return fmt.Errorf("register the revoked gateway %s: %w", g.ID, store.ErrLeaseLost)
		}
		return resume(ctx, tx, g)
	})
}

// resume lets fall due what was parked for sessions that the gateway kept while its lease had ended.
func resume(ctx context.Context, tx *sql.Tx, g fleet.Gateway) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE outbox SET due_at = ?3 WHERE due_at = ?4 AND (tenant_id, agent_id) IN (
			SELECT tenant_id, id FROM agents WHERE gateway_id = ?1 AND boot_id = ?2 AND ended_at IS NULL AND epoch > 0)`,
		g.ID, column.Bits(g.BootID), moment(g.StartedAt), int64(never))
	return fail("resume the sessions of the gateway", err)
}

// ending is which sessions of a gateway end, why and when.
type ending struct {
	gateway fleet.GatewayID
	boot    uint64 // the process whose sessions end; 0: any
	reason  string
	at      time.Time
}

// endSessions ends sessions, of all tenants, that the gateway holds, and parks what was to be sent to them (see park).
func endSessions(ctx context.Context, tx *sql.Tx, e ending) error {
	open, err := list(ctx, tx, scanOpen, `
		SELECT tenant_id, id FROM agents
		WHERE gateway_id = ?1 AND (?2 = 0 OR boot_id = ?2) AND ended_at IS NULL AND epoch > 0 ORDER BY tenant_id, id`,
		e.gateway, column.Bits(e.boot))
	if err != nil {
		return fail("find the sessions of the gateway", err)
	}
	for _, a := range open {
		_, err := tx.ExecContext(ctx, `UPDATE agents SET ended_at = ?3, end_reason = ?4 WHERE tenant_id = ?1 AND id = ?2`,
			a.Tenant, a.ID, moment(e.at), e.reason)
		if err != nil {
			return fail("end the sessions of the gateway", err)
		}
		if err := park(ctx, tx, a.Tenant, a.ID); err != nil {
			return fail("park what was for the sessions of the gateway", err)
		}
		if err := appendEvent(ctx, tx, trail.Disconnected(a.Tenant, a.ID, e.gateway, e.reason, e.at)); err != nil {
			return err
		}
	}
	return nil
}

func scanOpen(row scanner) (a fleet.Agent, err error) {
	err = row.Scan(&a.Tenant, &a.ID)
	return a, err
}

// RenewLease implements store.Sessions. A lease that ran out is not renewed: its sessions were anybody's to claim since.
func (s *Store) RenewLease(ctx context.Context, r store.Renewal) error {
	return s.asWorker(ctx, func(tx *sql.Tx) error {
		renewed, err := changed(tx.ExecContext(ctx, `
			UPDATE gateways SET lease_until = ?4, bus_lost = ?5
			WHERE id = ?1 AND boot_id = ?2 AND lease_until > ?3 AND revoked_at IS NULL`,
			r.Gateway, column.Bits(r.BootID), moment(r.Now), moment(r.Until), r.BusLost))
		if err == nil && renewed == 0 {
			return fmt.Errorf("renew the lease of gateway %s: %w", r.Gateway, store.ErrLeaseLost)
		}
		return fail("renew the gateway's lease", err)
	})
}

// EndLost implements store.Sessions.
func (s *Store) EndLost(ctx context.Context, since, now time.Time) (ended int, err error) {
	err = s.asWorker(ctx, func(tx *sql.Tx) error {
		if err := moveShared(ctx, tx, now); err != nil {
			return err
		}
		lost, err := list(ctx, tx, scanLost, `
			SELECT a.gateway_id, a.boot_id, count(*) FROM agents a JOIN gateways g ON g.id = a.gateway_id
			WHERE a.epoch > 0 AND a.ended_at IS NULL
				AND CASE WHEN g.boot_id = a.boot_id THEN g.lease_until ELSE g.started_at END <= ?1
			GROUP BY a.gateway_id, a.boot_id`, moment(since))
		if err != nil {
			return fail("find the sessions of gateways that are lost", err)
		}
		for _, l := range lost {
			err := endSessions(ctx, tx, ending{gateway: l.Gateway, boot: l.BootID, reason: trail.EndGatewayLost, at: now})
			if err != nil {
				return err
			}
			ended += l.sessions
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return ended, nil
}

// moveShared gives sessions whose holder has no lease to a gateway that serves them too and has one.
func moveShared(ctx context.Context, tx *sql.Tx, now time.Time) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE agents SET gateway_id = heir.gateway_id, boot_id = heir.boot_id
		FROM (
			SELECT s.tenant_id, s.agent_id, min(s.gateway_id) AS gateway_id, g.boot_id FROM seats s
			JOIN gateways g ON g.id = s.gateway_id AND g.boot_id = s.boot_id AND g.lease_until > ?1
			GROUP BY s.tenant_id, s.agent_id
		) AS heir
		WHERE agents.tenant_id = heir.tenant_id AND agents.id = heir.agent_id AND agents.epoch > 0 AND agents.ended_at IS NULL
			AND NOT EXISTS (SELECT 1 FROM gateways g WHERE g.id = agents.gateway_id AND g.boot_id = agents.boot_id AND g.lease_until > ?1)`,
		moment(now))
	return fail("move sessions that others serve too", err)
}

// lost is a gateway process that is gone, with what it held.
type lost struct {
	verdict.Server
	sessions int
}

func scanLost(row scanner) (l lost, err error) {
	var boot int64
	err = row.Scan(&l.Gateway, &boot, &l.sessions)
	l.BootID = column.Unbits(boot)
	return l, err
}

// Standings implements store.Sessions.
func (s *Store) Standings(ctx context.Context, claims []fleet.Claim) ([]fleet.Standing, error) {
	standings := make([]fleet.Standing, len(claims))
	err := s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		for i, c := range claims {
			at := &standings[i]
			var boot int64
			err := tx.QueryRowContext(ctx, `
				SELECT id, transport, gateway_id, boot_id, epoch, epoch > 0 AND ended_at IS NULL FROM agents
				WHERE tenant_id = ?1 AND id = coalesce(
					(SELECT agent_id FROM agent_uids WHERE tenant_id = ?1 AND instance_uid = ?2), ?3)`,
				c.Tenant, c.UID.String(), c.Identity).Scan(&at.Agent, &at.Transport, &at.Gateway, &boot, &at.Epoch, &at.Open)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return fail("read who holds the agents", err)
			}
			at.BootID = column.Unbits(boot)
		}
		return nil
	})
	return standings, err
}

// Claim implements store.Sessions. The rules are verdict.OfClaim's.
func (s *Store) Claim(ctx context.Context, claims []fleet.Claim) ([]fleet.ClaimResult, error) {
	results := make([]fleet.ClaimResult, len(claims))
	err := s.asWorker(ctx, func(tx *sql.Tx) error {
		for i, c := range claims {
			if err := enter(ctx, tx, c.Tenant); err != nil {
				return err
			}
			if err := checkGateway(ctx, tx, c); err != nil {
				return err
			}
			on, err := claimed(ctx, tx, c)
			if err != nil {
				return err
			}
			if results[i], err = seat(ctx, tx, c, verdict.OfClaim(c, on)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

func checkGateway(ctx context.Context, tx *sql.Tx, c fleet.Claim) error {
	var alive bool
	err := tx.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM gateways WHERE id = ?1 AND boot_id = ?2 AND lease_until > ?3 AND revoked_at IS NULL)`,
		c.Gateway, column.Bits(c.BootID), moment(c.At)).Scan(&alive)
	if err == nil && !alive {
		return fmt.Errorf("claim at gateway %s: %w", c.Gateway, store.ErrLeaseLost)
	}
	return fail("read the gateway's lease", err)
}

// claimed reads what there is on record about the claim.
func claimed(ctx context.Context, tx *sql.Tx, c fleet.Claim) (on verdict.Claimed, err error) {
	certificate := fleet.Certificate{Tenant: c.Tenant, Serial: c.Serial}
	err = tx.QueryRowContext(ctx, `
		SELECT agent_id, fingerprint, revoked_at FROM certificates WHERE tenant_id = ?1 AND serial = ?2`,
		c.Tenant, c.Serial).Scan(&certificate.Agent, &certificate.Fingerprint, (*instant)(&certificate.RevokedAt))
	if errors.Is(err, sql.ErrNoRows) || err == nil && certificate.Agent != c.Identity {
		return on, nil // which the verdict refuses, without anything else being looked at
	}
	if err != nil {
		return on, fail("read the certificate", err)
	}
	on.Certificate = &certificate
	if on.Identity, err = readSeat(ctx, tx, c, c.Identity); err != nil {
		return on, err
	}
	if on.Owner, err = owner(ctx, tx, c, on.Identity); err != nil || on.Owner != nil || on.Identity.MaxChildren == 0 {
		return on, err
	}
	err = tx.QueryRowContext(ctx, `SELECT count(*) FROM agents WHERE tenant_id = ?1 AND parent_id = ?2`,
		c.Tenant, c.Identity).Scan(&on.Children)
	return on, fail("count the children", err)
}

// owner returns the agent that the uid is bound to.
func owner(ctx context.Context, tx *sql.Tx, c fleet.Claim, self *verdict.Seat) (*verdict.Seat, error) {
	bound, err := boundTo(ctx, tx, c)
	switch {
	case err != nil || bound == nil:
		return nil, err
	case bound.Agent == self.Agent:
		return self, nil
	case bound.Parent == self.Agent:
		return readSeat(ctx, tx, c, bound.Agent)
	default: // a stranger
		return bound, nil
	}
}

// boundTo returns agent and parent of a uid, nil if it is new.
func boundTo(ctx context.Context, tx *sql.Tx, c fleet.Claim) (*verdict.Seat, error) {
	var bound verdict.Seat
	err := tx.QueryRowContext(ctx, `
		SELECT a.id, a.parent_id FROM agent_uids u JOIN agents a ON a.tenant_id = u.tenant_id AND a.id = u.agent_id
		WHERE u.tenant_id = ?1 AND u.instance_uid = ?2`, c.Tenant, c.UID.String()).Scan(&bound.Agent, (*text)(&bound.Parent))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &bound, fail("read whose uid it is", err)
}

func readSeat(ctx context.Context, tx *sql.Tx, c fleet.Claim, id fleet.AgentID) (*verdict.Seat, error) {
	at := verdict.Seat{Agent: id}
	var takeovers []int64
	var boot int64
	err := tx.QueryRowContext(ctx, `
		SELECT a.method, a.parent_id, a.max_children, a.instance_uid,
		       a.quarantined_at, a.takeovers, a.attention, a.epoch, a.gateway_id, a.boot_id, a.transport,
		       a.last_sequence, a.state_known, a.epoch > 0 AND a.ended_at IS NULL,
		       a.epoch > 0 AND a.ended_at IS NULL AND EXISTS (
		           SELECT 1 FROM gateways g WHERE g.lease_until > ?3 AND (g.id = a.gateway_id AND g.boot_id = a.boot_id OR EXISTS (
		               SELECT 1 FROM seats s WHERE s.tenant_id = a.tenant_id AND s.agent_id = a.id
		                   AND s.gateway_id = g.id AND s.boot_id = g.boot_id)))
		FROM agents a WHERE a.tenant_id = ?1 AND a.id = ?2`,
		c.Tenant, id, moment(c.At)).Scan(
		&at.Method, (*text)(&at.Parent), &at.MaxChildren, (*uid)(&at.UID),
		(*instant)(&at.QuarantinedAt), document(&takeovers), document(&at.Attention), &at.Epoch, &at.Gateway, &boot, &at.Transport,
		&at.LastSequence, &at.StateKnown, &at.Open, &at.Alive)
	at.BootID = column.Unbits(boot)
	for _, micros := range takeovers {
		at.Takeovers = append(at.Takeovers, time.UnixMicro(micros).UTC())
	}
	return &at, fail("read the agent", err)
}

// seat writes what the verdict says and turns it into the claim's result.
func seat(ctx context.Context, tx *sql.Tx, c fleet.Claim, v verdict.Seating) (fleet.ClaimResult, error) {
	if v.NewChild {
		child, err := createChild(ctx, tx, c)
		if err != nil {
			return fleet.ClaimResult{}, err
		}
		v.Seat = &verdict.Seat{Agent: child, Method: fleet.EnrolledAsChild, UID: c.UID}
	}
	result := v.Result()
	switch v.Outcome {
	case fleet.ClaimHeld:
		return result, nil
	case fleet.ClaimClaimed:
		if v.Shared {
			return result, share(ctx, tx, c, v)
		}
		return result, sit(ctx, tx, c, v)
	default:
		if v.Quarantine {
			if err := quarantine(ctx, tx, c, v); err != nil {
				return result, err
			}
		}
		return result, countRefusal(ctx, tx, trail.Refusal(c, v.Reason))
	}
}

// createChild records an agent that the identity speaks for.
func createChild(ctx context.Context, tx *sql.Tx, c fleet.Claim) (fleet.AgentID, error) {
	minted := identity.NewAgentID()
	child, entry, enrolled := trail.Child(c, fleet.AgentID(minted))
	_, err := tx.ExecContext(ctx, `
		INSERT INTO agents (tenant_id, id, partition, enrolled_at, method, parent_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6)`,
		child.Tenant, child.ID, bus.PartitionOf(minted), moment(child.EnrolledAt), child.Method, child.Parent)
	if err != nil {
		return "", fail("record the child", err)
	}
	if err := appendEvent(ctx, tx, enrolled); err != nil {
		return "", err
	}
	return child.ID, appendAudit(ctx, tx, trail.Claimant(c), entry)
}

// share lets one gateway more serve the session of an agent that polls.
func share(ctx context.Context, tx *sql.Tx, c fleet.Claim, v verdict.Seating) error {
	if c.Gateway == v.Seat.Gateway && c.BootID == v.Seat.BootID {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO seats (tenant_id, agent_id, gateway_id, boot_id) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (tenant_id, agent_id, gateway_id) DO UPDATE SET boot_id = excluded.boot_id`,
		c.Tenant, v.Seat.Agent, c.Gateway, column.Bits(c.BootID))
	return fail("share the session", err)
}

// sit gives the agent its session under the next epoch. Of the former it keeps how far it counts.
func sit(ctx context.Context, tx *sql.Tx, c fleet.Claim, v verdict.Seating) error {
	agent := v.Seat.Agent
	if v.Bind {
		if err := bind(ctx, tx, c, agent); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE agents SET former_epoch = epoch, former_gateway_id = gateway_id, former_boot_id = boot_id, former_sequence = ?12,
			epoch = ?3, gateway_id = ?4, boot_id = ?5, transport = ?6, peer = ?7, serial = ?8,
			connected_at = ?9, last_seen_at = ?9, ended_at = NULL, end_reason = '', last_sequence = 0, state_known = ?13,
			takeovers = coalesce(?10, takeovers), instance_uid = ?11
		WHERE tenant_id = ?1 AND id = ?2`,
		c.Tenant, agent, v.Seat.Epoch+1, c.Gateway, column.Bits(c.BootID), c.Transport, c.Peer, c.Serial, moment(c.At), momentsOrNull(v.Takeovers),
		c.UID.String(), v.Sequence, v.Whole)
	if err != nil {
		return fail("write the session", err)
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM seats WHERE tenant_id = ?1 AND agent_id = ?2`, c.Tenant, agent); err != nil {
		return fail("forget who else served the former session", err)
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE agents SET first_seen_at = ?4 WHERE tenant_id = ?1 AND id IN (?2, ?3) AND first_seen_at IS NULL`,
		c.Tenant, agent, c.Identity, moment(c.At))
	if err != nil {
		return fail("note the first connection", err)
	}
	if err := unpark(ctx, tx, c, agent); err != nil {
		return err
	}
	if err := wake(ctx, tx, c.Tenant, c.At, map[fleet.AgentID]fleet.Traceparent{agent: ""}); err != nil {
		return err
	}
	return appendEvent(ctx, tx, trail.Connected(c, agent, v.Seat.Open))
}

// unpark lets what is to be sent to the agent fall due. What was to close its former session is done.
func unpark(ctx context.Context, tx *sql.Tx, c fleet.Claim, agent fleet.AgentID) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE tenant_id = ?1 AND agent_id = ?2 AND kind = 'close'`, c.Tenant, agent)
	if err != nil {
		return fail("drop the close of the former session", err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE outbox SET due_at = min(due_at, ?3), tries = 0 WHERE tenant_id = ?1 AND agent_id = ?2`,
		c.Tenant, agent, moment(c.At))
	return fail("let dispatches fall due", err)
}

// bind makes the uid the agent's, for good.
func bind(ctx context.Context, tx *sql.Tx, c fleet.Claim, agent fleet.AgentID) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO agent_uids (tenant_id, instance_uid, agent_id, bound_at) VALUES (?1, ?2, ?3, ?4)`,
		c.Tenant, c.UID.String(), agent, moment(c.At))
	return fail("bind the uid", err)
}

// quarantine refuses the agent from now on and closes the session that is open: nobody knows which of them is the clone.
func quarantine(ctx context.Context, tx *sql.Tx, c fleet.Claim, v verdict.Seating) error {
	remark, entry, event := trail.Quarantined(c, v.Seat.Agent)
	_, err := tx.ExecContext(ctx, `
		UPDATE agents SET quarantined_at = ?3, takeovers = ?4, attention = ?5 WHERE tenant_id = ?1 AND id = ?2`,
		c.Tenant, v.Seat.Agent, moment(c.At), momentsOrNull(v.Takeovers), asJSON(fleet.WithAttention(v.Seat.Attention, remark)))
	if err != nil {
		return fail("quarantine the agent", err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO outbox (tenant_id, agent_id, kind, reason, due_at) VALUES (?1, ?2, ?3, ?4, ?5)`+onDispatch,
		c.Tenant, v.Seat.Agent, fleet.DispatchClose, v.Reason, moment(c.At))
	if err != nil {
		return fail("close the open session", err)
	}
	if err := appendEvent(ctx, tx, event); err != nil {
		return err
	}
	return appendAudit(ctx, tx, fleet.System(c.Tenant, c.At), entry)
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

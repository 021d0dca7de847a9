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
		_, err := tx.ExecContext(ctx, `
			INSERT INTO gateways (id, boot_id, version, started_at, lease_until) VALUES (?1, ?2, ?3, ?4, ?5)
			ON CONFLICT (id) DO UPDATE SET boot_id = excluded.boot_id, version = excluded.version,
				started_at = excluded.started_at, lease_until = excluded.lease_until`,
			g.ID, column.Bits(g.BootID), g.Version, moment(g.StartedAt), moment(g.LeaseUntil))
		if err != nil {
			return fail("register the gateway", err)
		}
		if err := endEarlierBoots(ctx, tx, g); err != nil {
			return err
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

// endEarlierBoots ends the sessions, of all tenants, that the gateway held before it restarted, and parks what was to be
// sent to them (see park).
func endEarlierBoots(ctx context.Context, tx *sql.Tx, g fleet.Gateway) error {
	open, err := list(ctx, tx, scanOpen, `
		SELECT tenant_id, id FROM agents
		WHERE gateway_id = ?1 AND boot_id <> ?2 AND ended_at IS NULL AND epoch > 0 ORDER BY tenant_id, id`,
		g.ID, column.Bits(g.BootID))
	if err != nil {
		return fail("find the sessions of earlier boots", err)
	}
	for _, a := range open {
		_, err := tx.ExecContext(ctx, `UPDATE agents SET ended_at = ?3, end_reason = ?4 WHERE tenant_id = ?1 AND id = ?2`,
			a.Tenant, a.ID, moment(g.StartedAt), trail.EndGatewayRestarted)
		if err != nil {
			return fail("end the sessions of earlier boots", err)
		}
		if err := park(ctx, tx, a.Tenant, a.ID); err != nil {
			return fail("park what was for the sessions of earlier boots", err)
		}
		if err := appendEvent(ctx, tx, trail.Disconnected(a.Tenant, a.ID, g.ID, trail.EndGatewayRestarted, g.StartedAt)); err != nil {
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
func (s *Store) RenewLease(ctx context.Context, id fleet.GatewayID, boot uint64, now, until time.Time) error {
	return s.asWorker(ctx, func(tx *sql.Tx) error {
		renewed, err := changed(tx.ExecContext(ctx, `
			UPDATE gateways SET lease_until = ?4 WHERE id = ?1 AND boot_id = ?2 AND lease_until > ?3`,
			id, column.Bits(boot), moment(now), moment(until)))
		if err == nil && renewed == 0 {
			return fmt.Errorf("renew the lease of gateway %s: %w", id, store.ErrLeaseLost)
		}
		return fail("renew the gateway's lease", err)
	})
}

// Claim implements store.Sessions. The rules are verdict.OfClaim's.
func (s *Store) Claim(ctx context.Context, c fleet.Claim) (fleet.ClaimResult, error) {
	var result fleet.ClaimResult
	err := s.asWorker(ctx, func(tx *sql.Tx) error {
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
		result, err = seat(ctx, tx, c, verdict.OfClaim(c, on))
		return err
	})
	return result, err
}

func checkGateway(ctx context.Context, tx *sql.Tx, c fleet.Claim) error {
	var alive bool
	err := tx.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM gateways WHERE id = ?1 AND boot_id = ?2 AND lease_until > ?3)`,
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
	err := tx.QueryRowContext(ctx, `
		SELECT a.method, a.parent_id, a.max_children, a.instance_uid,
		       a.quarantined_at, a.takeovers, a.attention, a.epoch, a.gateway_id, a.last_sequence, a.state_known,
		       a.epoch > 0 AND a.ended_at IS NULL,
		       a.epoch > 0 AND a.ended_at IS NULL AND EXISTS (SELECT 1 FROM gateways g
		           WHERE g.id = a.gateway_id AND g.boot_id = a.boot_id AND g.lease_until > ?3)
		FROM agents a WHERE a.tenant_id = ?1 AND a.id = ?2`,
		c.Tenant, id, moment(c.At)).Scan(
		&at.Method, (*text)(&at.Parent), &at.MaxChildren, (*uid)(&at.UID),
		(*instant)(&at.QuarantinedAt), document(&takeovers), document(&at.Attention), &at.Epoch, &at.Gateway, &at.LastSequence, &at.StateKnown,
		&at.Open, &at.Alive)
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

// sit gives the agent its session under the next epoch.
func sit(ctx context.Context, tx *sql.Tx, c fleet.Claim, v verdict.Seating) error {
	agent := v.Seat.Agent
	if v.Bind {
		if err := bind(ctx, tx, c, agent); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE agents SET epoch = ?3, gateway_id = ?4, boot_id = ?5, transport = ?6, peer = ?7, serial = ?8,
			connected_at = ?9, last_seen_at = ?9, ended_at = NULL, end_reason = '', last_sequence = 0,
			takeovers = coalesce(?10, takeovers), instance_uid = ?11
		WHERE tenant_id = ?1 AND id = ?2`,
		c.Tenant, agent, v.Seat.Epoch+1, c.Gateway, column.Bits(c.BootID), c.Transport, c.Peer, c.Serial, moment(c.At), momentsOrNull(v.Takeovers),
		c.UID.String())
	if err != nil {
		return fail("write the session", err)
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

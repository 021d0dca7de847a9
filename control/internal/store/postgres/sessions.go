// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// RegisterGateway implements store.Sessions. It waits for claims of the gateway that are under way: they hold its row.
func (s *Store) RegisterGateway(ctx context.Context, g fleet.Gateway) error {
	return s.asWorker(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT FROM gateways WHERE id = $1 FOR UPDATE`, g.ID); err != nil {
			return fail("lock the gateway", err)
		}
		done, err := tx.Exec(ctx, `
			INSERT INTO gateways AS g (id, boot_id, version, started_at, lease_until) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (id) DO UPDATE SET boot_id = excluded.boot_id, version = excluded.version,
				started_at = excluded.started_at, lease_until = excluded.lease_until, bus_lost = false
			WHERE g.revoked_at IS NULL`,
			g.ID, column.Bits(g.BootID), g.Version, moment(g.StartedAt), moment(g.LeaseUntil))
		if err != nil {
			return fail("register the gateway", err)
		}
		if done.RowsAffected() == 0 {
			return fmt.Errorf("register the revoked gateway %s: %w", g.ID, store.ErrLeaseLost)
		}
		return resume(ctx, tx, g)
	})
}

// resume lets fall due what was parked for sessions that the gateway kept while its lease had ended. It locks their
// agents first: what is being parked meanwhile is seen by a query that begins after it.
func resume(ctx context.Context, tx pgx.Tx, g fleet.Gateway) error {
	_, err := tx.Exec(ctx, `
		SELECT FROM agents WHERE gateway_id = $1 AND boot_id = $2 AND ended_at IS NULL AND epoch > 0
		ORDER BY id FOR NO KEY UPDATE`, g.ID, column.Bits(g.BootID))
	if err != nil {
		return fail("lock the sessions of the gateway", err)
	}
	_, err = tx.Exec(ctx, `
		UPDATE outbox o SET due_at = $3 FROM agents a
		WHERE a.gateway_id = $1 AND a.boot_id = $2 AND a.ended_at IS NULL AND a.epoch > 0
			AND o.tenant_id = a.tenant_id AND o.agent_id = a.id AND o.due_at = 'infinity'`,
		g.ID, column.Bits(g.BootID), moment(g.StartedAt))
	return fail("resume the sessions of the gateway", err)
}

// ending is which sessions of a gateway end, why and when.
type ending struct {
	gateway fleet.GatewayID
	boot    uint64 // the process whose sessions end; 0: any
	reason  string
	at      time.Time
}

// endSessions ends sessions, of all tenants, that the gateway holds, and parks what was to be sent to them (see park). The
// gateway's row is locked, so that no other is claimed meanwhile.
func endSessions(ctx context.Context, tx pgx.Tx, e ending) error {
	of := trail.Disconnected("", "", e.gateway, e.reason, e.at)
	_, err := tx.Exec(ctx, `
		WITH gone AS (
			SELECT tenant_id, id FROM agents
			WHERE gateway_id = $1 AND ($2::bigint = 0 OR boot_id = $2) AND ended_at IS NULL AND epoch > 0
			ORDER BY id FOR NO KEY UPDATE
		), ended AS (
			UPDATE agents a SET ended_at = $3, end_reason = $4 FROM gone
			WHERE a.tenant_id = gone.tenant_id AND a.id = gone.id
			RETURNING a.tenant_id, a.id
		), parked AS (
			UPDATE outbox o SET due_at = 'infinity' FROM ended
			WHERE o.tenant_id = ended.tenant_id AND o.agent_id = ended.id AND o.kind <> 'close'
		), closed AS (
			DELETE FROM outbox o USING ended
			WHERE o.tenant_id = ended.tenant_id AND o.agent_id = ended.id AND o.kind = 'close'
		)
		INSERT INTO events (tenant_id, at, kind, agent_id, message, attributes)
		SELECT tenant_id, $3, $5, id, $6, $7 FROM ended`,
		e.gateway, column.Bits(e.boot), moment(e.at), e.reason, of.Kind, of.Message, of.Attributes)
	return fail("end the sessions of the gateway", err)
}

// EndLost implements store.Sessions.
func (s *Store) EndLost(ctx context.Context, since, now time.Time) (ended int, err error) {
	err = s.asWorker(ctx, func(tx pgx.Tx) error {
		if err := moveShared(ctx, tx, now); err != nil {
			return err
		}
		lost, err := list(ctx, tx, scanLost, `
			SELECT a.gateway_id, a.boot_id, count(*) FROM agents a JOIN gateways g ON g.id = a.gateway_id
			WHERE a.epoch > 0 AND a.ended_at IS NULL
				AND CASE WHEN g.boot_id = a.boot_id THEN g.lease_until ELSE g.started_at END <= $1
			GROUP BY a.gateway_id, a.boot_id ORDER BY a.gateway_id, a.boot_id`, moment(since))
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
func moveShared(ctx context.Context, tx pgx.Tx, now time.Time) error {
	_, err := tx.Exec(ctx, `
		UPDATE agents a SET gateway_id = heir.gateway_id, boot_id = heir.boot_id
		FROM (
			SELECT DISTINCT ON (s.tenant_id, s.agent_id) s.* FROM seats s
			JOIN gateways g ON g.id = s.gateway_id AND g.boot_id = s.boot_id AND g.lease_until > $1
			ORDER BY s.tenant_id, s.agent_id, s.gateway_id
		) AS heir
		WHERE a.tenant_id = heir.tenant_id AND a.id = heir.agent_id AND a.epoch > 0 AND a.ended_at IS NULL
			AND NOT EXISTS (SELECT FROM gateways g WHERE g.id = a.gateway_id AND g.boot_id = a.boot_id AND g.lease_until > $1)`,
		moment(now))
	return fail("move sessions that others serve too", err)
}

// lost is a gateway process that is gone, with what it held.
type lost struct {
	verdict.Server
	sessions int
}

func scanLost(row pgx.Row) (l lost, err error) {
	var boot int64
	err = row.Scan(&l.Gateway, &boot, &l.sessions)
	l.BootID = column.Unbits(boot)
	return l, err
}

// RenewLease implements store.Sessions. A lease that ran out is not renewed: its sessions were anybody's to claim since.
func (s *Store) RenewLease(ctx context.Context, r store.Renewal) error {
	return s.asWorker(ctx, func(tx pgx.Tx) error {
		renewed, err := tx.Exec(ctx, `
			UPDATE gateways SET lease_until = $4, bus_lost = $5
			WHERE id = $1 AND boot_id = $2 AND lease_until > $3 AND revoked_at IS NULL`,
			r.Gateway, column.Bits(r.BootID), moment(r.Now), moment(r.Until), r.BusLost)
		if err == nil && renewed.RowsAffected() == 0 {
			return fmt.Errorf("renew the lease of gateway %s: %w", r.Gateway, store.ErrLeaseLost)
		}
		return fail("renew the gateway's lease", err)
	})
}

// Standings implements store.Sessions.
func (s *Store) Standings(ctx context.Context, claims []fleet.Claim) ([]fleet.Standing, error) {
	standings := make([]fleet.Standing, len(claims))
	err := s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		for tenant, places := range byTenant(claims) {
			if err := enter(ctx, tx, tenant); err != nil {
				return err
			}
			if err := standingsOf(ctx, tx, tenant, claims, places, standings); err != nil {
				return err
			}
		}
		return nil
	})
	return standings, err
}

func byTenant(claims []fleet.Claim) map[fleet.TenantID][]int {
	places := map[fleet.TenantID][]int{}
	for i, c := range claims {
		places[c.Tenant] = append(places[c.Tenant], i)
	}
	return places
}

func standingsOf(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, claims []fleet.Claim, places []int, into []fleet.Standing) error {
	identities, uids := make([]fleet.AgentID, len(places)), make([]string, len(places))
	for n, i := range places {
		identities[n], uids[n] = claims[i].Identity, claims[i].UID.String()
	}
	scan := func(row pgx.Row) (n int, err error) {
		var at fleet.Standing
		var boot int64
		if err = row.Scan(&n, &at.Agent, &at.Transport, &at.Gateway, &boot, &at.Epoch, &at.Open); err == nil {
			at.BootID = column.Unbits(boot)
			into[places[n-1]] = at
		}
		return n, err
	}
	_, err := list(ctx, tx, scan, `
		SELECT q.n, a.id, a.transport, a.gateway_id, a.boot_id, a.epoch, a.epoch > 0 AND a.ended_at IS NULL
		FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY AS q (identity, uid, n)
		LEFT JOIN agent_uids u ON u.tenant_id = $1 AND u.instance_uid = q.uid
		JOIN agents a ON a.tenant_id = $1 AND a.id = coalesce(u.agent_id, q.identity)`,
		tenant, identities, uids)
	return fail("read who holds the agents", err)
}

// Claim implements store.Sessions. The rules are verdict.OfClaim's. It runs as the worker, which may lock the gateway's
// row: registering the gateway anew waits for it, renewing its lease does not. All claims of a tenant are one transaction,
// one after the other in the order of their identities, in which every batch locks them.
func (s *Store) Claim(ctx context.Context, claims []fleet.Claim) ([]fleet.ClaimResult, error) {
	results := make([]fleet.ClaimResult, len(claims))
	for tenant, places := range byTenant(claims) {
		slices.SortStableFunc(places, func(a, b int) int { return cmp.Compare(claims[a].Identity, claims[b].Identity) })
		err := s.asWorker(ctx, func(tx pgx.Tx) error {
			if err := enter(ctx, tx, tenant); err != nil {
				return err
			}
			if err := lockGateway(ctx, tx, claims[places[0]]); err != nil {
				return err
			}
			for _, i := range places {
				on, err := claimed(ctx, tx, claims[i])
				if err != nil {
					return err
				}
				if results[i], err = seat(ctx, tx, claims[i], verdict.OfClaim(claims[i], on)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

func lockGateway(ctx context.Context, tx pgx.Tx, c fleet.Claim) error {
	alive, err := tx.Exec(ctx, `
		SELECT FROM gateways WHERE id = $1 AND boot_id = $2 AND lease_until > $3 AND revoked_at IS NULL FOR KEY SHARE`,
		c.Gateway, column.Bits(c.BootID), moment(c.At))
	if err == nil && alive.RowsAffected() == 0 {
		return fmt.Errorf("claim at gateway %s: %w", c.Gateway, store.ErrLeaseLost)
	}
	return fail("read the gateway's lease", err)
}

// claimed reads what there is on record about the claim and locks the rows of the agents it may change: the identity's
// first, so that claims over one certificate stand in line.
func claimed(ctx context.Context, tx pgx.Tx, c fleet.Claim) (on verdict.Claimed, err error) {
	certificate := fleet.Certificate{Tenant: c.Tenant, Serial: c.Serial}
	err = tx.QueryRow(ctx, `
		SELECT agent_id, fingerprint, revoked_at FROM certificates WHERE tenant_id = $1 AND serial = $2`,
		c.Tenant, c.Serial).Scan(&certificate.Agent, &certificate.Fingerprint, (*instant)(&certificate.RevokedAt))
	if errors.Is(err, pgx.ErrNoRows) || err == nil && certificate.Agent != c.Identity {
		return on, nil // which the verdict refuses, without anything else being looked at
	}
	if err != nil {
		return on, fail("read the certificate", err)
	}
	on.Certificate = &certificate
	if on.Identity, err = lockSeat(ctx, tx, c, c.Identity); err != nil {
		return on, err
	}
	if on.Owner, err = owner(ctx, tx, c, on.Identity); err != nil || on.Owner != nil || on.Identity.MaxChildren == 0 {
		return on, err
	}
	err = tx.QueryRow(ctx, `SELECT count(*) FROM agents WHERE tenant_id = $1 AND parent_id = $2`,
		c.Tenant, c.Identity).Scan(&on.Children)
	return on, fail("count the children", err)
}

// owner returns the agent that the uid is bound to. A uid that is not bound yet is locked by name: of two identities that
// come with the same new uid, the second finds it taken.
func owner(ctx context.Context, tx pgx.Tx, c fleet.Claim, self *verdict.Seat) (*verdict.Seat, error) {
	bound, err := boundTo(ctx, tx, c)
	if err == nil && bound == nil {
		if _, err = tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, string(c.Tenant)+"/uid/"+c.UID.String()); err != nil {
			return nil, fail("lock the uid", err)
		}
		bound, err = boundTo(ctx, tx, c)
	}
	switch {
	case err != nil || bound == nil:
		return nil, err
	case bound.Agent == self.Agent:
		return self, nil
	case bound.Parent == self.Agent:
		return lockSeat(ctx, tx, c, bound.Agent)
	default: // a stranger, whose row is not locked: two that come with each other's uid would wait for each other
		return bound, nil
	}
}

// boundTo returns agent and parent of a uid, nil if it is new.
func boundTo(ctx context.Context, tx pgx.Tx, c fleet.Claim) (*verdict.Seat, error) {
	var bound verdict.Seat
	err := tx.QueryRow(ctx, `
		SELECT a.id, a.parent_id FROM agent_uids u JOIN agents a ON a.tenant_id = u.tenant_id AND a.id = u.agent_id
		WHERE u.tenant_id = $1 AND u.instance_uid = $2`, c.Tenant, c.UID.String()).Scan(&bound.Agent, (*text)(&bound.Parent))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &bound, fail("read whose uid it is", err)
}

func lockSeat(ctx context.Context, tx pgx.Tx, c fleet.Claim, id fleet.AgentID) (*verdict.Seat, error) {
	at := verdict.Seat{Agent: id}
	var boot int64
	err := tx.QueryRow(ctx, `
		SELECT a.method, a.parent_id, a.max_children, coalesce(a.instance_uid, '00000000-0000-0000-0000-000000000000'),
		       a.quarantined_at, a.takeovers, a.attention, a.epoch, a.gateway_id, a.boot_id, a.transport,
		       a.last_sequence, a.state_known, a.epoch > 0 AND a.ended_at IS NULL,
		       a.epoch > 0 AND a.ended_at IS NULL AND EXISTS (
		           SELECT FROM gateways g WHERE g.lease_until > $3 AND (g.id = a.gateway_id AND g.boot_id = a.boot_id OR EXISTS (
		               SELECT FROM seats s WHERE s.tenant_id = a.tenant_id AND s.agent_id = a.id
		                   AND s.gateway_id = g.id AND s.boot_id = g.boot_id)))
		FROM agents a WHERE a.tenant_id = $1 AND a.id = $2 FOR NO KEY UPDATE OF a`,
		c.Tenant, id, moment(c.At)).Scan(
		&at.Method, (*text)(&at.Parent), &at.MaxChildren, (*[16]byte)(&at.UID),
		(*instant)(&at.QuarantinedAt), &at.Takeovers, &at.Attention, &at.Epoch, &at.Gateway, &boot, &at.Transport,
		&at.LastSequence, &at.StateKnown, &at.Open, &at.Alive)
	at.BootID = column.Unbits(boot)
	return &at, fail("lock the agent", err)
}

// seat writes what the verdict says and turns it into the claim's result.
func seat(ctx context.Context, tx pgx.Tx, c fleet.Claim, v verdict.Seating) (fleet.ClaimResult, error) {
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
func createChild(ctx context.Context, tx pgx.Tx, c fleet.Claim) (fleet.AgentID, error) {
	minted := identity.NewAgentID()
	child, entry, enrolled := trail.Child(c, fleet.AgentID(minted))
	_, err := tx.Exec(ctx, `
		INSERT INTO agents (tenant_id, id, partition, enrolled_at, method, parent_id) VALUES ($1, $2, $3, $4, $5, $6)`,
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
func share(ctx context.Context, tx pgx.Tx, c fleet.Claim, v verdict.Seating) error {
	if c.Gateway == v.Seat.Gateway && c.BootID == v.Seat.BootID {
		return nil
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO seats (tenant_id, agent_id, gateway_id, boot_id) VALUES ($1, $2, $3, $4)
		ON CONFLICT (tenant_id, agent_id, gateway_id) DO UPDATE SET boot_id = excluded.boot_id`,
		c.Tenant, v.Seat.Agent, c.Gateway, column.Bits(c.BootID))
	return fail("share the session", err)
}

// sit gives the agent its session under the next epoch. Of the former it keeps how far it counts.
func sit(ctx context.Context, tx pgx.Tx, c fleet.Claim, v verdict.Seating) error {
	agent := v.Seat.Agent
	if v.Bind {
		if err := bind(ctx, tx, c, agent); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `
		UPDATE agents SET former_epoch = epoch, former_gateway_id = gateway_id, former_boot_id = boot_id, former_sequence = $12,
			epoch = $3, gateway_id = $4, boot_id = $5, transport = $6, peer = $7, serial = $8,
			connected_at = $9, last_seen_at = $9, ended_at = NULL, end_reason = '', last_sequence = 0, state_known = $13,
			takeovers = coalesce($10, takeovers), instance_uid = $11
		WHERE tenant_id = $1 AND id = $2`,
		c.Tenant, agent, v.Seat.Epoch+1, c.Gateway, column.Bits(c.BootID), c.Transport, c.Peer, c.Serial, moment(c.At), v.Takeovers,
		c.UID.String(), v.Sequence, v.Whole)
	if err == nil && v.Seat.Transport == fleet.TransportHTTP {
		_, err = tx.Exec(ctx, `DELETE FROM seats WHERE tenant_id = $1 AND agent_id = $2`, c.Tenant, agent)
	}
	if err != nil {
		return fail("write the session", err)
	}
	_, err = tx.Exec(ctx, `
		UPDATE agents SET first_seen_at = $4 WHERE tenant_id = $1 AND id IN ($2, $3) AND first_seen_at IS NULL`,
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
func unpark(ctx context.Context, tx pgx.Tx, c fleet.Claim, agent fleet.AgentID) error {
	_, err := tx.Exec(ctx, `
		WITH done AS (DELETE FROM outbox WHERE tenant_id = $1 AND agent_id = $2 AND kind = 'close')
		UPDATE outbox SET due_at = least(due_at, $3), tries = 0 WHERE tenant_id = $1 AND agent_id = $2 AND kind <> 'close'`,
		c.Tenant, agent, moment(c.At))
	return fail("let dispatches fall due", err)
}

// bind makes the uid the agent's, for good.
func bind(ctx context.Context, tx pgx.Tx, c fleet.Claim, agent fleet.AgentID) error {
	_, err := tx.Exec(ctx, `INSERT INTO agent_uids (tenant_id, instance_uid, agent_id, bound_at) VALUES ($1, $2, $3, $4)`,
		c.Tenant, c.UID.String(), agent, moment(c.At))
	return fail("bind the uid", err)
}

// quarantine refuses the agent from now on and closes the session that is open: nobody knows which of them is the clone.
func quarantine(ctx context.Context, tx pgx.Tx, c fleet.Claim, v verdict.Seating) error {
	remark, entry, event := trail.Quarantined(c, v.Seat.Agent)
	_, err := tx.Exec(ctx, `
		UPDATE agents SET quarantined_at = $3, takeovers = $4, attention = $5 WHERE tenant_id = $1 AND id = $2`,
		c.Tenant, v.Seat.Agent, moment(c.At), v.Takeovers, fleet.WithAttention(v.Seat.Attention, remark))
	if err != nil {
		return fail("quarantine the agent", err)
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO outbox (tenant_id, agent_id, kind, reason, due_at) VALUES ($1, $2, $3, $4, $5)`+onDispatch,
		c.Tenant, v.Seat.Agent, fleet.DispatchClose, v.Reason, moment(c.At))
	if err != nil {
		return fail("close the open session", err)
	}
	if err := appendEvent(ctx, tx, event); err != nil {
		return err
	}
	return appendAudit(ctx, tx, fleet.System(c.Tenant, c.At), entry)
}

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
)

// RegisterGateway implements store.Sessions.
func (s *Store) RegisterGateway(ctx context.Context, g fleet.Gateway) error {
	return s.asWorker(ctx, func(tx *sql.Tx) error {
		done, err := changed(tx.ExecContext(ctx, `
			INSERT INTO gateways AS g (id, boot_id, version, started_at, lease_until) VALUES (?1, ?2, ?3, ?4, ?5)
			ON CONFLICT (id) DO UPDATE SET boot_id = excluded.boot_id, version = excluded.version,
				started_at = excluded.started_at, lease_until = excluded.lease_until, bus_lost = false, trust_generation = 0
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

// resume lets fall due what was put off for sessions that the gateway kept while its lease had ended.
func resume(ctx context.Context, tx *sql.Tx, g fleet.Gateway) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE outbox SET due_at = min(due_at, ?3) WHERE (tenant_id, agent_id) IN (
			SELECT tenant_id, id FROM agents WHERE gateway_id = ?1 AND boot_id = ?2 AND ended_at IS NULL AND epoch > 0)`,
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

// endSessions ends sessions, of all tenants, that the gateway holds, and parks what was to be sent to them (see park); the
// engine is woken for those that a rollout looks at.
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
		if err := wakeWatched(ctx, tx, a.Tenant, e.at, a.ID); err != nil {
			return err
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
			UPDATE gateways SET lease_until = ?4, bus_lost = ?5, trust_generation = ?6
			WHERE id = ?1 AND boot_id = ?2 AND lease_until > ?3 AND revoked_at IS NULL`,
			r.Gateway, column.Bits(r.BootID), moment(r.Now), moment(r.Until), r.BusLost, r.Trust))
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

// moveShared gives sessions whose holder has no lease to a gateway that serves them too and has one, and lets fall due
// what was put off for them, as resume does.
func moveShared(ctx context.Context, tx *sql.Tx, now time.Time) error {
	moved, err := list(ctx, tx, scanOpen, `
		UPDATE agents SET gateway_id = heir.gateway_id, boot_id = heir.boot_id
		FROM (
			SELECT s.tenant_id, s.agent_id, min(s.gateway_id) AS gateway_id, g.boot_id FROM seats s
			JOIN gateways g ON g.id = s.gateway_id AND g.boot_id = s.boot_id AND g.lease_until > ?1
			GROUP BY s.tenant_id, s.agent_id
		) AS heir
		WHERE agents.tenant_id = heir.tenant_id AND agents.id = heir.agent_id AND agents.epoch > 0 AND agents.ended_at IS NULL
			AND NOT EXISTS (SELECT 1 FROM gateways g WHERE g.id = agents.gateway_id AND g.boot_id = agents.boot_id AND g.lease_until > ?1)
		RETURNING agents.tenant_id, agents.id`,
		moment(now))
	if err != nil {
		return fail("move sessions that others serve too", err)
	}
	for _, a := range moved {
		_, err := tx.ExecContext(ctx, `UPDATE outbox SET due_at = min(due_at, ?3) WHERE tenant_id = ?1 AND agent_id = ?2`,
			a.Tenant, a.ID, moment(now))
		if err != nil {
			return fail("let dispatches fall due", err)
		}
	}
	return nil
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

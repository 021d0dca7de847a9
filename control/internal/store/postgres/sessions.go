// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
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
				started_at = excluded.started_at, lease_until = excluded.lease_until, bus_lost = false, trust_generation = 0
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

// resume lets fall due what was put off for sessions that the gateway kept while its lease had ended. It writes every row,
// whatever its time seems to be: a sender that puts one off at this moment is waited for, and written over.
func resume(ctx context.Context, tx pgx.Tx, g fleet.Gateway) error {
	_, err := tx.Exec(ctx, `
		SELECT FROM agents WHERE gateway_id = $1 AND boot_id = $2 AND ended_at IS NULL AND epoch > 0
		ORDER BY tenant_id, id FOR NO KEY UPDATE`, g.ID, column.Bits(g.BootID))
	if err != nil {
		return fail("lock the sessions of the gateway", err)
	}
	_, err = tx.Exec(ctx, `
		WITH put_off AS (
			SELECT o.tenant_id, o.agent_id, o.kind
			FROM agents a JOIN outbox o ON o.tenant_id = a.tenant_id AND o.agent_id = a.id
			WHERE a.gateway_id = $1 AND a.boot_id = $2 AND a.ended_at IS NULL AND a.epoch > 0
			ORDER BY o.tenant_id, o.agent_id, o.kind FOR UPDATE OF o
		)
		UPDATE outbox o SET due_at = least(o.due_at, $3) FROM put_off p
		WHERE o.tenant_id = p.tenant_id AND o.agent_id = p.agent_id AND o.kind = p.kind`,
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

// endSessions ends sessions, of all tenants, that the gateway holds, and parks what was to be sent to them (see queueRequests); the
// engine is woken for those that a rollout looks at. The gateway's row is locked, so that no other is claimed meanwhile.
func endSessions(ctx context.Context, tx pgx.Tx, e ending) error {
	of := trail.Disconnected("", "", e.gateway, e.reason, e.at)
	_, err := tx.Exec(ctx, `
		WITH gone AS (
			SELECT tenant_id, id FROM agents
			WHERE gateway_id = $1 AND ($2::bigint = 0 OR boot_id = $2) AND ended_at IS NULL AND epoch > 0
			ORDER BY tenant_id, id FOR NO KEY UPDATE
		), ended AS (
			UPDATE agents a SET ended_at = $3, end_reason = $4 FROM gone
			WHERE a.tenant_id = gone.tenant_id AND a.id = gone.id
			RETURNING a.tenant_id, a.id
		), parked AS (
			UPDATE outbox o SET due_at = 'infinity' FROM ended
			WHERE o.tenant_id = ended.tenant_id AND o.agent_id = ended.id AND o.kind NOT IN ('close', 'restart')
		), closed AS (
			DELETE FROM outbox o USING ended
			WHERE o.tenant_id = ended.tenant_id AND o.agent_id = ended.id AND o.kind IN ('close', 'restart')
		), watched AS (
			INSERT INTO work (tenant_id, agent_id, wake_at)
			SELECT DISTINCT m.tenant_id, m.agent_id, $3::timestamptz FROM ended
			JOIN rollout_members m ON m.tenant_id = ended.tenant_id AND m.agent_id = ended.id AND m.watched
			ORDER BY m.tenant_id, m.agent_id`+onWake+`
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

// moveShared gives sessions whose holder has no lease to a gateway that serves them too and has one, and lets fall due
// what was put off for them, as resume does.
func moveShared(ctx context.Context, tx pgx.Tx, now time.Time) error {
	_, err := tx.Exec(ctx, `
		WITH moved AS (
			UPDATE agents a SET gateway_id = heir.gateway_id, boot_id = heir.boot_id
			FROM (
				SELECT DISTINCT ON (s.tenant_id, s.agent_id) s.* FROM seats s
				JOIN gateways g ON g.id = s.gateway_id AND g.boot_id = s.boot_id AND g.lease_until > $1
				ORDER BY s.tenant_id, s.agent_id, s.gateway_id
			) AS heir
			WHERE a.tenant_id = heir.tenant_id AND a.id = heir.agent_id AND a.epoch > 0 AND a.ended_at IS NULL
				AND NOT EXISTS (SELECT FROM gateways g WHERE g.id = a.gateway_id AND g.boot_id = a.boot_id AND g.lease_until > $1)
			RETURNING a.tenant_id, a.id
		)
		UPDATE outbox o SET due_at = least(o.due_at, $1) FROM moved WHERE o.tenant_id = moved.tenant_id AND o.agent_id = moved.id`,
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
			UPDATE gateways SET lease_until = $4, bus_lost = $5, trust_generation = $6
			WHERE id = $1 AND boot_id = $2 AND lease_until > $3 AND revoked_at IS NULL`,
			r.Gateway, column.Bits(r.BootID), moment(r.Now), moment(r.Until), r.BusLost, r.Trust)
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
		for _, part := range verdict.ClaimsByTenant(claims) {
			if err := enter(ctx, tx, part.Tenant); err != nil {
				return err
			}
			if err := standingsOf(ctx, tx, part, standings); err != nil {
				return err
			}
		}
		return nil
	})
	return standings, err
}

func standingsOf(ctx context.Context, tx pgx.Tx, claims verdict.Claims, into []fleet.Standing) error {
	scan := func(row pgx.Row) (n int, err error) {
		var at fleet.Standing
		var boot int64
		if err = row.Scan(&n, &at.Agent, &at.Transport, &at.Gateway, &boot, &at.Epoch, &at.Open); err == nil {
			at.BootID = column.Unbits(boot)
			into[claims.Places[n-1]] = at
		}
		return n, err
	}
	_, err := list(ctx, tx, scan, `
		SELECT q.n, a.id, a.transport, a.gateway_id, a.boot_id, a.epoch, a.epoch > 0 AND a.ended_at IS NULL
		FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY AS q (identity, uid, n)
		LEFT JOIN agent_uids u ON u.tenant_id = $1 AND u.instance_uid = q.uid
		JOIN agents a ON a.tenant_id = $1 AND a.id = coalesce(u.agent_id, q.identity)`,
		claims.Tenant, ids(claims.List, func(c fleet.Claim) fleet.AgentID { return c.Identity }),
		array(claims.List, func(c fleet.Claim) [16]byte { return c.UID }))
	return fail("read who holds the agents", err)
}

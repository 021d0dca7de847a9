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
)

// RegisterGateway implements store.Sessions. It waits for claims of the gateway that are under way (they hold its row),
// so that none of an earlier boot is left open.
func (s *Store) RegisterGateway(ctx context.Context, g fleet.Gateway) error {
	return s.asWorker(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT FROM gateways WHERE id = $1 FOR UPDATE`, g.ID); err != nil {
			return fail("lock the gateway", err)
		}
		_, err := tx.Exec(ctx, `
			INSERT INTO gateways (id, boot_id, version, started_at, lease_until) VALUES ($1, $2, $3, $4, $5)
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

// endEarlierBoots ends the sessions, of all tenants, that the gateway held before it restarted, and parks what was to be
// sent to them (see queueRequests).
func endEarlierBoots(ctx context.Context, tx pgx.Tx, g fleet.Gateway) error {
	of := trail.Disconnected("", "", g.ID, trail.EndGatewayRestarted, g.StartedAt)
	_, err := tx.Exec(ctx, `
		WITH gone AS (
			SELECT tenant_id, id FROM agents
			WHERE gateway_id = $1 AND boot_id <> $2 AND ended_at IS NULL AND epoch > 0
			ORDER BY tenant_id, id FOR NO KEY UPDATE
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
		g.ID, column.Bits(g.BootID), moment(g.StartedAt), trail.EndGatewayRestarted, of.Kind, of.Message, of.Attributes)
	return fail("end the sessions of earlier boots", err)
}

// RenewLease implements store.Sessions. A lease that ran out is not renewed: its sessions were anybody's to claim since.
func (s *Store) RenewLease(ctx context.Context, id fleet.GatewayID, boot uint64, now, until time.Time) error {
	return s.asWorker(ctx, func(tx pgx.Tx) error {
		renewed, err := tx.Exec(ctx, `
			UPDATE gateways SET lease_until = $4 WHERE id = $1 AND boot_id = $2 AND lease_until > $3`,
			id, column.Bits(boot), moment(now), moment(until))
		if err == nil && renewed.RowsAffected() == 0 {
			return fmt.Errorf("renew the lease of gateway %s: %w", id, store.ErrLeaseLost)
		}
		return fail("renew the gateway's lease", err)
	})
}

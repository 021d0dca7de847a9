// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
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

// resume lets fall due what was put off for sessions that the gateway kept while its lease had ended.
func resume(ctx context.Context, tx *sql.Tx, g fleet.Gateway) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE outbox SET due_at = min(due_at, ?3) WHERE (tenant_id, agent_id) IN (
			SELECT tenant_id, id FROM agents WHERE gateway_id = ?1 AND boot_id = ?2 AND ended_at IS NULL AND epoch > 0)`,
		g.ID, column.Bits(g.BootID), moment(g.StartedAt))
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

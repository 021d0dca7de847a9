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
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// DueDrift implements store.Drift.
func (s *Store) DueDrift(ctx context.Context, now time.Time, max int) (due []fleet.DriftLook, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		due, err = list(ctx, tx, scanDriftLook, `
			SELECT d.tenant_id, d.agent_id, d.version, d.state, coalesce(r.body_hash, v.body_hash), coalesce(c.kind, ''), p.value
			FROM agent_drift d
			LEFT JOIN grants g ON g.tenant_id = d.tenant_id AND g.agent_id = d.agent_id AND g.state = 'met'
			LEFT JOIN config_versions v ON v.tenant_id = g.tenant_id AND v.config_id = g.config_id AND v.version = g.version
			LEFT JOIN configs c ON c.tenant_id = v.tenant_id AND c.id = v.config_id
			LEFT JOIN renderings r ON r.tenant_id = g.tenant_id AND r.offer_hash = g.offer_hash
			LEFT JOIN agent_parts p ON p.tenant_id = d.tenant_id AND p.agent_id = d.agent_id AND p.kind = 'effective_config'
			WHERE d.look_at <= ?1 ORDER BY d.look_at LIMIT ?2`, moment(now), max)
		return fail("read what is to be compared", err)
	})
	return due, err
}

func scanDriftLook(row scanner) (l fleet.DriftLook, err error) {
	err = row.Scan(&l.Tenant, &l.Agent, &l.Version, &l.Was, (*hash)(&l.Assigned), &l.Kind, document(&l.Effective))
	return l, err
}

// PutDrift implements store.Drift.
func (s *Store) PutDrift(ctx context.Context, tenant fleet.TenantID, found []store.DriftVerdict, at time.Time) (n int, err error) {
	err = s.inTenant(ctx, tenant, func(tx *sql.Tx) error {
		versions := make(map[fleet.AgentID]int64, len(found))
		for _, f := range found {
			var version int64
			err := tx.QueryRowContext(ctx, "SELECT version FROM agent_drift WHERE tenant_id = ?1 AND agent_id = ?2", tenant, f.On.Agent).Scan(&version)
			switch {
			case err == nil:
				versions[f.On.Agent] = version
			case !errors.Is(err, sql.ErrNoRows):
				return fail("read what is compared", err)
			}
		}
		todo, events := verdict.OfDrift(found, versions, at)
		n = len(todo)
		for _, f := range todo {
			_, err := tx.ExecContext(ctx, `
				UPDATE agent_drift SET look_at = ?7, looked_at = ?3, changes = ?5, summary = ?6, state = ?4,
					since = CASE WHEN state = ?4 THEN coalesce(since, ?3) ELSE ?3 END
				WHERE tenant_id = ?1 AND agent_id = ?2`,
				tenant, f.On.Agent, moment(at), f.Drift.State, f.Drift.Changes, asJSON(column.NotNull(f.Drift.Summary)), int64(never))
			if err != nil {
				return fail("write what drifts", err)
			}
		}
		for _, e := range events {
			if err := appendEvent(ctx, tx, e); err != nil {
				return err
			}
		}
		return wakeWatched(ctx, tx, tenant, at, verdict.Turned(todo)...)
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// driftLook lets an agent be looked at, at the earlier of when it was to be and due.
func driftLook(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, agent fleet.AgentID, due time.Time) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO agent_drift (tenant_id, agent_id, look_at) VALUES (?1, ?2, ?3)
		ON CONFLICT (tenant_id, agent_id) DO UPDATE
		SET look_at = min(agent_drift.look_at, excluded.look_at), version = agent_drift.version + 1`,
		tenant, agent, moment(due))
	return fail("let an agent be compared", err)
}

// DriftOf implements store.Drift.
func (s *Store) DriftOf(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) (d fleet.Drift, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		d, err = one(ctx, tx, scanDrift, `
			SELECT coalesce(d.state, 'unknown'), coalesce(d.changes, 0), coalesce(d.summary, '[]'), d.since, d.looked_at
			FROM agents a LEFT JOIN agent_drift d ON d.tenant_id = a.tenant_id AND d.agent_id = a.id
			WHERE a.tenant_id = ?1 AND a.id = ?2`, tenant, column.IDOrNull(string(id)))
		return fail("find an agent", err)
	})
	return d, err
}

func scanDrift(row scanner) (d fleet.Drift, err error) {
	err = row.Scan(&d.State, &d.Changes, document(&d.Summary), (*instant)(&d.Since), (*instant)(&d.LookedAt))
	return d, err
}

// DriftCounts implements store.Drift.
func (s *Store) DriftCounts(ctx context.Context, tenant fleet.TenantID, of fleet.Target) (map[fleet.DriftState]int, error) {
	all, group, agent := of == fleet.Target{}, column.IDOrNull(string(of.Group)), column.IDOrNull(string(of.Agent))
	counts := map[fleet.DriftState]int{}
	err := s.reading(ctx, tenant, func(tx *sql.Tx) error {
		found, err := list(ctx, tx, scanDriftCount, `
			SELECT coalesce(d.state, 'unknown'), count(*)
			FROM agents a LEFT JOIN agent_drift d ON d.tenant_id = a.tenant_id AND d.agent_id = a.id
			WHERE a.tenant_id = ?1 AND (?2 OR a.group_id = ?3 OR a.id = ?4) GROUP BY 1`, tenant, all, group, agent)
		for _, c := range found {
			counts[c.state] = c.agents
		}
		return fail("count what drifts", err)
	})
	return counts, err
}

type driftCount struct {
	state  fleet.DriftState
	agents int
}

func scanDriftCount(row scanner) (c driftCount, err error) {
	err = row.Scan(&c.state, &c.agents)
	return c, err
}

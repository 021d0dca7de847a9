// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// DueDrift implements store.Drift. What is due is found by the index agent_drift_due, across tenants; the rest is read
// tenant by tenant, by primary keys.
func (s *Store) DueDrift(ctx context.Context, now time.Time, max int) (due []fleet.DriftLook, err error) {
	err = s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		found, err := list(ctx, tx, scanDueDrift, `
			SELECT tenant_id, agent_id FROM agent_drift WHERE look_at <= $1 ORDER BY look_at LIMIT $2`, moment(now), max)
		if err != nil || len(found) == 0 {
			return fail("find agents to compare", err)
		}
		// The worker's policies are alternatives, by which no join is planned well: from here on it is in tenants alone.
		if _, err := tx.Exec(ctx, "SET LOCAL ROLE ampora_api"); err != nil {
			return fail("leave the worker's role", err)
		}
		for _, lot := range fleet.ByTenant(found, func(l fleet.DriftLook) fleet.TenantID { return l.Tenant }) {
			if err := enter(ctx, tx, lot[0].Tenant); err != nil {
				return err
			}
			looks, err := list(ctx, tx, scanDriftLook, selectDriftLook, lot[0].Tenant, ids(lot, driftAgent))
			if err != nil {
				return fail("read what is to be compared", err)
			}
			due = append(due, looks...)
		}
		return nil
	})
	return due, err
}

func driftAgent(l fleet.DriftLook) fleet.AgentID { return l.Agent }

func scanDueDrift(row pgx.Row) (l fleet.DriftLook, err error) {
	err = row.Scan(&l.Tenant, &l.Agent)
	return l, err
}

const selectDriftLook = `
		SELECT d.tenant_id, d.agent_id, d.version, d.state, coalesce(r.body_hash, v.body_hash), coalesce(c.kind, ''), p.value
		FROM agent_drift d
		LEFT JOIN grants g ON g.tenant_id = d.tenant_id AND g.agent_id = d.agent_id AND g.state = 'met'
		LEFT JOIN config_versions v ON v.tenant_id = g.tenant_id AND v.config_id = g.config_id AND v.version = g.version
		LEFT JOIN configs c ON c.tenant_id = v.tenant_id AND c.id = v.config_id
		LEFT JOIN renderings r ON r.tenant_id = g.tenant_id AND r.offer_hash = g.offer_hash
		LEFT JOIN agent_parts p ON p.tenant_id = d.tenant_id AND p.agent_id = d.agent_id AND p.kind = 'effective_config'
		WHERE d.tenant_id = $1 AND d.agent_id ` + among

func scanDriftLook(row pgx.Row) (l fleet.DriftLook, err error) {
	err = row.Scan(&l.Tenant, &l.Agent, &l.Version, &l.Was, (*hash)(&l.Assigned), &l.Kind, &l.Effective)
	return l, err
}

// PutDrift implements store.Drift. Rows are locked in the order of their ids, in which reports and the engine write them.
func (s *Store) PutDrift(ctx context.Context, tenant fleet.TenantID, found []store.DriftVerdict, at time.Time) (n int, err error) {
	err = s.bulkInTenant(ctx, tenant, func(tx pgx.Tx) error {
		versions := make(map[fleet.AgentID]int64, len(found))
		var id fleet.AgentID
		var version int64
		err := pipelined(ctx, tx, "lock what is compared", func(q *pipeline) {
			q.ask(func() error {
				versions[id] = version
				return nil
			}, []any{&id, &version}, `
				SELECT agent_id, version FROM agent_drift WHERE tenant_id = $1 AND agent_id `+among+` ORDER BY agent_id FOR UPDATE`,
				tenant, ids(found, driftedAgent))
		})
		if err != nil {
			return err
		}
		todo, events := verdict.OfDrift(found, versions, at)
		n = len(todo)
		var batch pgx.Batch
		queueDrift(&batch, tenant, todo, at)
		queueEvents(&batch, events)
		queueWakeWatched(&batch, tenant, at, verdict.Turned(todo))
		return fail("write what drifts", tx.SendBatch(ctx, &batch).Close())
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func driftedAgent(f store.DriftVerdict) fleet.AgentID { return f.On.Agent }

func queueDrift(batch *pgx.Batch, tenant fleet.TenantID, todo []store.DriftVerdict, at time.Time) {
	if len(todo) == 0 {
		return
	}
	batch.Queue(`
		UPDATE agent_drift d SET look_at = 'infinity', looked_at = $3, changes = f.changes, summary = f.summary, state = f.state,
			since = CASE WHEN d.state = f.state THEN coalesce(d.since, $3) ELSE $3 END
		FROM (SELECT unnest($2::uuid[]) AS agent_id, unnest($4::text[]) AS state, unnest($5::integer[]) AS changes, unnest($6::jsonb[]) AS summary) AS f
		WHERE d.tenant_id = $1 AND d.agent_id `+among+` AND d.agent_id = f.agent_id`,
		tenant, ids(todo, driftedAgent), moment(at),
		array(todo, func(f store.DriftVerdict) string { return string(f.Drift.State) }),
		array(todo, func(f store.DriftVerdict) int { return f.Drift.Changes }),
		array(todo, func(f store.DriftVerdict) []string { return column.NotNull(f.Drift.Summary) }))
}

// queueDriftLooks lets agents be looked at, each at the earlier of when it was to be and due.
func queueDriftLooks(batch *pgx.Batch, tenant fleet.TenantID, agents []fleet.AgentID, due time.Time) {
	if len(agents) == 0 {
		return
	}
	batch.Queue(`
		INSERT INTO agent_drift (tenant_id, agent_id, look_at) SELECT $1, id, $3 FROM unnest($2::uuid[]) AS id ORDER BY id
		ON CONFLICT (tenant_id, agent_id) DO UPDATE
		SET look_at = least(agent_drift.look_at, excluded.look_at), version = agent_drift.version + 1`,
		tenant, ids(agents, itself), moment(due))
}

// DriftOf implements store.Drift.
func (s *Store) DriftOf(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) (d fleet.Drift, err error) {
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		d, err = one(ctx, tx, scanDrift, `
			SELECT coalesce(d.state, 'unknown'), coalesce(d.changes, 0), coalesce(d.summary, '[]'), d.since, d.looked_at
			FROM agents a LEFT JOIN agent_drift d ON d.tenant_id = a.tenant_id AND d.agent_id = a.id
			WHERE a.tenant_id = $1 AND a.id = $2::uuid`, tenant, column.IDOrNull(string(id)))
		return fail("find an agent", err)
	})
	return d, err
}

func scanDrift(row pgx.Row) (d fleet.Drift, err error) {
	err = row.Scan(&d.State, &d.Changes, &d.Summary, (*instant)(&d.Since), (*instant)(&d.LookedAt))
	return d, err
}

// DriftCounts implements store.Drift.
func (s *Store) DriftCounts(ctx context.Context, tenant fleet.TenantID, of fleet.Target) (map[fleet.DriftState]int, error) {
	all, group, agent := of == fleet.Target{}, column.IDOrNull(string(of.Group)), column.IDOrNull(string(of.Agent))
	counts := map[fleet.DriftState]int{}
	err := s.reading(ctx, tenant, func(tx pgx.Tx) error {
		found, err := list(ctx, tx, scanDriftCount, `
			SELECT coalesce(d.state, 'unknown'), count(*)
			FROM agents a LEFT JOIN agent_drift d ON d.tenant_id = a.tenant_id AND d.agent_id = a.id
			WHERE a.tenant_id = $1 AND ($2 OR a.group_id = $3::uuid OR a.id = $4::uuid) GROUP BY 1`, tenant, all, group, agent)
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

func scanDriftCount(row pgx.Row) (c driftCount, err error) {
	err = row.Scan(&c.state, &c.agents)
	return c, err
}

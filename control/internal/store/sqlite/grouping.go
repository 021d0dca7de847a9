// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"cmp"
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

// chooseAnew begins another generation after a change of a dynamic group: all agents are due.
func chooseAnew(ctx context.Context, tx *sql.Tx, by fleet.By, g fleet.Group) error {
	if !g.Dynamic() {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO groupings AS g (tenant_id, generation, due_at) VALUES (?1, 1, ?2)
		ON CONFLICT (tenant_id) DO UPDATE SET generation = g.generation + 1, due_at = min(g.due_at, excluded.due_at)`, by.Tenant, moment(by.At))
	return fail("choose members anew", err)
}

// noteChanged notes that something of agents changed which selectors can see, if any look.
func noteChanged(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, agents []fleet.AgentID) error {
	if len(agents) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO agents_changed (tenant_id, agent_id) SELECT ?1, value FROM json_each(?2)
		WHERE EXISTS (SELECT 1 FROM groups WHERE tenant_id = ?1 AND selector <> '' AND deleted_at IS NULL)
		ON CONFLICT (tenant_id, agent_id) DO UPDATE SET version = abs(random())`,
		tenant, asJSON(agents))
	return fail("note changed agents", err)
}

// GroupingsDue implements store.Grouping.
func (s *Store) GroupingsDue(ctx context.Context, now time.Time) (due []fleet.TenantID, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		due, err = list(ctx, tx, scanTenantID, `
			SELECT tenant_id FROM groupings g
			WHERE due_at <= ?1 OR EXISTS (SELECT 1 FROM agents_changed c WHERE c.tenant_id = g.tenant_id) ORDER BY tenant_id`, moment(now))
		return fail("find groups that are to choose", err)
	})
	return due, err
}

func scanTenantID(row scanner) (id fleet.TenantID, err error) {
	err = row.Scan(&id)
	return id, err
}

// Choosers implements store.Grouping.
func (s *Store) Choosers(ctx context.Context, tenant fleet.TenantID) (c fleet.Choosers, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT generation, due_at FROM groupings WHERE tenant_id = ?1`, tenant).Scan(&c.Generation, (*instant)(&c.DueAt))
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fail("read the generation", err)
		}
		c.Groups, err = list(ctx, tx, scanGroup, `
			SELECT `+groupColumns+` FROM groups g WHERE tenant_id = ?1 AND selector <> '' AND deleted_at IS NULL ORDER BY priority DESC, id`, tenant)
		return fail("read the dynamic groups", err)
	})
	return c, err
}

// Candidates implements store.Grouping.
func (s *Store) Candidates(ctx context.Context, tenant fleet.TenantID, of store.Candidacy, after fleet.AgentID, most int) (found []fleet.Candidate, err error) {
	narrow := ""
	if of.ChangedOnly {
		narrow = " AND c.version IS NOT NULL"
	}
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		found, err = list(ctx, tx, scanCandidate, `
			SELECT a.id, a.group_id, coalesce(c.version, 0), a.enrolled_at, a.method, a.parent_id,
			       a.service_name, a.service_version, a.host_name, a.capabilities,
			       CASE WHEN ?4 THEN (SELECT json_group_object(key, value) FROM agent_tags t WHERE t.tenant_id = a.tenant_id AND t.agent_id = a.id) END,
			       CASE WHEN ?5 THEN (SELECT json_group_object(key, value) FROM agent_labels l WHERE l.tenant_id = a.tenant_id AND l.agent_id = a.id) END
			FROM agents a
			LEFT JOIN agents_changed c ON c.tenant_id = a.tenant_id AND c.agent_id = a.id
			WHERE a.tenant_id = ?1 AND a.id > ?2`+narrow+` ORDER BY a.id LIMIT ?3`, tenant, after, most, of.Tags, of.Labels)
		return fail("read candidates", err)
	})
	return found, err
}

func scanCandidate(row scanner) (c fleet.Candidate, err error) {
	var capabilities int64
	err = row.Scan(&c.Agent, (*text)(&c.Group), &c.Changed, (*instant)(&c.EnrolledAt), &c.Method, (*text)(&c.Parent),
		&c.ServiceName, &c.ServiceVersion, &c.HostName, &capabilities, document(&c.Tags), document(&c.Labels))
	c.Capabilities = fleet.Capabilities(column.Unbits(capabilities))
	return c, err
}

// Place implements store.Grouping.
func (s *Store) Place(ctx context.Context, tenant fleet.TenantID, p store.Placing) (moved int, err error) {
	err = s.inTenant(ctx, tenant, func(tx *sql.Tx) error {
		if err := sameGeneration(ctx, tx, tenant, p.Generation); err != nil {
			return err
		}
		to := map[fleet.GroupID]fleet.Group{}
		for _, id := range verdict.Targets(p.Placements) {
			switch g, err := livingGroup(ctx, tx, tenant, id); {
			case errors.Is(err, store.ErrNotFound):
			case err != nil:
				return err
			default:
				to[id] = g
			}
		}
		members, err := list(ctx, tx, scanMembership, `
			SELECT id, group_id FROM agents WHERE tenant_id = ?1 AND id IN (SELECT value FROM json_each(?2)) ORDER BY id`,
			tenant, asJSON(placedIDs(p.Placements)))
		if err != nil {
			return fail("find the agents", err)
		}
		in := make(map[fleet.AgentID]fleet.GroupID, len(members))
		for _, m := range members {
			in[m.agent] = m.group
		}
		placed := verdict.OfPlacing(p, in, to)
		moved = len(placed.Moves)
		if err := writeMoves(ctx, tx, fleet.System(tenant, p.At), placed, to); err != nil {
			return err
		}
		return settleNotes(ctx, tx, tenant, placed)
	})
	if err != nil {
		return 0, err
	}
	return moved, nil
}

func placedIDs(placements []fleet.Placement) []fleet.AgentID {
	agents := make([]fleet.AgentID, len(placements))
	for i, p := range placements {
		agents[i] = p.Agent
	}
	return agents
}

// sameGeneration fails if the generation is not the one given any more.
func sameGeneration(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, decided int64) error {
	var generation int64
	err := tx.QueryRowContext(ctx, `SELECT generation FROM groupings WHERE tenant_id = ?1`, tenant).Scan(&generation)
	if errors.Is(err, sql.ErrNoRows) || err == nil && generation != decided {
		return fmt.Errorf("generation %d of the tenant's groups: %w", decided, store.ErrConflict)
	}
	return fail("read the generation", err)
}

func writeMoves(ctx context.Context, tx *sql.Tx, by fleet.By, placed verdict.Placed, to map[fleet.GroupID]fleet.Group) error {
	for _, m := range verdict.ByGroup(placed.Moves) {
		members := make([]membership, len(m.Agents))
		for i, a := range m.Agents {
			members[i] = membership{a, m.From}
		}
		if err := moveMembers(ctx, tx, by, members, to[m.To], placed.Waits[m.To]); err != nil {
			return err
		}
		if err := appendAudit(ctx, tx, by, trail.Placed(cmp.Or(m.To, m.From), m.Agents, m.To != "")); err != nil {
			return err
		}
	}
	return nil
}

// settleNotes takes away the notes that were acted on, and leaves one for who is to be looked at again.
func settleNotes(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, placed verdict.Placed) error {
	for _, p := range placed.Settled {
		_, err := tx.ExecContext(ctx, `DELETE FROM agents_changed WHERE tenant_id = ?1 AND agent_id = ?2 AND version = ?3`, tenant, p.Agent, p.Changed)
		if err != nil {
			return fail("settle notes", err)
		}
	}
	return noteChanged(ctx, tx, tenant, placedIDs(placed.Stale))
}

// FinishGrouping implements store.Grouping.
func (s *Store) FinishGrouping(ctx context.Context, tenant fleet.TenantID, generation int64, failing map[fleet.GroupID]fleet.SelectorFailure, next time.Time) error {
	return s.inTenant(ctx, tenant, func(tx *sql.Tx) error {
		if err := sameGeneration(ctx, tx, tenant, generation); err != nil {
			return err
		}
		groups, err := list(ctx, tx, scanGroup, `SELECT `+groupColumns+` FROM groups g WHERE tenant_id = ?1 AND selector <> ''`, tenant)
		if err != nil {
			return fail("read the dynamic groups", err)
		}
		for _, g := range groups {
			f := failing[g.ID]
			if f.Agents > 0 && g.Failing.Agents > 0 {
				f.Since = g.Failing.Since
			}
			_, err := tx.ExecContext(ctx, `UPDATE groups SET failing = ?3, failing_since = ?4, failure = ?5 WHERE tenant_id = ?1 AND id = ?2`,
				tenant, g.ID, f.Agents, moment(f.Since), f.Words)
			if err != nil {
				return fail("note what selectors failed of", err)
			}
		}
		_, err = tx.ExecContext(ctx, `UPDATE groupings SET due_at = ?2 WHERE tenant_id = ?1`, tenant, moment(next))
		return fail("note that all were looked at", err)
	})
}

// labelTables are where labels and tags stand.
var labelTables = map[store.LabelKind]string{store.Labels: "agent_labels", store.Tags: "agent_tags"}

// LabelsInUse implements store.Grouping.
func (s *Store) LabelsInUse(ctx context.Context, tenant fleet.TenantID, kind store.LabelKind, key string, most int) (uses []store.LabelUse, err error) {
	what, narrow := "key", "?2 = ''" // always so
	if key != "" {
		what, narrow = "value", "key = ?2"
	}
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		uses, err = list(ctx, tx, scanLabelUse, `
			SELECT `+what+`, count(*) AS agents FROM `+labelTables[kind]+` WHERE tenant_id = ?1 AND `+narrow+`
			GROUP BY `+what+` ORDER BY agents DESC, `+what+` LIMIT ?3`, tenant, key, most)
		return fail("read the labels in use", err)
	})
	return uses, err
}

func scanLabelUse(row scanner) (u store.LabelUse, err error) {
	err = row.Scan(&u.Text, &u.Agents)
	return u, err
}

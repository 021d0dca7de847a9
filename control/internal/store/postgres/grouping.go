// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// chooseAnew begins another generation after a change of a dynamic group, whose row is locked: all agents are due.
func chooseAnew(ctx context.Context, tx pgx.Tx, by fleet.By, g fleet.Group) error {
	if !g.Dynamic() {
		return nil
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO groupings AS g (tenant_id, generation, due_at) VALUES ($1, 1, $2)
		ON CONFLICT (tenant_id) DO UPDATE SET generation = g.generation + 1, due_at = least(g.due_at, excluded.due_at)`, by.Tenant, moment(by.At))
	return fail("choose members anew", err)
}

// queueChanged notes that something of agents changed which selectors can see, if any look. Their rows are locked before.
func queueChanged(batch *pgx.Batch, tenant fleet.TenantID, agents []fleet.AgentID) {
	if len(agents) > 0 {
		batch.Queue(`
			INSERT INTO agents_changed (tenant_id, agent_id) SELECT $1, id FROM unnest($2::uuid[]) AS id
			WHERE EXISTS (SELECT FROM groups WHERE tenant_id = $1 AND selector <> '' AND deleted_at IS NULL) ORDER BY id
			ON CONFLICT (tenant_id, agent_id) DO UPDATE SET version = excluded.version`,
			tenant, ids(agents, itself))
	}
}

func noteChanged(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, agents []fleet.AgentID) error {
	var batch pgx.Batch
	queueChanged(&batch, tenant, agents)
	return fail("note changed agents", tx.SendBatch(ctx, &batch).Close())
}

// GroupingsDue implements store.Grouping.
func (s *Store) GroupingsDue(ctx context.Context, now time.Time) (due []fleet.TenantID, err error) {
	err = s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		due, err = list(ctx, tx, scanTenantID, `
			SELECT tenant_id FROM groupings g
			WHERE due_at <= $1 OR EXISTS (SELECT FROM agents_changed c WHERE c.tenant_id = g.tenant_id) ORDER BY tenant_id`, moment(now))
		return fail("find groups that are to choose", err)
	})
	return due, err
}

func scanTenantID(row pgx.Row) (id fleet.TenantID, err error) {
	err = row.Scan(&id)
	return id, err
}

// Choosers implements store.Grouping.
func (s *Store) Choosers(ctx context.Context, tenant fleet.TenantID) (c fleet.Choosers, err error) {
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT generation, due_at FROM groupings WHERE tenant_id = $1`, tenant).Scan(&c.Generation, (*instant)(&c.DueAt))
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fail("read the generation", err)
		}
		c.Groups, err = list(ctx, tx, scanGroup, `
			SELECT `+groupColumns+` FROM groups g WHERE tenant_id = $1 AND selector <> '' AND deleted_at IS NULL ORDER BY priority DESC, id`, tenant)
		return fail("read the dynamic groups", err)
	})
	return c, err
}

// Candidates implements store.Grouping. Tags and labels are read for all of a page at once, each agent's in one row.
func (s *Store) Candidates(ctx context.Context, tenant fleet.TenantID, of store.Candidacy, after fleet.AgentID, most int) (found []fleet.Candidate, err error) {
	from := `agents a LEFT JOIN agents_changed c ON c.tenant_id = a.tenant_id AND c.agent_id = a.id`
	if of.ChangedOnly {
		from = `agents_changed c JOIN agents a ON a.tenant_id = c.tenant_id AND a.id = c.agent_id`
	}
	err = s.walking(ctx, tenant, func(tx pgx.Tx) error {
		found, err = list(ctx, tx, scanCandidate, `
			SELECT a.id, a.group_id, coalesce(c.version, 0), a.enrolled_at, a.method, a.parent_id,
			       a.service_name, a.service_version, a.host_name, a.capabilities
			FROM `+from+`
			WHERE a.tenant_id = $1 AND a.id > $2 ORDER BY a.id LIMIT $3`,
			tenant, cmp.Or(string(after), "00000000-0000-0000-0000-000000000000"), most)
		if err != nil || len(found) == 0 {
			return fail("read candidates", err)
		}
		return readTexts(ctx, tx, tenant, of, found)
	})
	return found, err
}

func scanCandidate(row pgx.Row) (c fleet.Candidate, err error) {
	var capabilities int64
	err = row.Scan(&c.Agent, (*text)(&c.Group), &c.Changed, (*instant)(&c.EnrolledAt), &c.Method, (*text)(&c.Parent),
		&c.ServiceName, &c.ServiceVersion, &c.HostName, &capabilities)
	c.Capabilities = fleet.Capabilities(column.Unbits(capabilities))
	return c, err
}

// readTexts adds the tags and labels that are wanted.
func readTexts(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, of store.Candidacy, found []fleet.Candidate) error {
	places := make(map[fleet.AgentID]int, len(found))
	for i, c := range found {
		places[c.Agent] = i
	}
	where, args := `agent_id >= $2 AND agent_id <= $3`, []any{tenant, found[0].Agent, found[len(found)-1].Agent}
	if of.ChangedOnly {
		where, args = `agent_id `+among, []any{tenant, ids(found, func(c fleet.Candidate) fleet.AgentID { return c.Agent })}
	}
	var agent fleet.AgentID
	var keys, values []string
	read := func(q *pipeline, table string, put func(*fleet.Candidate, map[string]string)) {
		q.ask(func() error {
			texts := make(map[string]string, len(keys))
			for i, key := range keys {
				texts[key] = values[i]
			}
			put(&found[places[agent]], texts)
			return nil
		}, []any{&agent, &keys, &values}, `
			SELECT agent_id, array_agg(key), array_agg(value) FROM `+table+` WHERE tenant_id = $1 AND `+where+` GROUP BY agent_id`, args...)
	}
	return pipelined(ctx, tx, "read what candidates are known by", func(q *pipeline) {
		if of.Tags {
			read(q, "agent_tags", func(c *fleet.Candidate, texts map[string]string) { c.Tags = texts })
		}
		if of.Labels {
			read(q, "agent_labels", func(c *fleet.Candidate, texts map[string]string) { c.Labels = texts })
		}
	})
}

// Place implements store.Grouping. Groups are locked first, then the generation, then agents: the order of everything
// that changes them.
func (s *Store) Place(ctx context.Context, tenant fleet.TenantID, p store.Placing) (moved int, err error) {
	err = s.bulkInTenant(ctx, tenant, func(tx pgx.Tx) error {
		to, err := lockTargets(ctx, tx, tenant, verdict.Targets(p.Placements))
		if err != nil {
			return err
		}
		if err := sameGeneration(ctx, tx, tenant, p.Generation, "FOR SHARE"); err != nil {
			return err
		}
		members, err := list(ctx, tx, scanMembership, `
			SELECT id, group_id FROM agents WHERE tenant_id = $1 AND id `+among+` ORDER BY id FOR NO KEY UPDATE`,
			tenant, ids(p.Placements, placedID))
		if err != nil {
			return fail("lock the agents", err)
		}
		in := make(map[fleet.AgentID]fleet.GroupID, len(members))
		for _, m := range members {
			in[m.agent] = m.group
		}
		placed := verdict.OfPlacing(p, in, to)
		moved = len(placed.Moves)
		by := fleet.System(tenant, p.At)
		if err := writeMoves(ctx, tx, by, placed, to); err != nil {
			return err
		}
		var batch pgx.Batch
		queueNotes(&batch, tenant, placed)
		return fail("settle placements", tx.SendBatch(ctx, &batch).Close())
	})
	if err != nil {
		return 0, err
	}
	return moved, nil
}

func placedID(p fleet.Placement) fleet.AgentID { return p.Agent }

// lockTargets locks groups in the order given, and reads those that are not deleted.
func lockTargets(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, groups []fleet.GroupID) (map[fleet.GroupID]fleet.Group, error) {
	to := make(map[fleet.GroupID]fleet.Group, len(groups))
	for _, id := range groups { // few
		switch g, err := livingGroup(ctx, tx, tenant, id, lockGroup); {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return nil, err
		default:
			to[id] = g
		}
	}
	return to, nil
}

// sameGeneration locks the generation, if it is still the one given.
func sameGeneration(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, decided int64, lock string) error {
	var generation int64
	err := tx.QueryRow(ctx, `SELECT generation FROM groupings WHERE tenant_id = $1 `+lock, tenant).Scan(&generation)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && generation != decided {
		return fmt.Errorf("generation %d of the tenant's groups: %w", decided, store.ErrConflict)
	}
	return fail("lock the generation", err)
}

func writeMoves(ctx context.Context, tx pgx.Tx, by fleet.By, placed verdict.Placed, to map[fleet.GroupID]fleet.Group) error {
	for _, m := range verdict.ByGroup(placed.Moves) {
		members := array(m.Agents, func(a fleet.AgentID) membership { return membership{a, m.From} })
		if err := moveMembers(ctx, tx, by, members, to[m.To], placed.Waits[m.To]); err != nil {
			return err
		}
		if err := appendAudit(ctx, tx, by, trail.Placed(cmp.Or(m.To, m.From), m.Agents, m.To != "")); err != nil {
			return err
		}
	}
	return nil
}

// queueNotes takes away the notes that were acted on, and leaves one for who is to be looked at again.
func queueNotes(batch *pgx.Batch, tenant fleet.TenantID, placed verdict.Placed) {
	if len(placed.Settled) > 0 {
		batch.Queue(`
			DELETE FROM agents_changed c USING (SELECT unnest($2::uuid[]) AS agent_id, unnest($3::bigint[]) AS version) AS s
			WHERE c.tenant_id = $1 AND c.agent_id `+among+` AND c.agent_id = s.agent_id AND c.version = s.version`,
			tenant, ids(placed.Settled, placedID), array(placed.Settled, func(p fleet.Placement) int64 { return p.Changed }))
	}
	queueChanged(batch, tenant, array(placed.Stale, placedID))
}

// FinishGrouping implements store.Grouping. Groups come before the generation, as everywhere.
func (s *Store) FinishGrouping(ctx context.Context, tenant fleet.TenantID, generation int64, failing map[fleet.GroupID]fleet.SelectorFailure, next time.Time) error {
	return s.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		groups := slices.Sorted(maps.Keys(failing))
		_, err := tx.Exec(ctx, `
			UPDATE groups g SET failing = coalesce(f.agents, 0), failure = coalesce(f.words, ''),
				failing_since = CASE WHEN f.agents > 0 THEN coalesce(g.failing_since, f.since) END
			FROM groups d LEFT JOIN (SELECT unnest($2::uuid[]) AS id, unnest($3::int[]) AS agents, unnest($4::text[]) AS words, unnest($5::timestamptz[]) AS since) AS f
				ON f.id = d.id
			WHERE g.tenant_id = $1 AND d.tenant_id = $1 AND g.id = d.id AND (g.failing > 0 OR f.agents > 0)`,
			tenant, ids(groups, itself), array(groups, func(id fleet.GroupID) int { return failing[id].Agents }),
			array(groups, func(id fleet.GroupID) string { return failing[id].Words }),
			moments(groups, func(id fleet.GroupID) time.Time { return failing[id].Since }))
		if err != nil {
			return fail("note what selectors failed of", err)
		}
		if err := sameGeneration(ctx, tx, tenant, generation, "FOR UPDATE"); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE groupings SET due_at = $2 WHERE tenant_id = $1`, tenant, moment(next))
		return fail("note that all were looked at", err)
	})
}

// labelTables are where labels and tags stand.
var labelTables = map[store.LabelKind]string{store.Labels: "agent_labels", store.Tags: "agent_tags"}

// LabelsInUse implements store.Grouping.
func (s *Store) LabelsInUse(ctx context.Context, tenant fleet.TenantID, kind store.LabelKind, key string, most int) (uses []store.LabelUse, err error) {
	what, narrow := "key", "$2 = ''" // always so
	if key != "" {
		what, narrow = "value", "key = $2"
	}
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		uses, err = list(ctx, tx, scanLabelUse, `
			SELECT `+what+`, count(*) AS agents FROM `+labelTables[kind]+` WHERE tenant_id = $1 AND `+narrow+`
			GROUP BY `+what+` ORDER BY agents DESC, `+what+` COLLATE "C" LIMIT $3`, tenant, key, most)
		return fail("read the labels in use", err)
	})
	return uses, err
}

func scanLabelUse(row pgx.Row) (u store.LabelUse, err error) {
	err = row.Scan(&u.Text, &u.Agents)
	return u, err
}

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
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// AddMembers implements store.Rollouts.
func (s *Store) AddMembers(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID, members []fleet.Member, at time.Time) (n int, err error) {
	err = s.inTenant(ctx, tenant, func(tx *sql.Tx) error {
		r, err := rollout(ctx, tx, tenant, id)
		switch {
		case err != nil:
			return err
		case !r.State.Active():
			return fmt.Errorf("add to a rollout that is %s: %w", r.State, store.ErrState)
		}
		agents := make([]fleet.AgentID, len(members))
		for i, m := range members {
			agents[i] = m.Agent
		}
		waiting, err := list(ctx, tx, scanAgentID, `
			DELETE FROM agents_waiting WHERE tenant_id = ?1 AND agent_id `+among+` AND group_id = ?3 RETURNING agent_id`, tenant, asJSON(agents), r.Definition.Group)
		if err != nil || len(waiting) == 0 {
			return fail("let agents wait no more", err)
		}
		changes, err := joining(ctx, tx, r, members, waiting)
		if err != nil {
			return err
		}
		n = len(changes)
		return joinRollout(ctx, tx, r, changes, at)
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// joining are those of the members that wait, at the end of the last wave.
func joining(ctx context.Context, tx *sql.Tx, r fleet.Rollout, members []fleet.Member, waiting []fleet.AgentID) (changes []verdict.MemberChange, err error) {
	var wave, last int
	err = tx.QueryRowContext(ctx, `
		SELECT max(1, coalesce(max(wave), 1)), coalesce(max(position), 0) FROM rollout_members WHERE tenant_id = ?1 AND rollout_id = ?2`, r.Tenant, r.ID).Scan(&wave, &last)
	if err != nil {
		return nil, fail("find the last wave", err)
	}
	there, err := list(ctx, tx, scanMember, `
		SELECT `+memberColumns+` FROM rollout_members m WHERE m.tenant_id = ?1 AND m.agent_id `+among+` AND m.rollout_id = ?3`, r.Tenant, asJSON(waiting), r.ID)
	if err != nil {
		return nil, fail("find members", err)
	}
	return verdict.Joining(members, verdict.Place{Rollout: r.ID, Wave: wave, Last: last}, there, waiting), nil
}

// joinRollout writes new members, and those that were left out before.
func joinRollout(ctx context.Context, tx *sql.Tx, r fleet.Rollout, changes []verdict.MemberChange, at time.Time) error {
	var back []verdict.MemberChange
	var fresh []fleet.Member
	for _, c := range changes {
		if c.Was.Rollout != "" {
			back = append(back, c)
			continue
		}
		fresh = append(fresh, c.Is)
	}
	if err := putMembers(ctx, tx, r.Tenant, r.ID, fresh); err != nil {
		return err
	}
	if err := changeMembers(ctx, tx, r.Tenant, back, map[fleet.RolloutID]fleet.RolloutState{r.ID: r.State}); err != nil {
		return err
	}
	if len(changes) > 0 && changes[0].Is.Wave <= r.Wave {
		if _, err := tx.ExecContext(ctx, `UPDATE rollouts SET filled_at = NULL WHERE tenant_id = ?1 AND id = ?2`, r.Tenant, r.ID); err != nil {
			return fail("note that a wave is not filled", err)
		}
	}
	return letDue(ctx, tx, r.Tenant, []fleet.RolloutID{r.ID}, at)
}

// GroupsWaiting implements store.Rollouts. What was rolled back, and stays what the group is assigned because it had
// nothing before, nobody catches up with.
func (s *Store) GroupsWaiting(ctx context.Context, now time.Time) (groups []store.GroupWaiting, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		groups, err = list(ctx, tx, scanGroupWaiting, `
			WITH waiting AS (
				SELECT w.tenant_id, w.group_id, count(*) AS online
				FROM agents_waiting w JOIN agents a ON a.tenant_id = w.tenant_id AND a.id = w.agent_id AND a.group_id = w.group_id
				WHERE a.epoch > 0 AND a.ended_at IS NULL AND w.since <= ?1
				GROUP BY w.tenant_id, w.group_id
			)
			SELECT g.tenant_id, g.id, g.name, w.online, coalesce(s.config_id, v.config_id), coalesce(s.version, v.version, 0),
			       s.rollout_id, coalesce(r.state, ''), coalesce(r.definition ->> 'late', '')
			FROM waiting w JOIN groups g ON g.tenant_id = w.tenant_id AND g.id = w.group_id AND g.deleted_at IS NULL
			LEFT JOIN assignments s ON s.tenant_id = g.tenant_id AND s.target = 'group' AND s.target_id = g.id
			LEFT JOIN rollouts r ON r.tenant_id = g.tenant_id AND r.id = s.rollout_id
			LEFT JOIN rollouts undone ON undone.tenant_id = g.tenant_id AND undone.id = r.of_id AND r.kind = 'rollback'
			LEFT JOIN (
				SELECT tenant_id, config_id, version FROM config_versions WHERE state = 'published'
			) AS v ON v.tenant_id = g.tenant_id AND v.config_id = g.default_config AND v.version = CASE WHEN g.default_version = 0 THEN (
				SELECT max(version) FROM config_versions n WHERE n.tenant_id = g.tenant_id AND n.config_id = g.default_config AND n.state = 'published'
			) ELSE g.default_version END
			WHERE NOT coalesce(undone.config_id = s.config_id AND undone.version = s.version, false)
			ORDER BY g.tenant_id, g.id`, moment(now))
		return fail("read the groups that agents wait for", err)
	})
	return groups, err
}

func scanGroupWaiting(row scanner) (g store.GroupWaiting, err error) {
	err = row.Scan(&g.Tenant, &g.Group, &g.Name, &g.Online, (*text)(&g.Assigned.Config), &g.Assigned.Version, (*text)(&g.Rollout), &g.State, &g.Late)
	return g, err
}

// Release implements store.Rollouts.
func (s *Store) Release(ctx context.Context, tenant fleet.TenantID, group fleet.GroupID, limit int, at time.Time) (n int, err error) {
	err = s.inTenant(ctx, tenant, func(tx *sql.Tx) error {
		if _, err := livingGroup(ctx, tx, tenant, group); err != nil {
			return err
		}
		waiting, err := list(ctx, tx, scanAgentID, `
			SELECT w.agent_id FROM agents_waiting w JOIN agents a ON a.tenant_id = w.tenant_id AND a.id = w.agent_id
			WHERE w.tenant_id = ?1 AND w.group_id = ?2 AND a.epoch > 0 AND a.ended_at IS NULL ORDER BY w.agent_id LIMIT ?3`, tenant, group, limit+1)
		if err != nil {
			return fail("find agents that wait", err)
		}
		if n = len(waiting); n > limit {
			return fmt.Errorf("let %d and more agents in: %w", limit, store.ErrLimit)
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM agents_waiting WHERE tenant_id = ?1 AND agent_id `+among, tenant, asJSON(waiting))
		if err != nil {
			return fail("let agents wait no more", err)
		}
		return wakeBy(ctx, tx, fleet.System(tenant, at), waiting...)
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

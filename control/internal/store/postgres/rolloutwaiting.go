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
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// AddMembers implements store.Rollouts.
func (s *Store) AddMembers(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID, members []fleet.Member, at time.Time) (n int, err error) {
	err = s.bulkInTenant(ctx, tenant, func(tx pgx.Tx) error {
		n = 0
		r, err := lockRollout(ctx, tx, tenant, id)
		switch {
		case err != nil:
			return err
		case !r.State.Active():
			return fmt.Errorf("add to a rollout that is %s: %w", r.State, store.ErrState)
		}
		agents := ids(members, memberAgent)
		waiting, err := list(ctx, tx, scanAgentID, `
			DELETE FROM agents_waiting WHERE tenant_id = $1 AND agent_id `+among+` AND group_id = $3 RETURNING agent_id`, tenant, agents, r.Definition.Group)
		if err != nil || len(waiting) == 0 {
			return fail("let agents wait no more", err)
		}
		changes, err := joining(ctx, tx, r, members, waiting)
		if err != nil {
			return err
		}
		n = len(changes)
		var batch pgx.Batch
		queueJoined(&batch, r, changes, at)
		return fail("add members", tx.SendBatch(ctx, &batch).Close())
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// joining are those of the members that wait, at the end of the last wave.
func joining(ctx context.Context, tx pgx.Tx, r fleet.Rollout, members []fleet.Member, waiting []fleet.AgentID) (changes []verdict.MemberChange, err error) {
	var wave, last int
	err = tx.QueryRow(ctx, `
		SELECT greatest(1, max(wave)), coalesce(max(position), 0) FROM rollout_members WHERE tenant_id = $1 AND rollout_id = $2`, r.Tenant, r.ID).Scan(&wave, &last)
	if err != nil {
		return nil, fail("find the last wave", err)
	}
	there, err := list(ctx, tx, scanMember, `
		SELECT `+memberColumns+` FROM rollout_members m WHERE m.tenant_id = $1 AND m.agent_id `+among+` AND m.rollout_id = $3
		ORDER BY m.agent_id FOR UPDATE`, r.Tenant, ids(waiting, itself), r.ID)
	if err != nil {
		return nil, fail("lock members", err)
	}
	return verdict.Joining(members, verdict.Place{Rollout: r.ID, Wave: wave, Last: last}, there, waiting), nil
}

// queueJoined writes new members, and those that were left out before.
func queueJoined(batch *pgx.Batch, r fleet.Rollout, changes []verdict.MemberChange, at time.Time) {
	var fresh []fleet.Member
	var back []verdict.MemberChange
	for _, c := range changes {
		if c.Was.Rollout == "" {
			fresh = append(fresh, c.Is)
		} else {
			back = append(back, c)
		}
	}
	queueNewMembers(batch, r.Tenant, r.ID, fresh)
	queueMembers(batch, r.Tenant, back, map[fleet.RolloutID]fleet.RolloutState{r.ID: r.State})
	if len(changes) > 0 && changes[0].Is.Wave <= r.Wave {
		batch.Queue(`UPDATE rollouts SET filled_at = NULL WHERE tenant_id = $1 AND id = $2`, r.Tenant, r.ID)
	}
	queueDue(batch, r.Tenant, []fleet.RolloutID{r.ID}, moment(at))
	queueCounts(batch, r.Tenant, verdict.Deltas(changes))
}

// GroupsWaiting implements store.Rollouts. Tenants with agents that wait are found over tenants, the rest in each. What
// was rolled back, and stays what the group is assigned because it had nothing before, nobody catches up with.
func (s *Store) GroupsWaiting(ctx context.Context, now time.Time) (groups []store.GroupWaiting, err error) {
	err = s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		tenants, err := list(ctx, tx, scanTenantID, `SELECT DISTINCT tenant_id FROM agents_waiting ORDER BY tenant_id`)
		if err != nil || len(tenants) == 0 {
			return fail("find agents that wait", err)
		}
		if _, err := tx.Exec(ctx, "SET LOCAL ROLE ampora_api"); err != nil {
			return fail("leave the worker's role", err)
		}
		for _, tenant := range tenants {
			if err := enter(ctx, tx, tenant); err != nil {
				return err
			}
			some, err := list(ctx, tx, scanGroupWaiting, selectGroupsWaiting, tenant, moment(now))
			if err != nil {
				return fail("read the groups that agents wait for", err)
			}
			groups = append(groups, some...)
		}
		return nil
	})
	return groups, err
}

const selectGroupsWaiting = `
	WITH waiting AS (
		SELECT w.group_id, count(*) AS online
		FROM agents_waiting w JOIN agents a ON a.tenant_id = w.tenant_id AND a.id = w.agent_id AND a.group_id = w.group_id
		WHERE w.tenant_id = $1 AND a.tenant_id = $1 AND a.epoch > 0 AND a.ended_at IS NULL AND w.since <= $2
		GROUP BY w.group_id
	)
	SELECT g.tenant_id, g.id, g.name, w.online, coalesce(s.config_id, v.config_id), coalesce(s.version, v.version, 0),
	       s.rollout_id, coalesce(r.state, ''), coalesce(r.definition->>'late', '')
	FROM waiting w JOIN groups g ON g.tenant_id = $1 AND g.id = w.group_id AND g.deleted_at IS NULL
	LEFT JOIN assignments s ON s.tenant_id = $1 AND s.target = 'group' AND s.target_id = g.id
	LEFT JOIN rollouts r ON r.tenant_id = $1 AND r.id = s.rollout_id
	LEFT JOIN rollouts undone ON undone.tenant_id = $1 AND undone.id = r.of_id AND r.kind = 'rollback'
	LEFT JOIN LATERAL (
		SELECT config_id, version FROM config_versions c
		WHERE c.tenant_id = $1 AND c.config_id = g.default_config AND c.state = 'published' AND (g.default_version = 0 OR c.version = g.default_version)
		ORDER BY version DESC LIMIT 1) AS v ON true
	WHERE NOT coalesce(undone.config_id = s.config_id AND undone.version = s.version, false)
	ORDER BY g.id`

func scanGroupWaiting(row pgx.Row) (g store.GroupWaiting, err error) {
	err = row.Scan(&g.Tenant, &g.Group, &g.Name, &g.Online, (*text)(&g.Assigned.Config), &g.Assigned.Version, (*text)(&g.Rollout), &g.State, &g.Late)
	return g, err
}

// Release implements store.Rollouts.
func (s *Store) Release(ctx context.Context, tenant fleet.TenantID, group fleet.GroupID, limit int, at time.Time) (n int, err error) {
	err = s.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		if _, err := livingGroup(ctx, tx, tenant, group, lockGroup); err != nil {
			return err
		}
		waiting, err := list(ctx, tx, scanAgentID, `
			SELECT w.agent_id FROM agents_waiting w JOIN agents a ON a.tenant_id = w.tenant_id AND a.id = w.agent_id
			WHERE w.tenant_id = $1 AND w.group_id = $2 AND a.epoch > 0 AND a.ended_at IS NULL ORDER BY w.agent_id LIMIT $3`, tenant, group, limit+1)
		if err != nil {
			return fail("find agents that wait", err)
		}
		if n = len(waiting); n > limit {
			return fmt.Errorf("let %d and more agents in: %w", limit, store.ErrLimit)
		}
		_, err = tx.Exec(ctx, `DELETE FROM agents_waiting WHERE tenant_id = $1 AND agent_id `+among, tenant, ids(waiting, itself))
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

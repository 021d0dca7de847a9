// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// putMembers stores who is in a rollout, where nobody was, and the counts.
func putMembers(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, id fleet.RolloutID, members []fleet.Member) error {
	of := make([]fleet.Member, len(members))
	for i, m := range members {
		m.Rollout, m.Revision = id, 1
		of[i] = m
		if err := putMember(ctx, tx, tenant, m); err != nil {
			return err
		}
	}
	return addCounts(ctx, tx, tenant, verdict.Sums(of))
}

func putMember(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, m fleet.Member) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO rollout_members (tenant_id, rollout_id, agent_id, wave, position, state, reason, former_config_id, former_version,
		                             target_config_id, target_version, change)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)`,
		tenant, m.Rollout, m.Agent, m.Wave, m.Position, m.State, m.Reason, column.OrNull(m.Former.Config), m.Former.Version,
		column.OrNull(m.Target.Config), m.Target.Version, m.Change)
	return fail("store a member", err)
}

// changeMembers writes changed members and counts them. states are those of their rollouts.
func changeMembers(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, changes []verdict.MemberChange, states map[fleet.RolloutID]fleet.RolloutState) error {
	for _, c := range changes {
		m := c.Is
		_, err := tx.ExecContext(ctx, `
			UPDATE rollout_members SET wave = ?4, position = ?5, state = ?6, reason = ?7, revision = ?8, admitted_at = ?9, pushed_at = ?10,
				deadline_at = ?11, settled_at = ?12, look_at = ?13, gone = ?14, unhealthy = ?15, mismatch = ?16, health_counts = ?17,
				config_counts = ?18, overdue = ?19, watched = ?20, disturbed = ?21
			WHERE tenant_id = ?1 AND rollout_id = ?2 AND agent_id = ?3`,
			tenant, m.Rollout, m.Agent, m.Wave, m.Position, m.State, m.Reason, m.Revision, moment(m.AdmittedAt), moment(m.PushedAt),
			moment(m.DeadlineAt), moment(m.SettledAt), moment(m.LookAt), m.Gone, m.Unhealthy, m.Mismatch, m.HealthCounts,
			m.ConfigCounts, m.Overdue, verdict.Watched(m, states[m.Rollout]), verdict.Disturbed(m, states[m.Rollout]))
		if err != nil {
			return fail("write a member", err)
		}
	}
	return addCounts(ctx, tx, tenant, verdict.Deltas(changes))
}

// writeMembers writes changed members, lets their rollouts be looked at and counts.
func writeMembers(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, changes []verdict.MemberChange, states map[fleet.RolloutID]fleet.RolloutState, at time.Time) error {
	if len(changes) == 0 {
		return nil
	}
	if err := changeMembers(ctx, tx, tenant, changes, states); err != nil {
		return err
	}
	return letDue(ctx, tx, tenant, rolloutsOf(changes), at)
}

// leaveOut leaves agents out of the rollouts of groups that are not over, if their last word there is not given: the agents
// left them, or have assignments of their own.
func leaveOut(ctx context.Context, tx *sql.Tx, by fleet.By, of []membership, why string) error {
	states := map[fleet.RolloutID]fleet.RolloutState{}
	var changes []verdict.MemberChange
	for _, in := range of {
		_, err := list(ctx, tx, func(row scanner) (m fleet.Member, err error) {
			var state fleet.RolloutState
			err = row.Scan(append(memberInto(&m), &state)...)
			changes, states[m.Rollout] = append(changes, verdict.LeftOut(m, why, by.At)), state
			return m, err
		}, `
			SELECT `+memberColumns+`, r.state FROM rollouts r
			JOIN rollout_members m ON m.tenant_id = r.tenant_id AND m.rollout_id = r.id AND m.agent_id = ?3
			WHERE r.tenant_id = ?1 AND r.group_id = ?2 AND r.state IN ('pending', 'in_progress', 'paused', 'rolling_back')
				AND m.state NOT IN ('applied', 'failed', 'skipped') ORDER BY r.id`, by.Tenant, in.group, in.agent)
		if err != nil {
			return fail("find rollouts", err)
		}
	}
	return writeMembers(ctx, tx, by.Tenant, changes, states, by.At)
}

// leaveGroups ends what agents have to do with what the groups that they are in are assigned.
func leaveGroups(ctx context.Context, tx *sql.Tx, by fleet.By, members []membership) error {
	_, err := tx.ExecContext(ctx, "DELETE FROM agents_waiting WHERE tenant_id = ?1 AND agent_id "+among, by.Tenant, asJSON(memberIDs(members)))
	if err != nil {
		return fail("let agents wait no more", err)
	}
	return leaveOut(ctx, tx, by, members, verdict.LeftGroup)
}

// Members implements store.Rollouts.
func (s *Store) Members(
	ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID, f fleet.MemberFilter, page fleet.Page,
) (members []store.MemberView, next string, err error) {
	after, err := keyset.NumberPlaceOf(page.After)
	if err != nil {
		return nil, "", err
	}
	where := conditions{args: []any{tenant, id}}
	if f.Wave != 0 {
		where.and("m.wave = %s", f.Wave)
	}
	if f.State != "" {
		where.and("m.state = %s", f.State)
	}
	if f.Problems {
		where.sql.WriteString(" AND " + problems)
	}
	order := "m.position"
	if f.Stragglers {
		order = "m.admitted_at"
		where.sql.WriteString(" AND m.state IN ('admitted', 'pushed', 'applying', 'disconnected') AND m.admitted_at IS NOT NULL")
	}
	where.and("("+order+", m.agent_id) > (%s, %s)", after.Number, after.ID)
	query := "SELECT " + memberColumns + ", a.host_name, a.service_name FROM rollout_members m JOIN agents a ON a.tenant_id = m.tenant_id AND a.id = m.agent_id" +
		" WHERE m.tenant_id = ?1 AND m.rollout_id = ?2" + where.sql.String() + " ORDER BY " + order + where.number(", m.agent_id LIMIT %s", keyset.Limit(page))
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		if _, err := rollout(ctx, tx, tenant, id); err != nil {
			return err
		}
		members, err = list(ctx, tx, scanMemberView, query, where.args...)
		return fail("list members", err)
	})
	members, next = keyset.Cut(members, page, func(m store.MemberView) string {
		number := int64(m.Position)
		if f.Stragglers {
			number = m.AdmittedAt.UnixMicro()
		}
		return keyset.NumberPlace{Number: number, ID: string(m.Agent)}.String()
	})
	return members, next, err
}

// problems picks the members that a gate counts (see fleet.Tally).
const problems = `m.state NOT IN ('pending', 'skipped') AND
	(m.state = 'failed' OR m.gone OR m.mismatch AND m.config_counts OR m.unhealthy AND m.health_counts)`

const memberColumns = `m.rollout_id, m.agent_id, m.wave, m.position, m.state, m.reason, m.former_config_id, coalesce(m.former_version, 0),
	m.target_config_id, coalesce(m.target_version, 0), m.change, m.revision, m.admitted_at, m.pushed_at, m.deadline_at, m.settled_at, m.look_at,
	m.gone, m.unhealthy, m.mismatch, m.health_counts, m.config_counts, m.overdue`

func memberInto(m *fleet.Member) []any {
	return []any{
		&m.Rollout, &m.Agent, &m.Wave, &m.Position, &m.State, &m.Reason, (*text)(&m.Former.Config), &m.Former.Version,
		(*text)(&m.Target.Config), &m.Target.Version, &m.Change, &m.Revision, (*instant)(&m.AdmittedAt), (*instant)(&m.PushedAt),
		(*instant)(&m.DeadlineAt), (*instant)(&m.SettledAt), (*instant)(&m.LookAt),
		&m.Gone, &m.Unhealthy, &m.Mismatch, &m.HealthCounts, &m.ConfigCounts, &m.Overdue,
	}
}

func scanMember(row scanner) (m fleet.Member, err error) {
	err = row.Scan(memberInto(&m)...)
	return m, err
}

func scanMemberView(row scanner) (m store.MemberView, err error) {
	err = row.Scan(append(memberInto(&m.Member), &m.HostName, &m.ServiceName)...)
	return m, err
}

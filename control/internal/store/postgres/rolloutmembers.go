// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// membersAtOnce is how many members one statement stores.
const membersAtOnce = 10_000

// putMembers stores who is in a rollout, where nobody was, and the counts.
func putMembers(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, id fleet.RolloutID, members []fleet.Member) error {
	of := make([]fleet.Member, len(members))
	for i, m := range members {
		m.Rollout, m.Revision = id, 1
		of[i] = m
	}
	var batch pgx.Batch
	for lot := range slices.Chunk(of, membersAtOnce) {
		queueNewMembers(&batch, tenant, id, lot)
	}
	queueCounts(&batch, tenant, verdict.Sums(of))
	return fail("store members", tx.SendBatch(ctx, &batch).Close())
}

func queueNewMembers(batch *pgx.Batch, tenant fleet.TenantID, id fleet.RolloutID, members []fleet.Member) {
	if len(members) == 0 {
		return
	}
	batch.Queue(`
		INSERT INTO rollout_members (tenant_id, rollout_id, agent_id, wave, position, state, reason, former_config_id, former_version,
		                             target_config_id, target_version, change)
		SELECT $1, $3, unnest($2::uuid[]), unnest($4::int[]), unnest($5::int[]), unnest($6::text[]), unnest($7::text[]),
			nullif(unnest($8::uuid[]), '00000000-0000-0000-0000-000000000000'), unnest($9::int[]),
			nullif(unnest($10::uuid[]), '00000000-0000-0000-0000-000000000000'), unnest($11::int[]), unnest($12::text[])`,
		tenant, ids(members, memberAgent), id,
		array(members, func(m fleet.Member) int { return m.Wave }),
		array(members, func(m fleet.Member) int { return m.Position }),
		array(members, func(m fleet.Member) string { return string(m.State) }),
		array(members, func(m fleet.Member) string { return m.Reason }),
		ids(members, func(m fleet.Member) fleet.ConfigID { return m.Former.Config }),
		array(members, func(m fleet.Member) int { return m.Former.Version }),
		ids(members, func(m fleet.Member) fleet.ConfigID { return m.Target.Config }),
		array(members, func(m fleet.Member) int { return m.Target.Version }),
		array(members, func(m fleet.Member) string { return string(m.Change) }))
}

func memberAgent(m fleet.Member) fleet.AgentID { return m.Agent }

// queueMembers writes changed members, whose rows are locked, and their waves' counts. states are those of their rollouts.
func queueMembers(batch *pgx.Batch, tenant fleet.TenantID, changes []verdict.MemberChange, states map[fleet.RolloutID]fleet.RolloutState) {
	for _, id := range rolloutsOf(changes) {
		var are []fleet.Member
		for _, c := range changes {
			if c.Is.Rollout == id {
				are = append(are, c.Is)
			}
		}
		queueMembersOf(batch, tenant, id, are, states[id])
	}
}

func queueMembersOf(batch *pgx.Batch, tenant fleet.TenantID, id fleet.RolloutID, are []fleet.Member, state fleet.RolloutState) {
	batch.Queue(`
		UPDATE rollout_members m SET wave = s.wave, position = s.position, state = s.state, reason = s.reason, revision = s.revision,
			admitted_at = s.admitted_at, pushed_at = s.pushed_at, deadline_at = s.deadline_at, settled_at = s.settled_at, look_at = s.look_at,
			gone = s.gone, unhealthy = s.unhealthy, mismatch = s.mismatch, health_counts = s.health_counts, config_counts = s.config_counts,
			overdue = s.overdue, watched = s.watched, disturbed = s.disturbed
		FROM (SELECT unnest($2::uuid[]) AS agent_id, unnest($4::int[]) AS wave, unnest($5::int[]) AS position, unnest($6::text[]) AS state,
			unnest($7::text[]) AS reason, unnest($8::bigint[]) AS revision, unnest($9::timestamptz[]) AS admitted_at,
			unnest($10::timestamptz[]) AS pushed_at, unnest($11::timestamptz[]) AS deadline_at, unnest($12::timestamptz[]) AS settled_at,
			unnest($13::timestamptz[]) AS look_at, unnest($14::boolean[]) AS gone, unnest($15::boolean[]) AS unhealthy,
			unnest($16::boolean[]) AS mismatch, unnest($17::boolean[]) AS health_counts, unnest($18::boolean[]) AS config_counts,
			unnest($19::boolean[]) AS overdue, unnest($20::boolean[]) AS watched, unnest($21::boolean[]) AS disturbed) AS s
		WHERE m.tenant_id = $1 AND m.rollout_id = $3 AND m.agent_id `+among+` AND m.agent_id = s.agent_id`,
		tenant, ids(are, memberAgent), id,
		array(are, func(m fleet.Member) int { return m.Wave }),
		array(are, func(m fleet.Member) int { return m.Position }),
		array(are, func(m fleet.Member) string { return string(m.State) }),
		array(are, func(m fleet.Member) string { return m.Reason }),
		array(are, func(m fleet.Member) int64 { return m.Revision }),
		moments(are, func(m fleet.Member) time.Time { return m.AdmittedAt }),
		moments(are, func(m fleet.Member) time.Time { return m.PushedAt }),
		moments(are, func(m fleet.Member) time.Time { return m.DeadlineAt }),
		moments(are, func(m fleet.Member) time.Time { return m.SettledAt }),
		moments(are, func(m fleet.Member) time.Time { return m.LookAt }),
		array(are, func(m fleet.Member) bool { return m.Gone }),
		array(are, func(m fleet.Member) bool { return m.Unhealthy }),
		array(are, func(m fleet.Member) bool { return m.Mismatch }),
		array(are, func(m fleet.Member) bool { return m.HealthCounts }),
		array(are, func(m fleet.Member) bool { return m.ConfigCounts }),
		array(are, func(m fleet.Member) bool { return m.Overdue }),
		array(are, func(m fleet.Member) bool { return verdict.Watched(m, state) }),
		array(are, func(m fleet.Member) bool { return verdict.Disturbed(m, state) }))
}

// writeMembers writes changed members, whose rows are locked, lets their rollouts be looked at and counts.
func writeMembers(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, changes []verdict.MemberChange, states map[fleet.RolloutID]fleet.RolloutState, at time.Time) error {
	var batch pgx.Batch
	queueMembers(&batch, tenant, changes, states)
	queueDue(&batch, tenant, rolloutsOf(changes), moment(at))
	queueCounts(&batch, tenant, verdict.Deltas(changes))
	return fail("write members", tx.SendBatch(ctx, &batch).Close())
}

// leaveOut leaves agents out of the rollouts of groups that are not over, if their last word there is not given: the agents
// left them, or have assignments of their own. The agents' rows are locked.
func leaveOut(ctx context.Context, tx pgx.Tx, by fleet.By, of []membership, why string) error {
	in := make(map[fleet.AgentID]fleet.GroupID, len(of))
	for _, m := range of {
		in[m.agent] = m.group
	}
	found, err := list(ctx, tx, scanRunning, `
		SELECT r.id, r.group_id, r.state FROM rollouts r WHERE r.tenant_id = $1 AND r.group_id `+among+`
			AND r.state IN ('pending', 'in_progress', 'paused', 'rolling_back')`,
		by.Tenant, ids(of, func(m membership) fleet.GroupID { return m.group }))
	if err != nil || len(found) == 0 {
		return fail("find rollouts", err)
	}
	states, groups := map[fleet.RolloutID]fleet.RolloutState{}, map[fleet.RolloutID]fleet.GroupID{}
	for _, r := range found {
		states[r.id], groups[r.id] = r.state, r.group
	}
	members, err := list(ctx, tx, scanMember, `
		SELECT `+memberColumns+` FROM rollout_members m WHERE m.tenant_id = $1 AND m.agent_id `+among+` AND m.rollout_id = ANY((SELECT $3::uuid[])::uuid[])
			AND m.state NOT IN ('applied', 'failed', 'skipped') ORDER BY m.agent_id, m.rollout_id FOR UPDATE`,
		by.Tenant, ids(of, func(m membership) fleet.AgentID { return m.agent }), ids(found, func(r running) fleet.RolloutID { return r.id }))
	if err != nil {
		return fail("lock members", err)
	}
	var changes []verdict.MemberChange
	for _, m := range members {
		if groups[m.Rollout] == in[m.Agent] {
			changes = append(changes, verdict.LeftOut(m, why, by.At))
		}
	}
	return writeMembers(ctx, tx, by.Tenant, changes, states, by.At)
}

// leaveGroups ends what agents have to do with what the groups that they are in are assigned.
func leaveGroups(ctx context.Context, tx pgx.Tx, by fleet.By, members []membership) error {
	_, err := tx.Exec(ctx, "DELETE FROM agents_waiting WHERE tenant_id = $1 AND agent_id "+among, by.Tenant, ids(memberIDs(members), itself))
	if err != nil {
		return fail("let agents wait no more", err)
	}
	return leaveOut(ctx, tx, by, members, verdict.LeftGroup)
}

// running is a rollout that is not over.
type running struct {
	id    fleet.RolloutID
	group fleet.GroupID
	state fleet.RolloutState
}

func scanRunning(row pgx.Row) (r running, err error) {
	err = row.Scan(&r.id, &r.group, &r.state)
	return r, err
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
		where.and("m.state = %s", string(f.State))
	}
	if f.Problems {
		where.sql.WriteString(" AND " + problems)
	}
	order := "m.position"
	if f.Stragglers {
		order = "m.admitted_at"
		where.sql.WriteString(" AND m.state IN ('admitted', 'pushed', 'applying', 'disconnected') AND m.admitted_at IS NOT NULL")
		where.and("(m.admitted_at, m.agent_id) > (%s, %s)", moment(time.UnixMicro(after.Number)), after.ID)
	} else {
		where.sql.WriteString(" AND m.position >= 0") // see the index
		where.and("(m.position, m.agent_id) > (%s, %s)", after.Number, after.ID)
	}
	query := "SELECT " + memberColumns + ", a.host_name, a.service_name FROM rollout_members m JOIN agents a ON a.tenant_id = m.tenant_id AND a.id = m.agent_id" +
		" WHERE m.tenant_id = $1 AND m.rollout_id = $2" + where.sql.String() + " ORDER BY " + order + where.number(", m.agent_id LIMIT %s", keyset.Limit(page))
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		if _, err := rollout(ctx, tx, tenant, id, ""); err != nil {
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

func scanMember(row pgx.Row) (m fleet.Member, err error) {
	err = row.Scan(memberInto(&m)...)
	return m, err
}

func scanMemberView(row pgx.Row) (m store.MemberView, err error) {
	err = row.Scan(append(memberInto(&m.Member), &m.HostName, &m.ServiceName)...)
	return m, err
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// The statements that wake the engine for agents: an item is due at the earlier of what it was and at, and its version
// grows, so that a claim of before does not settle it.
const onWake = `
		ON CONFLICT (tenant_id, agent_id) DO UPDATE
		SET wake_at = least(work.wake_at, excluded.wake_at), version = work.version + 1,
			traceparent = coalesce(nullif(excluded.traceparent, ''), work.traceparent)`

// wake wakes the engine for agents, each in its trace, in the order of their ids: two that wake many wait for each
// other, not for ever.
func wake(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, at time.Time, agents map[fleet.AgentID]fleet.Traceparent) error {
	var batch pgx.Batch
	queueWake(&batch, tenant, at, agents)
	return fail("wake the engine", tx.SendBatch(ctx, &batch).Close())
}

func queueWake(batch *pgx.Batch, tenant fleet.TenantID, at time.Time, agents map[fleet.AgentID]fleet.Traceparent) {
	if len(agents) == 0 {
		return
	}
	ids := slices.Collect(maps.Keys(agents))
	traces := make([]fleet.Traceparent, len(ids))
	for i, id := range ids {
		traces[i] = agents[id]
	}
	batch.Queue(`
		INSERT INTO work (tenant_id, agent_id, wake_at, traceparent)
		SELECT $1::text, id, $2::timestamptz, trace FROM unnest($3::uuid[], $4::text[]) AS woken (id, trace) ORDER BY id`+onWake,
		tenant, moment(at), ids, traces)
}

// wakeBy wakes the engine for agents on behalf of somebody.
func wakeBy(ctx context.Context, tx pgx.Tx, by fleet.By, agents ...fleet.AgentID) error {
	return wake(ctx, tx, by.Tenant, by.At, wokenBy(by, agents))
}

func wokenBy(by fleet.By, agents []fleet.AgentID) map[fleet.AgentID]fleet.Traceparent {
	woken := make(map[fleet.AgentID]fleet.Traceparent, len(agents))
	for _, id := range agents {
		woken[id] = by.Trace
	}
	return woken
}

// wakeMembers wakes the engine for every agent of a group on behalf of somebody.
func wakeMembers(ctx context.Context, tx pgx.Tx, by fleet.By, group fleet.GroupID) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO work (tenant_id, agent_id, wake_at, traceparent)
		SELECT tenant_id, id, $2, $4 FROM agents WHERE tenant_id = $1 AND group_id = $3 ORDER BY id`+onWake,
		by.Tenant, moment(by.At), group, by.Trace)
	return fail("wake the engine for a group", err)
}

// queueWakeWatched wakes the engine for those of the agents that a rollout looks at.
func queueWakeWatched(batch *pgx.Batch, tenant fleet.TenantID, at time.Time, agents []fleet.AgentID) {
	if len(agents) == 0 {
		return
	}
	batch.Queue(`
		INSERT INTO work (tenant_id, agent_id, wake_at)
		SELECT DISTINCT m.tenant_id, m.agent_id, $3::timestamptz FROM rollout_members m
		WHERE m.tenant_id = $1 AND m.agent_id `+among+` AND m.watched ORDER BY m.agent_id`+onWake, tenant, ids(agents, itself), moment(at))
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// The statements that wake the engine for agents: an item is due at the earlier of what it was and at, and its version
// grows, so that a claim of before does not settle it.
const onWake = `
		ON CONFLICT (tenant_id, agent_id) DO UPDATE
		SET wake_at = min(work.wake_at, excluded.wake_at), version = work.version + 1,
			traceparent = coalesce(nullif(excluded.traceparent, ''), work.traceparent)`

// wake wakes the engine for agents, each in its trace.
func wake(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, at time.Time, agents map[fleet.AgentID]fleet.Traceparent) error {
	if len(agents) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO work (tenant_id, agent_id, wake_at, traceparent)
		SELECT ?1, woken.key, ?2, woken.value FROM json_each(?3) AS woken WHERE true`+onWake,
		tenant, moment(at), asJSON(agents))
	return fail("wake the engine", err)
}

// wakeBy wakes the engine for agents on behalf of somebody.
func wakeBy(ctx context.Context, tx *sql.Tx, by fleet.By, agents ...fleet.AgentID) error {
	woken := make(map[fleet.AgentID]fleet.Traceparent, len(agents))
	for _, id := range agents {
		woken[id] = by.Trace
	}
	return wake(ctx, tx, by.Tenant, by.At, woken)
}

// wakeWatched wakes the engine for those of the agents that a rollout looks at.
func wakeWatched(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, at time.Time, agents ...fleet.AgentID) error {
	if len(agents) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO work (tenant_id, agent_id, wake_at)
		SELECT DISTINCT tenant_id, agent_id, ?3 FROM rollout_members WHERE tenant_id = ?1 AND agent_id `+among+` AND watched`+onWake,
		tenant, asJSON(agents), moment(at))
	return fail("wake the engine for who is in a rollout", err)
}

// wakeMembers wakes the engine for every agent of a group on behalf of somebody.
func wakeMembers(ctx context.Context, tx *sql.Tx, by fleet.By, group fleet.GroupID) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO work (tenant_id, agent_id, wake_at, traceparent)
		SELECT tenant_id, id, ?2, ?4 FROM agents WHERE tenant_id = ?1 AND group_id = ?3`+onWake,
		by.Tenant, moment(by.At), group, by.Trace)
	return fail("wake the engine for a group", err)
}

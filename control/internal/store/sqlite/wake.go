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
		SET wake_at = min(work.wake_at, excluded.wake_at), version = work.version + 1`

// wake wakes the engine for the agents.
func wake(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, at time.Time, agents ...fleet.AgentID) error {
	if len(agents) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO work (tenant_id, agent_id, wake_at)
		SELECT DISTINCT ?1, id.value, ?2 FROM json_each(?3) AS id WHERE true`+onWake,
		tenant, moment(at), asJSON(agents))
	return fail("wake the engine", err)
}

// wakeMembers wakes the engine for every agent of a group.
func wakeMembers(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, at time.Time, group fleet.GroupID) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO work (tenant_id, agent_id, wake_at)
		SELECT tenant_id, id, ?2 FROM agents WHERE tenant_id = ?1 AND group_id = ?3`+onWake,
		tenant, moment(at), group)
	return fail("wake the engine for a group", err)
}

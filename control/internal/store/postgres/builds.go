// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/column"
)

// Builds implements store.Fleet. Agents are counted by the digest of what they said, and what it says is read of one of
// them.
func (s *Store) Builds(ctx context.Context, tenant fleet.TenantID, of fleet.Target, max int) (builds []fleet.Build, total int, err error) {
	all, group, agent := of == fleet.Target{}, column.IDOrNull(string(of.Group)), column.IDOrNull(string(of.Agent))
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `
			SELECT count(*) FROM agents
			WHERE tenant_id = $1 AND ($2 OR group_id = $3::uuid OR id = $4::uuid)`,
			tenant, all, group, agent).Scan(&total); err != nil {
			return fail("count agents", err)
		}
		builds, err = list(ctx, tx, scanBuild, `
			WITH b AS (
				SELECT a.service_name, a.service_version, coalesce(p.digest, '') AS digest, count(*) AS agents, min(a.id::text)::uuid AS example
				FROM agents a
				LEFT JOIN agent_parts p ON p.tenant_id = a.tenant_id AND p.agent_id = a.id AND p.kind = 'available_components'
				WHERE a.tenant_id = $1 AND ($2 OR a.group_id = $3::uuid OR a.id = $4::uuid)
				GROUP BY 1, 2, 3 ORDER BY agents DESC, 1, 2, 3 LIMIT $5)
			SELECT b.service_name, b.service_version, b.agents, b.example, p.value
			FROM b LEFT JOIN agent_parts p ON p.tenant_id = $1 AND p.agent_id = b.example AND p.kind = 'available_components'
			ORDER BY b.agents DESC, 1, 2, b.digest`,
			tenant, all, group, agent, max)
		return fail("read the builds", err)
	})
	return builds, total, err
}

func scanBuild(row pgx.Row) (b fleet.Build, err error) {
	var said *json.RawMessage
	if err := row.Scan(&b.ServiceName, &b.ServiceVersion, &b.Agents, &b.Example, &said); err != nil || said == nil {
		return b, err
	}
	var c fleet.Components
	err = json.Unmarshal([]byte(*said), &c)
	b.Components = c.List
	return b, err
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// TemplateValues implements store.Work.
func (s *Store) TemplateValues(ctx context.Context, tenant fleet.TenantID, agents []fleet.AgentID) (map[fleet.AgentID]fleet.TemplateValues, error) {
	values := make(map[fleet.AgentID]fleet.TemplateValues, len(agents))
	var id fleet.AgentID
	var service, version, host, group, key, value string
	err := s.reading(ctx, tenant, func(tx pgx.Tx) error {
		return pipelined(ctx, tx, "read what templates ask for", func(q *pipeline) {
			q.ask(func() error {
				values[id] = fleet.TemplateValues{Tags: map[string]string{}, Labels: map[string]string{}, Agent: map[string]string{
					"id": string(id), "service_name": service, "service_version": version, "host_name": host, "group": group,
				}}
				return nil
			}, []any{&id, &service, &version, &host, &group}, `
				SELECT a.id, a.service_name, a.service_version, a.host_name, coalesce(g.name, '')
				FROM agents a LEFT JOIN groups g ON g.tenant_id = a.tenant_id AND g.id = a.group_id
				WHERE a.tenant_id = $1 AND a.id `+among, tenant, ids(agents, itself))
			q.ask(func() error {
				values[id].Tags[key] = value
				return nil
			}, []any{&id, &key, &value}, `SELECT agent_id, key, value FROM agent_tags WHERE tenant_id = $1 AND agent_id `+among, tenant, ids(agents, itself))
			q.ask(func() error {
				values[id].Labels[key] = value
				return nil
			}, []any{&id, &key, &value}, `SELECT agent_id, key, value FROM agent_labels WHERE tenant_id = $1 AND agent_id `+among, tenant, ids(agents, itself))
		})
	})
	return values, err
}

// PutRenderings implements store.Work.
func (s *Store) PutRenderings(ctx context.Context, tenant fleet.TenantID, renderings []fleet.Rendering, at time.Time) error {
	if len(renderings) == 0 {
		return nil
	}
	return s.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO renderings (tenant_id, offer_hash, config_id, version, body_hash, size, created_at)
			SELECT $1, r.offer_hash, r.config_id, r.version, r.body_hash, r.size, $7
			FROM (SELECT unnest($2::bytea[]) AS offer_hash, unnest($3::uuid[]) AS config_id, unnest($4::integer[]) AS version,
				unnest($5::bytea[]) AS body_hash, unnest($6::bigint[]) AS size) AS r ORDER BY r.offer_hash
			ON CONFLICT DO NOTHING`,
			tenant, array(renderings, func(r fleet.Rendering) []byte { return r.Offer[:] }),
			ids(renderings, func(r fleet.Rendering) fleet.ConfigID { return r.Config }),
			array(renderings, func(r fleet.Rendering) int { return r.Version }),
			array(renderings, func(r fleet.Rendering) []byte { return r.Hash[:] }),
			array(renderings, func(r fleet.Rendering) int64 { return r.Size }), moment(at))
		return fail("store renderings", err)
	})
}

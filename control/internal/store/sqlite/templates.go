// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// TemplateValues implements store.Work.
func (s *Store) TemplateValues(ctx context.Context, tenant fleet.TenantID, agents []fleet.AgentID) (map[fleet.AgentID]fleet.TemplateValues, error) {
	values := make(map[fleet.AgentID]fleet.TemplateValues, len(agents))
	err := s.reading(ctx, tenant, func(tx *sql.Tx) error {
		for _, id := range agents {
			v, err := templateValues(ctx, tx, tenant, id)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			values[id] = v
		}
		return nil
	})
	return values, err
}

func templateValues(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, id fleet.AgentID) (v fleet.TemplateValues, err error) {
	var service, version, host, group string
	err = tx.QueryRowContext(ctx, `
		SELECT a.service_name, a.service_version, a.host_name, coalesce(g.name, ''),
		       (SELECT json_group_object(key, value) FROM agent_tags t WHERE t.tenant_id = a.tenant_id AND t.agent_id = a.id),
		       (SELECT json_group_object(key, value) FROM agent_labels l WHERE l.tenant_id = a.tenant_id AND l.agent_id = a.id)
		FROM agents a LEFT JOIN groups g ON g.tenant_id = a.tenant_id AND g.id = a.group_id
		WHERE a.tenant_id = ?1 AND a.id = ?2`, tenant, id).Scan(&service, &version, &host, &group, document(&v.Tags), document(&v.Labels))
	v.Agent = map[string]string{"id": string(id), "service_name": service, "service_version": version, "host_name": host, "group": group}
	return v, fail("read what templates ask for", err)
}

// PutRenderings implements store.Work.
func (s *Store) PutRenderings(ctx context.Context, tenant fleet.TenantID, renderings []fleet.Rendering, at time.Time) error {
	return s.inTenant(ctx, tenant, func(tx *sql.Tx) error {
		for _, r := range renderings {
			_, err := tx.ExecContext(ctx, `
				INSERT INTO renderings (tenant_id, offer_hash, config_id, version, body_hash, size, created_at)
				VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING`,
				tenant, r.Offer[:], r.Config, r.Version, r.Hash[:], r.Size, moment(at))
			if err != nil {
				return fail("store renderings", err)
			}
		}
		return nil
	})
}

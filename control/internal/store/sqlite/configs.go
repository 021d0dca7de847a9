// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// CreateConfig implements store.Configs.
func (s *Store) CreateConfig(ctx context.Context, by fleet.By, c fleet.Config, first *fleet.ConfigVersion) (created fleet.Config, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO configs (tenant_id, id, name, description, kind, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)`,
			by.Tenant, c.ID, c.Name, c.Description, c.Kind, moment(by.At))
		if err != nil {
			return fail("create a configuration", err)
		}
		err = appendAudit(ctx, tx, by, trail.ConfigCreated(c))
		if err != nil {
			return err
		}
		if first != nil {
			v := *first
			v.Config, v.Version = c.ID, 1
			if _, err := insertVersion(ctx, tx, by, v); err != nil {
				return err
			}
		}
		created, err = config(ctx, tx, by.Tenant, string(c.ID))
		return err
	})
	if err != nil {
		return fleet.Config{}, err
	}
	return created, nil
}

// Config implements store.Configs.
func (s *Store) Config(ctx context.Context, tenant fleet.TenantID, idOrName string) (c fleet.Config, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		c, err = config(ctx, tx, tenant, idOrName)
		return err
	})
	return c, err
}

func config(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, idOrName string) (fleet.Config, error) {
	c, err := one(ctx, tx, scanConfig, `
		SELECT `+configColumns+` FROM configs c WHERE tenant_id = ?1 AND (id = ?2 OR name = ?3)
		ORDER BY name = ?3 LIMIT 1`, tenant, column.IDOrNull(idOrName), idOrName)
	return c, fail("find a configuration", err)
}

// Configs implements store.Configs.
func (s *Store) Configs(ctx context.Context, tenant fleet.TenantID, f fleet.ConfigFilter, page fleet.Page) (configs []fleet.Config, next string, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		configs, err = list(ctx, tx, scanConfig, `
			SELECT `+configColumns+` FROM configs c
			WHERE tenant_id = ?1 AND name > ?2 AND (?4 = '' OR name >= ?4 AND name < ?5) AND (?6 = '' OR kind = ?6)
			AND (NOT ?7 OR EXISTS (SELECT 1 FROM config_versions v
				WHERE v.tenant_id = c.tenant_id AND v.config_id = c.id AND v.state = 'draft'))
			ORDER BY name LIMIT ?3`, tenant, page.After, keyset.Limit(page), f.NamePrefix, column.PrefixEnd(f.NamePrefix), f.Kind, f.Drafts)
		return fail("list configurations", err)
	})
	configs, next = keyset.Cut(configs, page, func(c fleet.Config) string { return c.Name })
	return configs, next, err
}

// CreateConfigVersion implements store.Configs.
func (s *Store) CreateConfigVersion(ctx context.Context, by fleet.By, v fleet.ConfigVersion) (created fleet.ConfigVersion, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `
			SELECT coalesce(max(version), 0) + 1 FROM config_versions WHERE tenant_id = ?1 AND config_id = ?2`,
			by.Tenant, v.Config).Scan(&v.Version)
		if err != nil {
			return fail("number a version", err)
		}
		created, err = insertVersion(ctx, tx, by, v)
		return err
	})
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	return created, nil
}

// insertVersion stores a draft. That its configuration and its body are there is what the foreign keys say.
func insertVersion(ctx context.Context, tx *sql.Tx, by fleet.By, v fleet.ConfigVersion) (fleet.ConfigVersion, error) {
	v, err := one(ctx, tx, scanVersion, `
		INSERT INTO config_versions (tenant_id, config_id, version, state, body_hash, offer_hash, size, content_type, note,
		                             created_by, created_at, changed_by, changed_at, semantic_hash, restored_from, templated)
		VALUES (?1, ?2, ?3, 'draft', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?9, ?10, ?11, ?12, ?13) RETURNING `+versionColumns,
		by.Tenant, v.Config, v.Version, v.Hash[:], v.Offer[:], v.Size, v.ContentType, v.Note, by.Principal.Name, moment(by.At),
		column.HashOrNull(v.Semantic), v.RestoredFrom, v.Templated)
	if err != nil {
		return v, fail("create a version", err)
	}
	return v, appendAudit(ctx, tx, by, trail.VersionCreated(v))
}

// UpdateConfigVersion implements store.Configs.
func (s *Store) UpdateConfigVersion(ctx context.Context, by fleet.By, v fleet.ConfigVersion) (updated fleet.ConfigVersion, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		before, err := configVersion(ctx, tx, by.Tenant, v.Config, v.Version)
		switch {
		case err != nil:
			return err
		case before.State != fleet.VersionDraft:
			return fmt.Errorf("update a %s version: %w", before.State, store.ErrState)
		case before.Revision != v.Revision:
			return fmt.Errorf("update revision %d of a draft: %w", v.Revision, store.ErrConflict)
		}
		updated, err = one(ctx, tx, scanVersion, `
			UPDATE config_versions SET body_hash = ?4, offer_hash = ?5, size = ?6, note = ?7, revision = revision + 1,
				changed_by = ?8, changed_at = ?9, semantic_hash = ?10, templated = ?11
			WHERE tenant_id = ?1 AND config_id = ?2 AND version = ?3 RETURNING `+versionColumns,
			by.Tenant, v.Config, v.Version, v.Hash[:], v.Offer[:], v.Size, v.Note, by.Principal.Name, moment(by.At), column.HashOrNull(v.Semantic), v.Templated)
		if err != nil {
			return fail("update a version", err)
		}
		return appendAudit(ctx, tx, by, trail.VersionUpdated(before, updated))
	})
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	return updated, nil
}

// ConfigVersion implements store.Configs.
func (s *Store) ConfigVersion(ctx context.Context, tenant fleet.TenantID, id fleet.ConfigID, version int) (v fleet.ConfigVersion, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		v, err = one(ctx, tx, scanVersion, `
			SELECT `+versionColumns+` FROM config_versions WHERE tenant_id = ?1 AND config_id = ?2 AND version = ?3`,
			tenant, id, version)
		return fail("find a version", err)
	})
	return v, err
}

// ConfigVersions implements store.Configs.
func (s *Store) ConfigVersions(ctx context.Context, tenant fleet.TenantID, id fleet.ConfigID, f fleet.VersionFilter, page fleet.Page) (versions []fleet.ConfigVersion, next string, err error) {
	before, err := keyset.NumberOf(page.After)
	if err != nil {
		return nil, "", err
	}
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		versions, err = list(ctx, tx, scanVersion, `
			SELECT `+versionColumns+` FROM config_versions WHERE tenant_id = ?1 AND config_id = ?2 AND version < ?3
			AND (?5 = '' OR state = ?5) AND (?6 IS NULL OR body_hash = ?6) AND (?7 IS NULL OR semantic_hash = ?7)
			ORDER BY version DESC LIMIT ?4`, tenant, id, before, keyset.Limit(page), f.State, column.HashOrNull(f.Hash), column.HashOrNull(f.Semantic))
		return fail("list versions", err)
	})
	versions, next = keyset.Cut(versions, page, func(v fleet.ConfigVersion) string { return keyset.Number(v.Version) })
	return versions, next, err
}

// PublishConfigVersion implements store.Configs.
func (s *Store) PublishConfigVersion(ctx context.Context, by fleet.By, p fleet.Publication) (v fleet.ConfigVersion, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		_, err := moveVersion(ctx, tx, by, p.Config, p.Version, fleet.Publish, func(before fleet.ConfigVersion) error {
			if p.Revision != 0 && before.Revision != p.Revision {
				return fmt.Errorf("publish revision %d of a draft: %w", p.Revision, store.ErrConflict)
			}
			return nil
		})
		if err != nil {
			return err
		}
		v, err = one(ctx, tx, scanVersion, `
			UPDATE config_versions SET semantic_hash = ?4, waived = ?5, templated = ?6
			WHERE tenant_id = ?1 AND config_id = ?2 AND version = ?3 RETURNING `+versionColumns,
			by.Tenant, p.Config, p.Version, column.HashOrNull(p.Semantic), strings.Join(p.Waived, " "), p.Templated)
		if err != nil {
			return fail("note what is published", err)
		}
		entry, event := trail.VersionPublished(by, v)
		if err := appendAudit(ctx, tx, by, entry); err != nil {
			return err
		}
		return appendEvent(ctx, tx, event)
	})
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	return v, nil
}

// ArchiveConfigVersion implements store.Configs.
func (s *Store) ArchiveConfigVersion(ctx context.Context, by fleet.By, id fleet.ConfigID, version int) (v fleet.ConfigVersion, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		v, err = moveVersion(ctx, tx, by, id, version, fleet.Archive, func(fleet.ConfigVersion) error {
			return refuseAssigned(ctx, tx, by.Tenant, id, version)
		})
		if err != nil {
			return err
		}
		return appendAudit(ctx, tx, by, trail.VersionArchived(v))
	})
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	return v, nil
}

// UnarchiveConfigVersion implements store.Configs.
func (s *Store) UnarchiveConfigVersion(ctx context.Context, by fleet.By, id fleet.ConfigID, version int) (v fleet.ConfigVersion, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		v, err = moveVersion(ctx, tx, by, id, version, fleet.Unarchive, func(fleet.ConfigVersion) error { return nil })
		if err != nil {
			return err
		}
		return appendAudit(ctx, tx, by, trail.VersionUnarchived(v))
	})
	if err != nil {
		return fleet.ConfigVersion{}, err
	}
	return v, nil
}

// moveVersion moves a version that is where the move begins, if guard has no objection.
func moveVersion(ctx context.Context, tx *sql.Tx, by fleet.By, id fleet.ConfigID, version int, move fleet.VersionMove,
	guard func(before fleet.ConfigVersion) error,
) (fleet.ConfigVersion, error) {
	before, err := configVersion(ctx, tx, by.Tenant, id, version)
	if err != nil {
		return before, err
	}
	if before.State != move.From {
		return before, fmt.Errorf("from %s to %s: %w", before.State, move.To, store.ErrState)
	}
	if err := guard(before); err != nil {
		return before, err
	}
	v, err := one(ctx, tx, scanVersion, `
		UPDATE config_versions SET state = ?4, published_at = coalesce(published_at, ?5)
		WHERE tenant_id = ?1 AND config_id = ?2 AND version = ?3 RETURNING `+versionColumns,
		by.Tenant, id, version, move.To, moment(by.At))
	return v, fail("move a version", err)
}

func refuseAssigned(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, id fleet.ConfigID, version int) error {
	var assigned bool
	err := tx.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM assignments WHERE tenant_id = ?1 AND config_id = ?2 AND version = ?3)
			OR EXISTS (SELECT 1 FROM groups WHERE tenant_id = ?1 AND default_config = ?2 AND default_version = ?3 AND deleted_at IS NULL)`,
		tenant, id, version).Scan(&assigned)
	if err == nil && assigned {
		return fmt.Errorf("archive an assigned version: %w", store.ErrState)
	}
	return fail("find assignments", err)
}

func configVersion(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, id fleet.ConfigID, version int) (fleet.ConfigVersion, error) {
	v, err := one(ctx, tx, scanVersion, `
		SELECT `+versionColumns+` FROM config_versions WHERE tenant_id = ?1 AND config_id = ?2 AND version = ?3`,
		tenant, id, version)
	return v, fail("find a version", err)
}

const configColumns = `c.tenant_id, c.id, c.name, c.description, c.kind, c.created_at,
	(SELECT coalesce(max(version), 0) FROM config_versions v
	 WHERE v.tenant_id = c.tenant_id AND v.config_id = c.id AND v.state = 'published'),
	(SELECT coalesce(max(version), 0) FROM config_versions v WHERE v.tenant_id = c.tenant_id AND v.config_id = c.id)`

func scanConfig(row scanner) (c fleet.Config, err error) {
	err = row.Scan(&c.Tenant, &c.ID, &c.Name, &c.Description, &c.Kind, (*instant)(&c.CreatedAt), &c.LatestPublished, &c.Latest)
	return c, err
}

const versionColumns = `tenant_id, config_id, version, state, body_hash, offer_hash, size, content_type, revision, note,
	created_by, created_at, published_at, semantic_hash, restored_from, waived, changed_by, changed_at, templated`

func scanVersion(row scanner) (v fleet.ConfigVersion, err error) {
	var waived string
	err = row.Scan(&v.Tenant, &v.Config, &v.Version, &v.State, (*hash)(&v.Hash), (*hash)(&v.Offer), &v.Size, &v.ContentType,
		&v.Revision, &v.Note, &v.CreatedBy, (*instant)(&v.CreatedAt), (*instant)(&v.PublishedAt),
		(*hash)(&v.Semantic), &v.RestoredFrom, &waived, &v.ChangedBy, (*instant)(&v.ChangedAt), &v.Templated)
	if waived != "" {
		v.Waived = strings.Fields(waived)
	}
	return v, err
}

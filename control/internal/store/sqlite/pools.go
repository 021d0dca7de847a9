// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// CreateTokenPool implements store.TokenPools.
func (s *Store) CreateTokenPool(ctx context.Context, by fleet.By, p fleet.TokenPool) (created fleet.TokenPool, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		if err := groupOrNone(ctx, tx, by.Tenant, p.Group); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `
			INSERT INTO token_pools (tenant_id, id, name, description, group_id, tags, ttl_seconds, live_limit, per_hour, burst, hash,
			                         rotated_at, created_by, created_at)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?13, ?12, ?13)`,
			by.Tenant, p.ID, p.Name, p.Description, column.OrNull(p.Group), asJSON(column.NotNullMap(p.Tags)), int64(p.TTL/time.Second), p.LiveLimit, p.PerHour, p.Burst,
			p.Hash[:], p.CreatedBy, moment(by.At))
		if err != nil {
			return fail("create a token pool", err)
		}
		if err := appendAudit(ctx, tx, by, trail.PoolCreated(p)); err != nil {
			return err
		}
		created, err = livingPool(ctx, tx, by.Tenant, p.ID, by.At)
		return err
	})
	return created, err
}

// TokenPool implements store.TokenPools.
func (s *Store) TokenPool(ctx context.Context, tenant fleet.TenantID, idOrName string, now time.Time) (p fleet.TokenPool, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		p, err = one(ctx, tx, scanTokenPool, `
			SELECT `+poolColumns+` FROM token_pools p
			WHERE tenant_id = ?1 AND (id = ?3 OR name = ?4) AND deleted_at IS NULL
			ORDER BY name = ?4 LIMIT 1`, tenant, moment(now), idOrName, idOrName)
		return fail("find a token pool", err)
	})
	return p, err
}

// TokenPools implements store.TokenPools.
func (s *Store) TokenPools(ctx context.Context, tenant fleet.TenantID, now time.Time, page fleet.Page) (pools []fleet.TokenPool, next string, err error) {
	after, err := keyset.NamePlaceOf(page.After)
	if err != nil {
		return nil, "", err
	}
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		pools, err = list(ctx, tx, scanTokenPool, `
			SELECT `+poolColumns+` FROM token_pools p
			WHERE tenant_id = ?1 AND deleted_at IS NULL AND (name, id) > (?3, ?4)
			ORDER BY name, id LIMIT ?5`, tenant, moment(now), after.Name, after.ID, keyset.Limit(page))
		return fail("list token pools", err)
	})
	pools, next = keyset.Cut(pools, page, func(p fleet.TokenPool) string {
		return keyset.NamePlace{Name: p.Name, ID: string(p.ID)}.String()
	})
	return pools, next, err
}

// TokenPoolByHash implements store.TokenPools.
func (s *Store) TokenPoolByHash(ctx context.Context, hash [32]byte) (p fleet.TokenPool, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		p, err = one(ctx, tx, scanTokenPool, `
			SELECT `+poolSettings+`, 0 FROM token_pools p WHERE hash = ?1 OR previous_hash = ?1 ORDER BY hash = ?1 DESC LIMIT 1`, hash[:])
		return fail("find a token pool", err)
	})
	return p, err
}

// UpdateTokenPool implements store.TokenPools.
func (s *Store) UpdateTokenPool(ctx context.Context, by fleet.By, id fleet.PoolID, change fleet.PoolChange) (p fleet.TokenPool, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		before, err := livingPool(ctx, tx, by.Tenant, id, by.At)
		if err != nil {
			return err
		}
		if change.Group != nil {
			if err := groupOrNone(ctx, tx, by.Tenant, *change.Group); err != nil {
				return err
			}
		}
		p = change.Of(before, by.At)
		_, err = tx.ExecContext(ctx, `
			UPDATE token_pools SET description = ?3, group_id = ?4, ttl_seconds = ?5, live_limit = ?6, per_hour = ?7, burst = ?8,
				disabled_at = ?9, drawn_until = ?10, tags = ?11
			WHERE tenant_id = ?1 AND id = ?2`,
			by.Tenant, id, p.Description, column.OrNull(p.Group), int64(p.TTL/time.Second), p.LiveLimit, p.PerHour, p.Burst, moment(p.DisabledAt), moment(p.DrawnUntil), asJSON(column.NotNullMap(p.Tags)))
		if err != nil {
			return fail("update a token pool", err)
		}
		return appendAudit(ctx, tx, by, trail.PoolUpdated(before, p))
	})
	if err != nil {
		return fleet.TokenPool{}, err
	}
	return p, nil
}

// RotateTokenPool implements store.TokenPools.
func (s *Store) RotateTokenPool(ctx context.Context, by fleet.By, id fleet.PoolID, hash [32]byte, until time.Time) (p fleet.TokenPool, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		if _, err := livingPool(ctx, tx, by.Tenant, id, by.At); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `
			UPDATE token_pools SET hash = ?3, rotated_at = ?4, previous_hash = hash, previous_until = coalesce(?5, ?4)
			WHERE tenant_id = ?1 AND id = ?2`, by.Tenant, id, hash[:], moment(by.At), moment(until))
		if err != nil {
			return fail("rotate the secret of a token pool", err)
		}
		p, err = livingPool(ctx, tx, by.Tenant, id, by.At)
		if err != nil {
			return err
		}
		return appendAudit(ctx, tx, by, trail.PoolRotated(p, until))
	})
	if err != nil {
		return fleet.TokenPool{}, err
	}
	return p, nil
}

// DeleteTokenPool implements store.TokenPools.
func (s *Store) DeleteTokenPool(ctx context.Context, by fleet.By, id fleet.PoolID) (revoked int, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		p, err := livingPool(ctx, tx, by.Tenant, id, by.At)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE token_pools SET deleted_at = ?3 WHERE tenant_id = ?1 AND id = ?2`, by.Tenant, id, moment(by.At))
		if err != nil {
			return fail("delete a token pool", err)
		}
		revoked, err = changed(tx.ExecContext(ctx, `
			UPDATE bootstrap_tokens SET revoked_at = ?3
			WHERE tenant_id = ?1 AND pool_id = ?2 AND redeemed_at IS NULL AND revoked_at IS NULL AND expires_at > ?3`,
			by.Tenant, id, moment(by.At)))
		if err != nil {
			return fail("revoke the tokens of a pool", err)
		}
		return appendAudit(ctx, tx, by, trail.PoolDeleted(p, revoked))
	})
	if err != nil {
		return 0, err
	}
	return revoked, nil
}

// DrawToken implements store.TokenPools.
func (s *Store) DrawToken(ctx context.Context, by fleet.By, id fleet.PoolID, t fleet.BootstrapToken) (v fleet.DrawVerdict, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		p, err := livingPool(ctx, tx, by.Tenant, id, by.At)
		if err != nil {
			return err
		}
		v = verdict.OfDraw(p, p.Live, by.At)
		if v.Reason != "" {
			return countRefusal(ctx, tx, fleet.Refusal{By: by, Action: "bootstrap_token.issue", Reason: v.Reason, Entity: string(id)})
		}
		v.Token = p.Draw(t, by.At)
		_, err = tx.ExecContext(ctx, `UPDATE token_pools SET drawn_until = ?3 WHERE tenant_id = ?1 AND id = ?2`, by.Tenant, id, moment(v.DrawnUntil))
		if err != nil {
			return fail("draw a token", err)
		}
		return issue(ctx, tx, by, v.Token)
	})
	if err != nil {
		return fleet.DrawVerdict{}, err
	}
	return v, nil
}

// livingPool finds a pool that is not deleted, with its tokens counted that are live at now.
func livingPool(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, id fleet.PoolID, now time.Time) (fleet.TokenPool, error) {
	p, err := one(ctx, tx, scanTokenPool, `
		SELECT `+poolColumns+` FROM token_pools p WHERE tenant_id = ?1 AND id = ?3 AND deleted_at IS NULL`, tenant, moment(now), id)
	return p, fail("find a token pool", err)
}

const (
	poolSettings = `tenant_id, id, name, description, group_id, tags, ttl_seconds, live_limit, per_hour, burst, hash, previous_hash,
	previous_until, rotated_at, drawn_until, created_by, created_at, disabled_at, deleted_at`
	// poolColumns are the settings, and the tokens that are live at ?2.
	poolColumns = poolSettings + `, (SELECT count(*) FROM bootstrap_tokens t WHERE t.tenant_id = p.tenant_id AND t.pool_id = p.id
		AND t.redeemed_at IS NULL AND t.revoked_at IS NULL AND t.expires_at > ?2)`
)

func scanTokenPool(row scanner) (p fleet.TokenPool, err error) {
	var seconds int64
	err = row.Scan(&p.Tenant, &p.ID, &p.Name, &p.Description, (*text)(&p.Group), document(&p.Tags), &seconds, &p.LiveLimit, &p.PerHour, &p.Burst,
		(*hash)(&p.Hash), (*hash)(&p.PreviousHash), (*instant)(&p.PreviousUntil), (*instant)(&p.RotatedAt), (*instant)(&p.DrawnUntil),
		&p.CreatedBy, (*instant)(&p.CreatedAt), (*instant)(&p.DisabledAt), (*instant)(&p.DeletedAt), &p.Live)
	p.TTL = time.Duration(seconds) * time.Second
	return p, err
}

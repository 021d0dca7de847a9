// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// CreateAPIToken implements store.Access.
func (s *Store) CreateAPIToken(ctx context.Context, by fleet.By, t fleet.APIToken) error {
	return s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		var taken bool
		err := tx.QueryRowContext(ctx, `
			SELECT EXISTS (SELECT 1 FROM api_tokens
			               WHERE tenant_id = ?1 AND name = ?2 AND revoked_at IS NULL AND expires_at > ?3)`,
			by.Tenant, t.Name, moment(by.At)).Scan(&taken)
		switch {
		case err != nil:
			return fail("create an API token", err)
		case taken:
			return fmt.Errorf("create an API token named %q: %w", t.Name, store.ErrExists)
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO api_tokens (tenant_id, id, name, role, hash, procedures, created_by, created_at, expires_at)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)`,
			by.Tenant, t.ID, t.Name, int(t.Role), t.Hash[:], asJSON(column.NotNull(t.Procedures)), t.CreatedBy, moment(t.CreatedAt), moment(t.ExpiresAt))
		if err != nil {
			return fail("create an API token", err)
		}
		return appendAudit(ctx, tx, by, trail.APITokenCreated(t))
	})
}

// APITokenByHash implements store.Access.
func (s *Store) APITokenByHash(ctx context.Context, hash [32]byte) (t fleet.APIToken, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		t, err = one(ctx, tx, scanAPIToken, "SELECT "+accessColumns+" FROM api_tokens WHERE hash = ?1", hash[:])
		return fail("find an API token", err)
	})
	return t, err
}

// APITokens implements store.Access.
func (s *Store) APITokens(ctx context.Context, tenant fleet.TenantID, page fleet.Page) (tokens []fleet.APIToken, next string, err error) {
	after, err := keyset.PlaceOf(page.After)
	if err != nil {
		return nil, "", err
	}
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		tokens, err = list(ctx, tx, scanAPIToken, `
			SELECT `+accessColumns+` FROM api_tokens
			WHERE tenant_id = ?1 AND (created_at, id) < (?2, ?3)
			ORDER BY created_at DESC, id DESC LIMIT ?4`, tenant, moment(after.At), after.ID, keyset.Limit(page))
		return fail("list API tokens", err)
	})
	tokens, next = keyset.Cut(tokens, page, func(t fleet.APIToken) string {
		return keyset.Place{At: t.CreatedAt, ID: string(t.ID)}.String()
	})
	return tokens, next, err
}

// RevokeAPIToken implements store.Access.
func (s *Store) RevokeAPIToken(ctx context.Context, by fleet.By, id fleet.TokenID) (t fleet.APIToken, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		t, err = one(ctx, tx, scanAPIToken, `
			SELECT `+accessColumns+` FROM api_tokens WHERE tenant_id = ?1 AND id = ?2`, by.Tenant, id)
		if err != nil {
			return fail("revoke an API token", err)
		}
		if t.State(by.At) != fleet.TokenLive {
			return fmt.Errorf("revoke an API token: %w", store.ErrState)
		}
		t, err = one(ctx, tx, scanAPIToken, `
			UPDATE api_tokens SET revoked_at = ?3 WHERE tenant_id = ?1 AND id = ?2 RETURNING `+accessColumns,
			by.Tenant, id, moment(by.At))
		if err != nil {
			return fail("revoke an API token", err)
		}
		return appendAudit(ctx, tx, by, trail.APITokenRevoked(t))
	})
	if err != nil {
		return fleet.APIToken{}, err
	}
	return t, nil
}

const accessColumns = "tenant_id, id, name, role, hash, procedures, created_by, created_at, expires_at, revoked_at"

func scanAPIToken(row scanner) (t fleet.APIToken, err error) {
	err = row.Scan(&t.Tenant, &t.ID, &t.Name, &t.Role, (*hash)(&t.Hash), document(&t.Procedures), &t.CreatedBy,
		(*instant)(&t.CreatedAt), (*instant)(&t.ExpiresAt), (*instant)(&t.RevokedAt))
	return t, err
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// IssueBootstrapToken implements store.Enrolment.
func (s *Store) IssueBootstrapToken(ctx context.Context, by fleet.By, t fleet.BootstrapToken) error {
	return s.inTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		if err := groupOrNone(ctx, tx, by.Tenant, t.Group); err != nil {
			return err
		}
		return issue(ctx, tx, by, t)
	})
}

// groupOrNone refuses the id of a group that there is not, or that chooses its members itself.
func groupOrNone(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, group fleet.GroupID) error {
	if group == "" {
		return nil
	}
	g, err := livingGroup(ctx, tx, tenant, group, "FOR SHARE")
	if err == nil && g.Dynamic() {
		return fmt.Errorf("enrol into a group: %w", store.ErrDynamic)
	}
	return err
}

// issue stores a token, with its audit.
func issue(ctx context.Context, tx pgx.Tx, by fleet.By, t fleet.BootstrapToken) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO bootstrap_tokens (tenant_id, id, hash, group_id, tags, description, pool_id, for_agent_id, replaces, created_by, created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		by.Tenant, t.ID, t.Hash[:], column.OrNull(t.Group), column.NotNullMap(t.Tags), t.Description, column.OrNull(t.Pool), column.OrNull(t.For), t.Replaces,
		t.CreatedBy, moment(t.CreatedAt), moment(t.ExpiresAt))
	if err != nil {
		return fail("issue a bootstrap token", err)
	}
	return appendAudit(ctx, tx, by, trail.BootstrapTokenIssued(t))
}

// BootstrapTokensByHash implements store.Enrolment.
func (s *Store) BootstrapTokensByHash(ctx context.Context, hashes ...[32]byte) (map[[32]byte]fleet.BootstrapToken, error) {
	found := make(map[[32]byte]fleet.BootstrapToken, len(hashes))
	err := s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		tokens, err := list(ctx, tx, scanBootstrapToken,
			"SELECT "+enrolmentColumns+" FROM bootstrap_tokens WHERE hash = ANY((SELECT $1::bytea[])::bytea[])",
			array(hashes, func(h [32]byte) []byte { return h[:] }))
		for _, t := range tokens {
			found[t.Hash] = t
		}
		return fail("find bootstrap tokens", err)
	})
	return found, err
}

// BootstrapTokens implements store.Enrolment.
func (s *Store) BootstrapTokens(ctx context.Context, tenant fleet.TenantID, page fleet.Page) (tokens []fleet.BootstrapToken, next string, err error) {
	after, err := keyset.PlaceOf(page.After)
	if err != nil {
		return nil, "", err
	}
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		tokens, err = list(ctx, tx, scanBootstrapToken, `
			SELECT `+enrolmentColumns+` FROM bootstrap_tokens
			WHERE tenant_id = $1 AND (created_at, id) < ($2, $3)
			ORDER BY created_at DESC, id DESC LIMIT $4`, tenant, moment(after.At), after.ID, keyset.Limit(page))
		return fail("list bootstrap tokens", err)
	})
	tokens, next = keyset.Cut(tokens, page, func(t fleet.BootstrapToken) string {
		return keyset.Place{At: t.CreatedAt, ID: string(t.ID)}.String()
	})
	return tokens, next, err
}

// RevokeBootstrapToken implements store.Enrolment.
func (s *Store) RevokeBootstrapToken(ctx context.Context, by fleet.By, id fleet.TokenID) (t fleet.BootstrapToken, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		t, err = lockBootstrapToken(ctx, tx, by.Tenant, id)
		if err != nil {
			return err
		}
		if t.State(by.At) != fleet.TokenLive {
			return fmt.Errorf("revoke a bootstrap token: %w", store.ErrState)
		}
		t, err = one(ctx, tx, scanBootstrapToken, `
			UPDATE bootstrap_tokens SET revoked_at = $3 WHERE tenant_id = $1 AND id = $2 RETURNING `+enrolmentColumns,
			by.Tenant, id, moment(by.At))
		if err != nil {
			return fail("revoke a bootstrap token", err)
		}
		return appendAudit(ctx, tx, by, trail.BootstrapTokenRevoked(id))
	})
	if err != nil {
		return fleet.BootstrapToken{}, err
	}
	return t, nil
}

// SweepBootstrapTokens implements store.Enrolment. The worker sees the tokens of all tenants, and locks those of one that it
// enters, in the order in which tokens are redeemed.
func (s *Store) SweepBootstrapTokens(ctx context.Context, before time.Time, most int) (n int, err error) {
	err = s.asWorker(ctx, func(tx pgx.Tx) error {
		n = 0
		over, err := list(ctx, tx, scanBootstrapToken, `
			SELECT `+enrolmentColumns+` FROM bootstrap_tokens WHERE redeemed_at IS NULL AND expires_at < $1 ORDER BY expires_at LIMIT $2`,
			moment(before), most)
		if err != nil {
			return fail("list bootstrap tokens that are over", err)
		}
		of := map[fleet.TenantID][]fleet.BootstrapToken{}
		for _, t := range over {
			of[t.Tenant] = append(of[t.Tenant], t)
		}
		for _, tenant := range slices.Sorted(maps.Keys(of)) {
			deleted, err := deleteTokens(ctx, tx, tenant, of[tenant])
			if err != nil {
				return err
			}
			n += deleted
		}
		return nil
	})
	return n, err
}

// deleteTokens deletes tokens of a tenant, unless they were redeemed meanwhile.
func deleteTokens(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, tokens []fleet.BootstrapToken) (int, error) {
	if err := enter(ctx, tx, tenant); err != nil {
		return 0, err
	}
	n, err := affected(tx.Exec(ctx, `
		DELETE FROM bootstrap_tokens WHERE tenant_id = $1 AND id IN (
			SELECT id FROM bootstrap_tokens WHERE tenant_id = $1 AND id `+among+` AND redeemed_at IS NULL ORDER BY id FOR UPDATE)`,
		tenant, ids(tokens, func(t fleet.BootstrapToken) fleet.TokenID { return t.ID })))
	return n, fail("sweep bootstrap tokens", err)
}

const enrolmentColumns = `tenant_id, id, hash, group_id, tags, description, created_by, created_at, expires_at, revoked_at,
	redeemed_at, agent_id, public_key, serial, for_agent_id, replaces, pool_id,
	coalesce((SELECT p.name FROM token_pools p WHERE p.tenant_id = bootstrap_tokens.tenant_id AND p.id = bootstrap_tokens.pool_id), '')`

func scanBootstrapToken(row pgx.Row) (t fleet.BootstrapToken, err error) {
	err = row.Scan(&t.Tenant, &t.ID, (*hash)(&t.Hash), (*text)(&t.Group), &t.Tags, &t.Description, &t.CreatedBy,
		(*instant)(&t.CreatedAt), (*instant)(&t.ExpiresAt), (*instant)(&t.RevokedAt),
		(*instant)(&t.RedeemedAt), (*text)(&t.Agent), (*hash)(&t.PublicKey), (*text)(&t.Serial), (*text)(&t.For), &t.Replaces, (*text)(&t.Pool), &t.PoolName)
	return t, err
}

func lockBootstrapToken(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, id fleet.TokenID) (fleet.BootstrapToken, error) {
	t, err := one(ctx, tx, scanBootstrapToken, `
		SELECT `+enrolmentColumns+` FROM bootstrap_tokens WHERE tenant_id = $1 AND id = $2 FOR UPDATE`, tenant, id)
	return t, fail("find a bootstrap token", err)
}

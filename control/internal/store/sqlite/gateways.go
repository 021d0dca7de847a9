// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// IssueJoinToken implements store.Gateways.
func (s *Store) IssueJoinToken(ctx context.Context, by fleet.By, t fleet.JoinToken) error {
	return s.asWorker(ctx, func(tx *sql.Tx) error {
		there, err := tenantsIn(ctx, tx, t.Scope)
		if err != nil {
			return err
		}
		if !t.Scope.Every && len(there) < len(t.Scope.Tenants) {
			return fmt.Errorf("issue a join token: a tenant of its scope: %w", store.ErrNotFound)
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO join_tokens (id, hash, gateway_id, every_tenant, tenants, issuer, created_by, created_at, expires_at)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)`,
			t.ID, t.Hash[:], t.Gateway, t.Scope.Every, asJSON(column.NotNull(t.Scope.Tenants)), by.Tenant, t.CreatedBy,
			moment(t.CreatedAt), moment(t.ExpiresAt))
		if err != nil {
			return fail("issue a join token", err)
		}
		return tell(ctx, tx, by, trail.JoinTokenIssued(t))
	})
}

// JoinTokenByHash implements store.Gateways.
func (s *Store) JoinTokenByHash(ctx context.Context, hash [32]byte) (t fleet.JoinToken, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		t, err = one(ctx, tx, scanJoinToken, "SELECT "+joinColumns+" FROM join_tokens WHERE hash = ?1", hash[:])
		return fail("find a join token", err)
	})
	return t, err
}

// JoinTokens implements store.Gateways.
func (s *Store) JoinTokens(ctx context.Context, tenant fleet.TenantID, page fleet.Page) (tokens []fleet.JoinToken, next string, err error) {
	after, err := keyset.PlaceOf(page.After)
	if err != nil {
		return nil, "", err
	}
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		tokens, err = list(ctx, tx, scanJoinToken, `
			SELECT `+joinColumns+` FROM join_tokens
			WHERE issuer = ?1 AND (created_at, id) < (?2, ?3)
			ORDER BY created_at DESC, id DESC LIMIT ?4`, tenant, moment(after.At), after.ID, keyset.Limit(page))
		return fail("list join tokens", err)
	})
	tokens, next = keyset.Cut(tokens, page, func(t fleet.JoinToken) string {
		return keyset.Place{At: t.CreatedAt, ID: string(t.ID)}.String()
	})
	return tokens, next, err
}

// RevokeJoinToken implements store.Gateways.
func (s *Store) RevokeJoinToken(ctx context.Context, by fleet.By, id fleet.TokenID) (t fleet.JoinToken, err error) {
	err = s.asWorker(ctx, func(tx *sql.Tx) error {
		t, err = one(ctx, tx, scanJoinToken, `
			SELECT `+joinColumns+` FROM join_tokens WHERE issuer = ?1 AND id = ?2`, by.Tenant, id)
		if err != nil {
			return fail("revoke a join token", err)
		}
		if t.State(by.At) != fleet.TokenLive {
			return fmt.Errorf("revoke a join token: %w", store.ErrState)
		}
		t, err = one(ctx, tx, scanJoinToken, `
			UPDATE join_tokens SET revoked_at = ?2 WHERE id = ?1 RETURNING `+joinColumns, id, moment(by.At))
		if err != nil {
			return fail("revoke a join token", err)
		}
		return tell(ctx, tx, by, trail.JoinTokenRevoked(t))
	})
	if err != nil {
		return fleet.JoinToken{}, err
	}
	return t, nil
}

// Join implements store.Gateways. The rules are verdict.OfJoin's: of two, the second finds the token used.
func (s *Store) Join(ctx context.Context, j store.Joining) (g fleet.Gateway, err error) {
	err = s.asWorker(ctx, func(tx *sql.Tx) error {
		token, err := one(ctx, tx, scanJoinToken, `SELECT `+joinColumns+` FROM join_tokens WHERE id = ?1`, j.Token)
		if err != nil {
			return fail("find the join token", err)
		}
		former, err := formerGateway(ctx, tx, token.Gateway)
		if err != nil {
			return err
		}
		if err := verdict.OfJoin(j, token, former); err != nil {
			return err
		}
		if g, err = join(ctx, tx, j, token); err != nil {
			return err
		}
		return tellJoined(ctx, tx, j, g, token.Scope.With(former.Scope).With(fleet.ScopeOf(token.Tenant)))
	})
	if err != nil {
		return fleet.Gateway{}, err
	}
	return g, nil
}

// formerGateway reads the row of a name, which it makes if there is none. What did not exist has served nobody.
func formerGateway(ctx context.Context, tx *sql.Tx, id fleet.GatewayID) (fleet.Gateway, error) {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO gateways (id, boot_id, every_tenant) VALUES (?1, 0, false) ON CONFLICT (id) DO NOTHING`, id)
	if err != nil {
		return fleet.Gateway{}, fail("note the gateway", err)
	}
	g, err := one(ctx, tx, scanGateway, `SELECT `+gatewayColumns+`, 0 FROM gateways WHERE id = ?1`, id)
	return g, fail("read the gateway", err)
}

// join writes that the token was used, at first if it was before, and what it makes of the gateway.
func join(ctx context.Context, tx *sql.Tx, j store.Joining, t fleet.JoinToken) (fleet.Gateway, error) {
	_, err := tx.ExecContext(ctx, `UPDATE join_tokens SET used_at = coalesce(used_at, ?2), public_key = ?3 WHERE id = ?1`,
		t.ID, moment(j.At), j.PublicKey[:])
	if err != nil {
		return fleet.Gateway{}, fail("use the join token", err)
	}
	joined := verdict.Joined(j, t)
	g, err := one(ctx, tx, scanGateway, `
		UPDATE gateways SET every_tenant = ?2, tenants = ?3, serial = ?4, previous_serial = '', not_after = ?5,
			joined_at = ?6, revoked_at = NULL, boot_id = 0, version = '', started_at = NULL, lease_until = NULL, bus_lost = false
		WHERE id = ?1 RETURNING `+gatewayColumns+`, 0`,
		joined.ID, joined.Scope.Every, asJSON(column.NotNull(joined.Scope.Tenants)), joined.Serial, moment(joined.NotAfter), moment(joined.JoinedAt))
	return g, fail("record the gateway", err)
}

func tellJoined(ctx context.Context, tx *sql.Tx, j store.Joining, g fleet.Gateway, scope fleet.Scope) error {
	tenants, err := tenantsIn(ctx, tx, scope)
	for _, tenant := range tenants {
		by, entry := trail.GatewayJoined(tenant, j, g)
		if err := tell(ctx, tx, by, entry); err != nil {
			return err
		}
	}
	return err
}

// RenewGateway implements store.Gateways.
func (s *Store) RenewGateway(ctx context.Context, id fleet.GatewayID, shown, next fleet.Serial, notAfter time.Time) error {
	return s.asWorker(ctx, func(tx *sql.Tx) error {
		renewed, err := changed(tx.ExecContext(ctx, `
			UPDATE gateways SET previous_serial = ?2, serial = ?3, not_after = ?4
			WHERE id = ?1 AND ?2 IN (serial, previous_serial) AND ?2 <> '' AND revoked_at IS NULL`,
			id, shown, next, moment(notAfter)))
		if err == nil && renewed == 0 {
			return fmt.Errorf("renew the certificate of gateway %s: %w", id, store.ErrConflict)
		}
		return fail("renew a gateway's certificate", err)
	})
}

// Gateway implements store.Gateways.
func (s *Store) Gateway(ctx context.Context, id fleet.GatewayID) (g fleet.Gateway, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		g, err = one(ctx, tx, scanGateway, `SELECT `+gatewayColumns+`, 0 FROM gateways WHERE id = ?1`, id)
		return fail("read the gateway", err)
	})
	return g, err
}

// selectGateways reads gateways g that may serve the tenant ?1, with its open sessions there.
const selectGateways = `
	SELECT ` + gatewayColumns + `,
	       (SELECT count(*) FROM agents a WHERE a.tenant_id = ?1 AND a.gateway_id = g.id AND a.boot_id = g.boot_id
	        AND a.ended_at IS NULL AND a.epoch > 0)
	FROM gateways g WHERE (every_tenant OR EXISTS (SELECT 1 FROM json_each(g.tenants) WHERE value = ?1))`

// GatewayOf implements store.Gateways.
func (s *Store) GatewayOf(ctx context.Context, tenant fleet.TenantID, id fleet.GatewayID) (g fleet.Gateway, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		g, err = one(ctx, tx, scanGateway, selectGateways+` AND id = ?2`, tenant, id)
		return fail("read the gateway", err)
	})
	return g, err
}

// Gateways implements store.Gateways.
func (s *Store) Gateways(ctx context.Context, tenant fleet.TenantID, page fleet.Page) (gateways []fleet.Gateway, next string, err error) {
	err = s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		gateways, err = list(ctx, tx, scanGateway, selectGateways+` AND id > ?2 ORDER BY id LIMIT ?3`,
			tenant, page.After, keyset.Limit(page))
		return fail("list gateways", err)
	})
	gateways, next = keyset.Cut(gateways, page, func(g fleet.Gateway) string { return string(g.ID) })
	return gateways, next, err
}

// RevokeGateway implements store.Gateways.
func (s *Store) RevokeGateway(ctx context.Context, by fleet.By, id fleet.GatewayID) (g fleet.Gateway, err error) {
	err = s.asWorker(ctx, func(tx *sql.Tx) error {
		if err := voidJoinTokens(ctx, tx, by, id); err != nil {
			return err
		}
		g, err = one(ctx, tx, scanGateway, `SELECT `+gatewayColumns+`, 0 FROM gateways WHERE id = ?1`, id)
		if err != nil {
			return fail("find the gateway", err)
		}
		if err := verdict.OfRevocation(by, g); err != nil {
			return err
		}
		g, err = one(ctx, tx, scanGateway, `
			UPDATE gateways SET revoked_at = ?2, lease_until = CASE WHEN lease_until > ?2 THEN ?2 ELSE lease_until END
			WHERE id = ?1 RETURNING `+gatewayColumns+`, 0`,
			id, moment(by.At))
		if err != nil {
			return fail("revoke the gateway", err)
		}
		if err := endSessions(ctx, tx, ending{gateway: id, reason: trail.EndGatewayRevoked, at: by.At}); err != nil {
			return err
		}
		return tellRevoked(ctx, tx, by, g)
	})
	if err != nil {
		return fleet.Gateway{}, err
	}
	return g, nil
}

// voidJoinTokens revokes the tokens with which the gateway might join anew, as far as they are by's to revoke.
func voidJoinTokens(ctx context.Context, tx *sql.Tx, by fleet.By, gateway fleet.GatewayID) error {
	tokens, err := list(ctx, tx, scanJoinToken, `
		SELECT `+joinColumns+` FROM join_tokens
		WHERE gateway_id = ?1 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > ?2`, gateway, moment(by.At))
	if err != nil {
		return fail("find the gateway's join tokens", err)
	}
	for _, t := range tokens {
		if by.Tenant != "" && !t.Scope.Alone(by.Tenant) {
			continue
		}
		if _, err := tx.ExecContext(ctx, `UPDATE join_tokens SET revoked_at = ?2 WHERE id = ?1`, t.ID, moment(by.At)); err != nil {
			return fail("revoke a join token", err)
		}
	}
	return nil
}

func tellRevoked(ctx context.Context, tx *sql.Tx, by fleet.By, g fleet.Gateway) error {
	tenants, err := tenantsIn(ctx, tx, g.Scope)
	for _, tenant := range tenants {
		by.Tenant = tenant
		if err := tell(ctx, tx, by, trail.GatewayRevoked(g)); err != nil {
			return err
		}
	}
	return err
}

// tell writes into the audit log of by.Tenant, if it is one.
func tell(ctx context.Context, tx *sql.Tx, by fleet.By, e trail.Entry) error {
	if by.Tenant == "" {
		return nil
	}
	if err := enter(ctx, tx, by.Tenant); err != nil {
		return err
	}
	return appendAudit(ctx, tx, by, e)
}

// tenantsIn returns the tenants of a scope that there are.
func tenantsIn(ctx context.Context, tx *sql.Tx, scope fleet.Scope) ([]fleet.TenantID, error) {
	scan := func(row scanner) (id fleet.TenantID, err error) {
		err = row.Scan(&id)
		return id, err
	}
	tenants, err := list(ctx, tx, scan, `SELECT id FROM tenants WHERE ?1 OR id IN (SELECT value FROM json_each(?2)) ORDER BY id`,
		scope.Every, asJSON(column.NotNull(scope.Tenants)))
	return tenants, fail("read the tenants of a scope", err)
}

const joinColumns = `id, hash, gateway_id, every_tenant, tenants, issuer, created_by, created_at, expires_at, revoked_at,
	used_at, public_key`

func scanJoinToken(row scanner) (t fleet.JoinToken, err error) {
	var tenants []fleet.TenantID
	err = row.Scan(&t.ID, (*hash)(&t.Hash), &t.Gateway, &t.Scope.Every, document(&tenants), &t.Tenant, &t.CreatedBy,
		(*instant)(&t.CreatedAt), (*instant)(&t.ExpiresAt), (*instant)(&t.RevokedAt), (*instant)(&t.UsedAt), (*hash)(&t.PublicKey))
	t.Scope.Tenants = fleet.ScopeOf(tenants...).Tenants
	return t, err
}

const gatewayColumns = `id, every_tenant, tenants, serial, previous_serial, not_after, joined_at, revoked_at, boot_id, version,
	started_at, lease_until, bus_lost`

// scanGateway scans gatewayColumns and the number of sessions.
func scanGateway(row scanner) (g fleet.Gateway, err error) {
	var tenants []fleet.TenantID
	var boot int64
	err = row.Scan(&g.ID, &g.Scope.Every, document(&tenants), &g.Serial, &g.Previous, (*instant)(&g.NotAfter),
		(*instant)(&g.JoinedAt), (*instant)(&g.RevokedAt), &boot, &g.Version, (*instant)(&g.StartedAt),
		(*instant)(&g.LeaseUntil), &g.BusLost, &g.Sessions)
	g.BootID, g.Scope.Tenants = column.Unbits(boot), fleet.ScopeOf(tenants...).Tenants
	return g, err
}

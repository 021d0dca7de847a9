// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// IssueBootstrapToken implements store.Enrolment.
func (s *Store) IssueBootstrapToken(ctx context.Context, by fleet.By, t fleet.BootstrapToken) error {
	return s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		if err := groupOrNone(ctx, tx, by.Tenant, t.Group); err != nil {
			return err
		}
		if t.For != "" {
			if err := checkAgent(ctx, tx, by.Tenant, t.For); err != nil {
				return err
			}
		}
		return issue(ctx, tx, by, t)
	})
}

// groupOrNone refuses the id of a group that there is not, or that chooses its members itself.
func groupOrNone(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, group fleet.GroupID) error {
	if group == "" {
		return nil
	}
	g, err := livingGroup(ctx, tx, tenant, group)
	if err == nil && g.Dynamic() {
		return fmt.Errorf("enrol into a group: %w", store.ErrDynamic)
	}
	return err
}

// issue stores a token, with its audit.
func issue(ctx context.Context, tx *sql.Tx, by fleet.By, t fleet.BootstrapToken) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO bootstrap_tokens (tenant_id, id, hash, group_id, tags, description, pool_id, for_agent_id, replaces, created_by, created_at, expires_at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)`,
		by.Tenant, t.ID, t.Hash[:], column.OrNull(t.Group), asJSON(column.NotNullMap(t.Tags)), t.Description, column.OrNull(t.Pool), column.OrNull(t.For), t.Replaces,
		t.CreatedBy, moment(t.CreatedAt), moment(t.ExpiresAt))
	if err != nil {
		return fail("issue a bootstrap token", err)
	}
	return appendAudit(ctx, tx, by, trail.BootstrapTokenIssued(t))
}

// BootstrapTokensByHash implements store.Enrolment.
func (s *Store) BootstrapTokensByHash(ctx context.Context, hashes ...[32]byte) (map[[32]byte]fleet.BootstrapToken, error) {
	found := make(map[[32]byte]fleet.BootstrapToken, len(hashes))
	err := s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		for _, hash := range hashes {
			t, err := one(ctx, tx, scanBootstrapToken, "SELECT "+enrolmentColumns+" FROM bootstrap_tokens WHERE hash = ?1", hash[:])
			if err = fail("find a bootstrap token", err); errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			found[hash] = t
		}
		return nil
	})
	return found, err
}

// BootstrapTokens implements store.Enrolment.
func (s *Store) BootstrapTokens(ctx context.Context, tenant fleet.TenantID, page fleet.Page) (tokens []fleet.BootstrapToken, next string, err error) {
	after, err := keyset.PlaceOf(page.After)
	if err != nil {
		return nil, "", err
	}
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		tokens, err = list(ctx, tx, scanBootstrapToken, `
			SELECT `+enrolmentColumns+` FROM bootstrap_tokens
			WHERE tenant_id = ?1 AND (created_at, id) < (?2, ?3)
			ORDER BY created_at DESC, id DESC LIMIT ?4`, tenant, moment(after.At), after.ID, keyset.Limit(page))
		return fail("list bootstrap tokens", err)
	})
	tokens, next = keyset.Cut(tokens, page, func(t fleet.BootstrapToken) string {
		return keyset.Place{At: t.CreatedAt, ID: string(t.ID)}.String()
	})
	return tokens, next, err
}

// RevokeBootstrapToken implements store.Enrolment.
func (s *Store) RevokeBootstrapToken(ctx context.Context, by fleet.By, id fleet.TokenID) (t fleet.BootstrapToken, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		t, err = bootstrapToken(ctx, tx, by.Tenant, id)
		if err != nil {
			return err
		}
		if t.State(by.At) != fleet.TokenLive {
			return fmt.Errorf("revoke a bootstrap token: %w", store.ErrState)
		}
		t, err = one(ctx, tx, scanBootstrapToken, `
			UPDATE bootstrap_tokens SET revoked_at = ?3 WHERE tenant_id = ?1 AND id = ?2 RETURNING `+enrolmentColumns,
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

// SweepBootstrapTokens implements store.Enrolment.
func (s *Store) SweepBootstrapTokens(ctx context.Context, before time.Time, most int) (n int, err error) {
	err = s.asWorker(ctx, func(tx *sql.Tx) error {
		n, err = changed(tx.ExecContext(ctx, `
			DELETE FROM bootstrap_tokens WHERE (tenant_id, id) IN (
				SELECT tenant_id, id FROM bootstrap_tokens WHERE redeemed_at IS NULL AND expires_at < ?1 ORDER BY expires_at LIMIT ?2)`,
			moment(before), most))
		return fail("sweep bootstrap tokens", err)
	})
	return n, err
}

// Redeem implements store.Enrolment. The second of two finds the token redeemed. Each is a transaction: nothing is gained
// by waiting in line together.
func (s *Store) Redeem(ctx context.Context, list []store.Redemption) []error {
	results := make([]error, len(list))
	for i, r := range list {
		results[i] = s.redeem(ctx, r.By, r)
	}
	return results
}

func (s *Store) redeem(ctx context.Context, by fleet.By, r store.Redemption) error {
	return s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		token, err := bootstrapToken(ctx, tx, by.Tenant, r.Token)
		if err != nil {
			return err
		}
		if err := verdict.OfRedemption(token, "", by.At); err != nil {
			return err
		}
		group, err := enrol(ctx, tx, by, token, r)
		if err != nil {
			return err
		}
		if err := spend(ctx, tx, r); err != nil {
			return err
		}
		entry, event := trail.Enrolled(r, token, group)
		if err := appendAudit(ctx, tx, by, entry); err != nil {
			return err
		}
		return appendEvent(ctx, tx, event)
	})
}

// spend uses the token up.
func spend(ctx context.Context, tx *sql.Tx, r store.Redemption) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE bootstrap_tokens SET redeemed_at = ?3, agent_id = ?4, public_key = ?5, serial = ?6
		WHERE tenant_id = ?1 AND id = ?2`,
		r.By.Tenant, r.Token, moment(r.By.At), r.Agent, r.Certificate.PublicKey[:], r.Certificate.Serial)
	return fail("redeem a bootstrap token", err)
}

// enrol writes the identity, as a member of the token's group unless that was deleted meanwhile, with its tags, what it
// gets there by default, and its certificate.
func enrol(ctx context.Context, tx *sql.Tx, by fleet.By, token fleet.BootstrapToken, r store.Redemption) (group fleet.GroupID, err error) {
	err = tx.QueryRowContext(ctx, `
		INSERT INTO agents (tenant_id, id, partition, enrolled_at, method, group_id)
		VALUES (?1, ?2, ?3, ?4, ?5,
		        (SELECT id FROM groups WHERE tenant_id = ?1 AND id = ?6 AND deleted_at IS NULL))
		RETURNING group_id`,
		by.Tenant, r.Agent, r.Partition, moment(by.At), r.Method, column.OrNull(token.Group)).Scan((*text)(&group))
	if err != nil {
		return "", fail("record the identity", err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO agent_tags (tenant_id, agent_id, key, value, origin) SELECT ?1, ?2, key, value, 'enrolment' FROM json_each(?3)`,
		by.Tenant, r.Agent, asJSON(column.NotNullMap(token.Tags)))
	if err != nil {
		return "", fail("tag the identity", err)
	}
	if err := noteChanged(ctx, tx, by.Tenant, []fleet.AgentID{r.Agent}); err != nil {
		return "", err
	}
	if err := arrive(ctx, tx, by, r.Agent, group); err != nil {
		return "", err
	}
	return group, putCertificate(ctx, tx, r.Certificate)
}

// arrive gives an agent that joined a group the default of that, if it has one, and lets it wait for the rest if it must.
func arrive(ctx context.Context, tx *sql.Tx, by fleet.By, agent fleet.AgentID, group fleet.GroupID) error {
	if group == "" {
		return nil
	}
	g, err := livingGroup(ctx, tx, by.Tenant, group)
	if err != nil {
		return err
	}
	if verdict.Waits(g, 1, 1) {
		err = waitIn(ctx, tx, by, []fleet.AgentID{agent}, g)
	}
	if err != nil || g.Default.Config == "" {
		return err
	}
	return giveDefault(ctx, tx, by, []fleet.AgentID{agent}, g)
}

const enrolmentColumns = `tenant_id, id, hash, group_id, tags, description, created_by, created_at, expires_at, revoked_at,
	redeemed_at, agent_id, public_key, serial, for_agent_id, replaces, pool_id,
	coalesce((SELECT p.name FROM token_pools p WHERE p.tenant_id = bootstrap_tokens.tenant_id AND p.id = bootstrap_tokens.pool_id), '')`

func scanBootstrapToken(row scanner) (t fleet.BootstrapToken, err error) {
	err = row.Scan(&t.Tenant, &t.ID, (*hash)(&t.Hash), (*text)(&t.Group), document(&t.Tags), &t.Description, &t.CreatedBy,
		(*instant)(&t.CreatedAt), (*instant)(&t.ExpiresAt), (*instant)(&t.RevokedAt),
		(*instant)(&t.RedeemedAt), (*text)(&t.Agent), (*hash)(&t.PublicKey), (*text)(&t.Serial), (*text)(&t.For), &t.Replaces, (*text)(&t.Pool), &t.PoolName)
	return t, err
}

func bootstrapToken(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, id fleet.TokenID) (fleet.BootstrapToken, error) {
	t, err := one(ctx, tx, scanBootstrapToken, `
		SELECT `+enrolmentColumns+` FROM bootstrap_tokens WHERE tenant_id = ?1 AND id = ?2`, tenant, id)
	return t, fail("find a bootstrap token", err)
}

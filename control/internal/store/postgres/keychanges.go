// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Of a key k of tenant $1 at $2: stands picks the certificates c of it that are good; needs the agents a that hold one and
// have shown none of another key since; serves the gateways g that may meet one.
const (
	stands = `c.tenant_id = k.tenant_id AND c.key_id = k.id AND c.revoked_at IS NULL AND c.not_after > $2`
	needs  = `a.tenant_id = k.tenant_id AND a.id IN (SELECT c.agent_id FROM certificates c WHERE ` + stands + `)
		AND NOT EXISTS (SELECT FROM certificates s WHERE s.tenant_id = a.tenant_id AND s.serial = a.serial AND s.key_id <> k.id
			AND s.revoked_at IS NULL AND s.not_after > $2)`
	serves = `(g.every_tenant OR $1 = ANY(g.tenants)) AND g.lease_until > $2 AND g.revoked_at IS NULL`

	selectKeyUses = `SELECT ` + signingKeyColumns + `,
		(SELECT count(*) FROM certificates c WHERE ` + stands + `),
		(SELECT count(*) FROM agents a WHERE ` + needs + `),
		(SELECT count(*) FROM agents a WHERE ` + needs + ` AND a.epoch > 0 AND a.ended_at IS NULL),
		(SELECT count(*) FROM gateways g WHERE ` + serves + `),
		(SELECT count(*) FROM gateways g WHERE ` + serves + ` AND g.trust_generation >= k.generation)
		FROM signing_keys k WHERE k.tenant_id = $1`
)

func scanKeyUse(row pgx.Row) (u fleet.KeyUse, err error) {
	err = row.Scan(append(signingKeyTargets(&u.SigningKey), &u.Leaves, &u.Agents, &u.Online, &u.Gateways, &u.Confirmed)...)
	return u, err
}

// SigningKeyUses implements store.SigningKeys.
func (s *Store) SigningKeyUses(ctx context.Context, tenant fleet.TenantID, now time.Time) (uses []fleet.KeyUse, err error) {
	err = s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		if err := enter(ctx, tx, tenant); err != nil {
			return err
		}
		uses, err = list(ctx, tx, scanKeyUse, selectKeyUses+` ORDER BY created_at, id`, tenant, moment(now))
		return fail("list the signing keys", err)
	})
	return uses, err
}

// AddSigningKey implements store.SigningKeys.
func (s *Store) AddSigningKey(ctx context.Context, by fleet.By, key fleet.SigningKey) error {
	return s.changingTrust(ctx, by.Tenant, func(tx pgx.Tx, generation int64) error {
		key.Generation = generation
		if err := putSigningKey(ctx, tx, key); err != nil {
			return err
		}
		return appendAudit(ctx, tx, by, trail.SigningKeyCreated(key))
	})
}

// changingTrust runs do in a tenant, with the number of the change: one after the other, from here to the commit.
func (s *Store) changingTrust(ctx context.Context, tenant fleet.TenantID, do func(tx pgx.Tx, generation int64) error) error {
	return s.asWorker(ctx, func(tx pgx.Tx) error {
		var generation int64
		if err := tx.QueryRow(ctx, "UPDATE trust SET generation = generation + 1 RETURNING generation").Scan(&generation); err != nil {
			return fail("count the change of signing keys", err)
		}
		if tenant != "" { // else the keys are the installation's
			if err := enter(ctx, tx, tenant); err != nil {
				return err
			}
		}
		return do(tx, generation)
	})
}

// errAgainst ends a transaction that has found why a change must not be made.
var errAgainst = errors.New("something speaks against the change")

// ChangeSigningKey implements store.SigningKeys.
func (s *Store) ChangeSigningKey(ctx context.Context, by fleet.By, c fleet.KeyChange) (was fleet.KeyUse, reason string, err error) {
	err = s.changingTrust(ctx, by.Tenant, func(tx pgx.Tx, _ int64) error {
		if was, err = one(ctx, tx, scanKeyUse, selectKeyUses+` AND k.id = $3`, by.Tenant, moment(by.At), c.Key); err != nil {
			return fail("find the signing key", err)
		}
		if reason = verdict.OfKeyChange(c, was); reason != "" {
			return errAgainst
		}
		change := activateKey
		if c.To == fleet.SigningKeyRetired {
			change = retireKey
		}
		if err := change(ctx, tx, by, was.SigningKey); err != nil {
			return err
		}
		return appendAudit(ctx, tx, by, trail.SigningKeyChanged(c, was))
	})
	if errors.Is(err, errAgainst) {
		return was, reason, nil
	}
	return was, "", err
}

// activateKey makes the key the one that signs; the one that did is trusted from then on.
func activateKey(ctx context.Context, tx pgx.Tx, by fleet.By, k fleet.SigningKey) error {
	_, err := tx.Exec(ctx, `
		UPDATE signing_keys SET state = 'trusted', trusted_at = $3 WHERE tenant_id = $1 AND kind = $2 AND state = 'active'`,
		by.Tenant, k.Kind, moment(by.At))
	if err != nil {
		return fail("relieve the active key", err)
	}
	return moveKey(ctx, tx, k, `UPDATE signing_keys SET state = 'active', activated_at = $4, trusted_at = NULL`, by.At)
}

// retireKey lets go of the key, and of the sessions that were opened with a certificate of it.
func retireKey(ctx context.Context, tx pgx.Tx, by fleet.By, k fleet.SigningKey) error {
	if err := moveKey(ctx, tx, k, `UPDATE signing_keys SET state = 'retired', retired_at = $4`, by.At); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO outbox (tenant_id, agent_id, kind, reason, due_at)
		SELECT a.tenant_id, a.id, $3, $4, $5 FROM agents a JOIN certificates c ON c.tenant_id = a.tenant_id AND c.serial = a.serial
		WHERE a.tenant_id = $1 AND c.key_id = $2 AND a.epoch > 0 AND a.ended_at IS NULL ORDER BY a.id`+onDispatch,
		by.Tenant, k.ID, fleet.DispatchClose, fleet.EndKeyRetired, moment(by.At))
	return fail("close the sessions of the retired key", err)
}

// moveKey changes a key that is still in the state in which it was judged.
func moveKey(ctx context.Context, tx pgx.Tx, k fleet.SigningKey, update string, at time.Time) error {
	moved, err := tx.Exec(ctx, update+` WHERE tenant_id = $1 AND id = $2 AND state = $3`, k.Tenant, k.ID, k.State, moment(at))
	if err == nil && moved.RowsAffected() == 0 {
		return fmt.Errorf("change the signing key: %w", store.ErrConflict)
	}
	return fail("change the signing key", err)
}

// TrustGeneration implements store.SigningKeys.
func (s *Store) TrustGeneration(ctx context.Context) (generation int64, err error) {
	err = s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		return fail("count the changes of signing keys", tx.QueryRow(ctx, "SELECT generation FROM trust").Scan(&generation))
	})
	return generation, err
}

// TrustedUntil implements store.SigningKeys.
func (s *Store) TrustedUntil(ctx context.Context, since time.Time) (keys []fleet.SigningKey, err error) {
	err = s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		keys, err = list(ctx, tx, scanKeyName, `
			SELECT tenant_id, id FROM signing_keys WHERE `+certifies+` AND state = 'trusted' AND trusted_at <= $1 ORDER BY 1, 2`, moment(since))
		return fail("find trusted keys", err)
	})
	return keys, err
}

func scanKeyName(row pgx.Row) (k fleet.SigningKey, err error) {
	err = row.Scan(&k.Tenant, &k.ID)
	return k, err
}

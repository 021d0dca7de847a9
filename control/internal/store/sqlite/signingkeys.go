// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// SigningKeys implements store.SigningKeys.
func (s *Store) SigningKeys(ctx context.Context, tenant fleet.TenantID) (keys []fleet.SigningKey, err error) {
	err = s.ofTenantOrNone(ctx, tenant, func(tx *sql.Tx) error {
		keys, err = list(ctx, tx, scanSigningKey, `
			SELECT `+signingKeyColumns+`, sealed_key FROM signing_keys WHERE tenant_id = ?1 AND state <> 'retired' ORDER BY created_at, id`, tenant)
		return fail("list signing keys", err)
	})
	return keys, err
}

// CreateSigningKeys implements store.SigningKeys.
func (s *Store) CreateSigningKeys(ctx context.Context, tenant fleet.TenantID, keys []fleet.SigningKey) error {
	return s.changingTrust(ctx, tenant, func(tx *sql.Tx, generation int64) error {
		for _, k := range keys {
			if k.State != fleet.SigningKeyActive {
				continue
			}
			if err := refuseActive(ctx, tx, tenant, k.Kind); err != nil {
				return err
			}
		}
		for _, k := range keys {
			// Of two that pass the question above at one moment, a unique index lets one pass here.
			k.Generation = generation
			if err := putSigningKey(ctx, tx, k); err != nil {
				return err
			}
		}
		return nil
	})
}

func putSigningKey(ctx context.Context, tx *sql.Tx, k fleet.SigningKey) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO signing_keys (tenant_id, id, state, kind, algorithm, certificate_der, parent_id, sealed_key, key_uri, created_at, activated_at, generation)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)`,
		k.Tenant, k.ID, k.State, k.Kind, k.Algorithm, k.CertificateDER, k.Parent, append([]byte{}, k.SealedKey...), k.KeyURI, moment(k.CreatedAt), moment(k.ActivatedAt),
		k.Generation)
	return fail("create a signing key", err)
}

func refuseActive(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, kind fleet.SigningKeyKind) error {
	var active bool
	err := tx.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM signing_keys WHERE tenant_id = ?1 AND kind = ?2 AND state = 'active')`,
		tenant, kind).Scan(&active)
	if err == nil && active {
		return fmt.Errorf("create a signing key: an active %s: %w", kind, store.ErrExists)
	}
	return fail("create a signing key", err)
}

// ofTenantOrNone is inTenant, or the worker's transaction for the keys of no tenant.
func (s *Store) ofTenantOrNone(ctx context.Context, tenant fleet.TenantID, do func(tx *sql.Tx) error) error {
	if tenant == "" {
		return s.asWorker(ctx, do)
	}
	return s.inTenant(ctx, tenant, do)
}

const signingKeyColumns = `tenant_id, id, state, kind, algorithm, certificate_der, parent_id, key_uri, created_at, activated_at,
	trusted_at, retired_at, generation`

func signingKeyTargets(k *fleet.SigningKey) []any {
	return []any{
		&k.Tenant, &k.ID, &k.State, &k.Kind, &k.Algorithm, &k.CertificateDER, &k.Parent, &k.KeyURI, (*instant)(&k.CreatedAt), (*instant)(&k.ActivatedAt),
		(*instant)(&k.TrustedAt), (*instant)(&k.RetiredAt), &k.Generation,
	}
}

func scanSigningKey(row scanner) (k fleet.SigningKey, err error) {
	err = row.Scan(append(signingKeyTargets(&k), &k.SealedKey)...)
	return k, err
}

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
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// Certificate implements store.Certificates.
func (s *Store) Certificate(ctx context.Context, tenant fleet.TenantID, serial fleet.Serial) (c fleet.Certificate, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		c, err = one(ctx, tx, scanCertificate, `SELECT `+certificateColumns+` FROM certificates WHERE tenant_id = ?1 AND serial = ?2`, tenant, serial)
		return fail("read a certificate", err)
	})
	return c, err
}

const certificateColumns = `tenant_id, serial, fingerprint, agent_id, key_id, not_before, not_after, der, chain_pem, public_key, created_at, revoked_at,
	revocation_reason, ` + keyRetired

// keyRetired says of a certificate that what signed it is not trusted any more.
const keyRetired = `EXISTS (SELECT 1 FROM signing_keys k WHERE k.tenant_id = certificates.tenant_id AND k.id = certificates.key_id AND k.state = 'retired')`

func scanCertificate(row scanner) (c fleet.Certificate, err error) {
	err = row.Scan(&c.Tenant, &c.Serial, &c.Fingerprint, &c.Agent, &c.Key, (*instant)(&c.NotBefore), (*instant)(&c.NotAfter),
		&c.DER, &c.ChainPEM, (*hash)(&c.PublicKey), (*instant)(&c.CreatedAt), (*instant)(&c.RevokedAt), &c.Reason, &c.KeyRetired)
	return c, err
}

// CertificatesOf implements store.Certificates.
func (s *Store) CertificatesOf(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) (found []fleet.Certificate, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		if err := checkAgent(ctx, tx, tenant, id); err != nil {
			return err
		}
		found, err = list(ctx, tx, scanCertificate, `
			SELECT `+certificateColumns+` FROM certificates WHERE tenant_id = ?1 AND agent_id = ?2
			ORDER BY created_at DESC, serial LIMIT 100`, tenant, id)
		return fail("list certificates", err)
	})
	return found, err
}

// RevokeCertificates implements store.Certificates.
func (s *Store) RevokeCertificates(ctx context.Context, by fleet.By, r fleet.Revocation) (revoked []fleet.Certificate, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		if r.Serials, err = serialsOf(ctx, tx, by, r); err != nil {
			return err
		}
		if err := knowRevoked(ctx, tx, by.Tenant, r); err != nil {
			return err
		}
		if err := endReturns(ctx, tx, by, r); err != nil {
			return err
		}
		revoked, err = revoke(ctx, tx, by, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return revoked, nil
}

// revoke revokes certificates, and closes what was opened with them.
func revoke(ctx context.Context, tx *sql.Tx, by fleet.By, r fleet.Revocation) ([]fleet.Certificate, error) {
	revoked, err := list(ctx, tx, scanCertificate, `
		UPDATE certificates SET revoked_at = ?2, revocation_reason = ?3
		WHERE tenant_id = ?1 AND revoked_at IS NULL AND not_after > ?2
		  AND (agent_id IN (SELECT value FROM json_each(?4)) OR serial IN (SELECT value FROM json_each(?5)))
		RETURNING `+certificateColumns,
		by.Tenant, moment(by.At), r.Reason, asJSON(r.Agents), asJSON(r.Serials))
	if err != nil || len(revoked) == 0 {
		return nil, fail("revoke certificates", err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO outbox (tenant_id, agent_id, kind, reason, due_at)
		SELECT tenant_id, id, ?2, ?3, ?4 FROM agents
		WHERE tenant_id = ?1 AND epoch > 0 AND ended_at IS NULL AND serial IN (SELECT value FROM json_each(?5))`+onDispatch,
		by.Tenant, fleet.DispatchClose, fleet.EndRevoked, moment(by.At), asJSON(serials(revoked)))
	if err != nil {
		return nil, fail("close the sessions", err)
	}
	if err := tellCertificatesRevoked(ctx, tx, by, r, revoked); err != nil {
		return nil, err
	}
	return revoked, numberRevoked(ctx, tx, by.Tenant, revoked)
}

// serialsOf are the single certificates to be revoked: those named, or the next of a key.
func serialsOf(ctx context.Context, tx *sql.Tx, by fleet.By, r fleet.Revocation) ([]fleet.Serial, error) {
	if r.Key == "" {
		return r.Serials, nil
	}
	var known bool
	err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM signing_keys WHERE tenant_id = ?1 AND id = ?2)`, by.Tenant, r.Key).Scan(&known)
	if err == nil && !known {
		return nil, fmt.Errorf("revoke what a key has signed: %w", store.ErrNotFound)
	}
	if err != nil {
		return nil, fail("find the signing key", err)
	}
	found, err := list(ctx, tx, scanSerial, `
		SELECT serial FROM certificates WHERE tenant_id = ?1 AND key_id = ?2 AND revoked_at IS NULL AND not_after > ?3
		ORDER BY serial LIMIT ?4`, by.Tenant, r.Key, moment(by.At), fleet.RevocationBatch)
	return found, fail("list what a key has signed", err)
}

func scanSerial(row scanner) (serial fleet.Serial, err error) {
	err = row.Scan(&serial)
	return serial, err
}

// knowRevoked makes sure that all there is to revoke is the tenant's.
func knowRevoked(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, r fleet.Revocation) error {
	var agents, serials int
	err := tx.QueryRowContext(ctx, `
		SELECT (SELECT count(*) FROM agents WHERE tenant_id = ?1 AND id IN (SELECT value FROM json_each(?2))),
		       (SELECT count(*) FROM certificates WHERE tenant_id = ?1 AND serial IN (SELECT value FROM json_each(?3)))`,
		tenant, asJSON(r.Agents), asJSON(r.Serials)).Scan(&agents, &serials)
	if err != nil {
		return fail("find certificates", err)
	}
	if agents < len(r.Agents) || serials < len(r.Serials) {
		return fmt.Errorf("revoke certificates: %w", store.ErrNotFound)
	}
	return nil
}

func numberRevoked(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, revoked []fleet.Certificate) error {
	var last int64
	err := tx.QueryRowContext(ctx, "UPDATE tenants SET revocations = revocations + ?2 WHERE id = ?1 RETURNING revocations", tenant, len(revoked)).Scan(&last)
	if err != nil {
		return fail("number the revocations", err)
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE certificates SET revocation = ?3 + n.key + 1 FROM json_each(?2) AS n
		WHERE certificates.tenant_id = ?1 AND certificates.serial = n.value`, tenant, asJSON(serials(revoked)), last-int64(len(revoked)))
	return fail("number the revocations", err)
}

func serials(certificates []fleet.Certificate) []fleet.Serial {
	list := make([]fleet.Serial, len(certificates))
	for i, c := range certificates {
		list[i] = c.Serial
	}
	return list
}

func tellCertificatesRevoked(ctx context.Context, tx *sql.Tx, by fleet.By, r fleet.Revocation, revoked []fleet.Certificate) error {
	entry, events := trail.CertificatesRevoked(by, r, revoked)
	for _, e := range events {
		if err := appendEvent(ctx, tx, e); err != nil {
			return err
		}
	}
	return appendAudit(ctx, tx, by, entry)
}

// RevokedSince implements store.Certificates.
func (s *Store) RevokedSince(ctx context.Context, id fleet.TenantID, number int64, now time.Time, most int) (since fleet.Revocations, err error) {
	err = s.reading(ctx, id, func(tx *sql.Tx) error {
		found, err := list(ctx, tx, scanNumbered, `
			SELECT serial, revocation FROM certificates WHERE tenant_id = ?1 AND revocation > ?2 AND not_after > ?3
			ORDER BY revocation LIMIT ?4`, id, number, moment(now), most)
		if err != nil {
			return fail("list what was revoked", err)
		}
		since = fleet.Revocations{More: len(found) == most}
		for _, r := range found {
			since.Serials, since.Last = append(since.Serials, r.serial), r.number
		}
		if since.More {
			return nil
		}
		t, err := tenant(ctx, tx, id)
		since.Last = t.Revocations
		return err
	})
	return since, err
}

type numbered struct {
	serial fleet.Serial
	number int64
}

func scanNumbered(row scanner) (n numbered, err error) {
	err = row.Scan(&n.serial, &n.number)
	return n, err
}

func putCertificate(ctx context.Context, tx *sql.Tx, c fleet.Certificate) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO certificates (tenant_id, serial, fingerprint, agent_id, key_id, not_before, not_after, der, chain_pem, public_key, created_at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)`,
		c.Tenant, c.Serial, c.Fingerprint, c.Agent, c.Key, moment(c.NotBefore), moment(c.NotAfter), c.DER, c.ChainPEM,
		c.PublicKey[:], moment(c.CreatedAt))
	return fail("record the certificate", err)
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// Certificate implements store.Certificates.
func (s *Store) Certificate(ctx context.Context, tenant fleet.TenantID, serial fleet.Serial) (c fleet.Certificate, err error) {
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		c, err = one(ctx, tx, scanCertificate, `SELECT `+certificateColumns+` FROM certificates WHERE tenant_id = $1 AND serial = $2`, tenant, serial)
		return fail("read a certificate", err)
	})
	return c, err
}

const certificateColumns = `tenant_id, serial, fingerprint, agent_id, key_id, not_before, not_after, der, chain_pem, public_key, created_at, revoked_at,
	revocation_reason, ` + keyRetired

// keyRetired says of a certificate that what signed it is not trusted any more.
const keyRetired = `EXISTS (SELECT FROM signing_keys k WHERE k.tenant_id = certificates.tenant_id AND k.id = certificates.key_id AND k.state = 'retired')`

func scanCertificate(row pgx.Row) (c fleet.Certificate, err error) {
	err = row.Scan(&c.Tenant, &c.Serial, &c.Fingerprint, &c.Agent, &c.Key, (*instant)(&c.NotBefore), (*instant)(&c.NotAfter),
		&c.DER, &c.ChainPEM, (*hash)(&c.PublicKey), (*instant)(&c.CreatedAt), (*instant)(&c.RevokedAt), &c.Reason, &c.KeyRetired)
	return c, err
}

// CertificatesOf implements store.Certificates.
func (s *Store) CertificatesOf(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) (found []fleet.Certificate, err error) {
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		if _, err := agent(ctx, tx, tenant, id); err != nil {
			return err
		}
		found, err = list(ctx, tx, scanCertificate, `
			SELECT `+certificateColumns+` FROM certificates WHERE tenant_id = $1 AND agent_id = $2
			ORDER BY created_at DESC, serial LIMIT 100`, tenant, id)
		return fail("list certificates", err)
	})
	return found, err
}

// RevokeCertificates implements store.Certificates. Agents are locked first, as claims lock them: one that is decided
// before has its session by now, one that waits for the lock finds its certificate revoked.
func (s *Store) RevokeCertificates(ctx context.Context, by fleet.By, r fleet.Revocation) (revoked []fleet.Certificate, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		if r.Serials, err = serialsOf(ctx, tx, by, r); err != nil {
			return err
		}
		agents, err := lockRevoked(ctx, tx, by.Tenant, r)
		if err != nil {
			return err
		}
		if err := endReturns(ctx, tx, by, agents); err != nil {
			return err
		}
		revoked, err = revoke(ctx, tx, by, r, agents)
		return err
	})
	if err != nil {
		return nil, err
	}
	return revoked, nil
}

// revoke revokes certificates of agents that are locked, and closes what was opened with them.
func revoke(ctx context.Context, tx pgx.Tx, by fleet.By, r fleet.Revocation, agents []fleet.AgentID) ([]fleet.Certificate, error) {
	revoked, err := list(ctx, tx, scanCertificate, `
		UPDATE certificates SET revoked_at = $2, revocation_reason = $3
		WHERE tenant_id = $1 AND revoked_at IS NULL AND not_after > $2 AND (agent_id = ANY($4) OR serial = ANY($5))
		RETURNING `+certificateColumns,
		by.Tenant, moment(by.At), r.Reason, ids(r.Agents, itself), texts(r.Serials))
	if err != nil || len(revoked) == 0 {
		return nil, fail("revoke certificates", err)
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO outbox (tenant_id, agent_id, kind, reason, due_at)
		SELECT tenant_id, id, $2, $3, $4 FROM agents
		WHERE tenant_id = $1 AND epoch > 0 AND ended_at IS NULL AND serial = ANY($5) AND (id = ANY($6) OR parent_id = ANY($6))
		ORDER BY id`+onDispatch,
		by.Tenant, fleet.DispatchClose, fleet.EndRevoked, moment(by.At),
		serials(revoked), ids(agents, itself))
	if err != nil {
		return nil, fail("close the sessions", err)
	}
	if err := tellCertificatesRevoked(ctx, tx, by, r, revoked); err != nil {
		return nil, err
	}
	return revoked, numberRevoked(ctx, tx, by.Tenant, revoked)
}

// serialsOf are the single certificates to be revoked: those named, or the next of a key.
func serialsOf(ctx context.Context, tx pgx.Tx, by fleet.By, r fleet.Revocation) ([]fleet.Serial, error) {
	if r.Key == "" {
		return r.Serials, nil
	}
	var known bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM signing_keys WHERE tenant_id = $1 AND id = $2)`, by.Tenant, r.Key).Scan(&known)
	if err == nil && !known {
		return nil, fmt.Errorf("revoke what a key has signed: %w", store.ErrNotFound)
	}
	if err != nil {
		return nil, fail("find the signing key", err)
	}
	found, err := list(ctx, tx, scanSerial, `
		SELECT serial FROM certificates WHERE tenant_id = $1 AND key_id = $2 AND revoked_at IS NULL AND not_after > $3
		ORDER BY serial LIMIT $4`, by.Tenant, r.Key, moment(by.At), fleet.RevocationBatch)
	return found, fail("list what a key has signed", err)
}

func scanSerial(row pgx.Row) (serial fleet.Serial, err error) {
	err = row.Scan(&serial)
	return serial, err
}

// lockRevoked locks the agents whose certificates are to be revoked, and returns them.
func lockRevoked(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, r fleet.Revocation) ([]fleet.AgentID, error) {
	owners, err := list(ctx, tx, scanAgentID, `SELECT agent_id FROM certificates WHERE tenant_id = $1 AND serial = ANY($2)`, tenant, texts(r.Serials))
	if err != nil {
		return nil, fail("find certificates", err)
	}
	if len(owners) < len(r.Serials) {
		return nil, fmt.Errorf("revoke certificates: %w", store.ErrNotFound)
	}
	wanted := slices.Compact(slices.Sorted(slices.Values(append(owners, r.Agents...))))
	locked, err := list(ctx, tx, scanAgentID, `SELECT id FROM agents WHERE tenant_id = $1 AND id `+among+` ORDER BY id FOR NO KEY UPDATE`, tenant, ids(wanted, itself))
	if err != nil {
		return nil, fail("lock the agents", err)
	}
	if len(locked) < len(wanted) {
		return nil, fmt.Errorf("revoke certificates: %w", store.ErrNotFound)
	}
	return locked, nil
}

func tellCertificatesRevoked(ctx context.Context, tx pgx.Tx, by fleet.By, r fleet.Revocation, revoked []fleet.Certificate) error {
	entry, events := trail.CertificatesRevoked(by, r, revoked)
	if err := appendEvents(ctx, tx, events); err != nil {
		return err
	}
	return appendAudit(ctx, tx, by, entry)
}

// numberRevoked comes last: from here to the commit no other revocation of the tenant gets a number.
func numberRevoked(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, revoked []fleet.Certificate) error {
	var last int64
	err := tx.QueryRow(ctx, "UPDATE tenants SET revocations = revocations + $2 WHERE id = $1 RETURNING revocations", tenant, len(revoked)).Scan(&last)
	if err != nil {
		return fail("number the revocations", err)
	}
	_, err = tx.Exec(ctx, `
		UPDATE certificates c SET revocation = $3 + n.place FROM unnest($2::text[]) WITH ORDINALITY AS n (serial, place)
		WHERE c.tenant_id = $1 AND c.serial = n.serial`, tenant, serials(revoked), last-int64(len(revoked)))
	return fail("number the revocations", err)
}

func serials(certificates []fleet.Certificate) []string {
	return array(certificates, func(c fleet.Certificate) string { return string(c.Serial) })
}

func scanAgentID(row pgx.Row) (id fleet.AgentID, err error) {
	err = row.Scan(&id)
	return id, err
}

// RevokedSince implements store.Certificates.
func (s *Store) RevokedSince(ctx context.Context, id fleet.TenantID, number int64, now time.Time, most int) (since fleet.Revocations, err error) {
	err = s.reading(ctx, id, func(tx pgx.Tx) error {
		found, err := list(ctx, tx, scanNumbered, `
			SELECT serial, revocation FROM certificates WHERE tenant_id = $1 AND revocation > $2 AND not_after > $3
			ORDER BY revocation LIMIT $4`, id, number, moment(now), most)
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

func scanNumbered(row pgx.Row) (n numbered, err error) {
	err = row.Scan(&n.serial, &n.number)
	return n, err
}

func putCertificate(ctx context.Context, tx pgx.Tx, c fleet.Certificate) error {
	var batch pgx.Batch
	queueCertificates(&batch, []fleet.Certificate{c})
	return fail("record the certificate", tx.SendBatch(ctx, &batch).Close())
}

// queueCertificates records certificates.
func queueCertificates(batch *pgx.Batch, list []fleet.Certificate) {
	batch.Queue(`
		INSERT INTO certificates (tenant_id, serial, fingerprint, agent_id, key_id, not_before, not_after, der, chain_pem, public_key, created_at)
		SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::uuid[]), unnest($5::text[]), unnest($6::timestamptz[]),
			unnest($7::timestamptz[]), unnest($8::bytea[]), unnest($9::bytea[]), unnest($10::bytea[]), unnest($11::timestamptz[])`,
		array(list, func(c fleet.Certificate) string { return string(c.Tenant) }),
		array(list, func(c fleet.Certificate) string { return string(c.Serial) }),
		array(list, func(c fleet.Certificate) string { return string(c.Fingerprint) }),
		ids(list, func(c fleet.Certificate) fleet.AgentID { return c.Agent }),
		array(list, func(c fleet.Certificate) string { return string(c.Key) }),
		moments(list, func(c fleet.Certificate) time.Time { return c.NotBefore }),
		moments(list, func(c fleet.Certificate) time.Time { return c.NotAfter }),
		array(list, func(c fleet.Certificate) []byte { return c.DER }),
		array(list, func(c fleet.Certificate) []byte { return c.ChainPEM }),
		array(list, func(c fleet.Certificate) []byte { return c.PublicKey[:] }),
		moments(list, func(c fleet.Certificate) time.Time { return c.CreatedAt }))
}

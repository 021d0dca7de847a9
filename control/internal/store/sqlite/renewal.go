// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Renewable implements store.Certificates.
func (s *Store) Renewable(ctx context.Context, r fleet.CertificateRenewal) (v fleet.RenewalVerdict, err error) {
	err = s.reading(ctx, r.Tenant, func(tx *sql.Tx) error {
		on, err := readRenewing(ctx, tx, r)
		v = verdict.OfRenewal(r, on)
		return err
	})
	return v, err
}

// Renew implements store.Certificates. Of two, the second finds what the first was given.
func (s *Store) Renew(ctx context.Context, by fleet.By, r fleet.CertificateRenewal, c fleet.Certificate) (v fleet.RenewalVerdict, err error) {
	err = s.inTenant(ctx, r.Tenant, func(tx *sql.Tx) error {
		on, err := readRenewing(ctx, tx, r)
		if err != nil {
			return err
		}
		if v = verdict.OfRenewal(r, on); !v.Open() {
			return nil
		}
		if err := putCertificate(ctx, tx, c); err != nil {
			return err
		}
		if err := noteGiven(ctx, tx, r, c); err != nil {
			return err
		}
		entry, event := trail.Renewed(by, r, c)
		if err := appendAudit(ctx, tx, by, entry); err != nil {
			return err
		}
		return appendEvent(ctx, tx, event)
	})
	return v, err
}

// readRenewing reads what a renewal is decided by.
func readRenewing(ctx context.Context, tx *sql.Tx, r fleet.CertificateRenewal) (on verdict.Renewing, err error) {
	identity := verdict.Seat{Agent: r.Agent}
	err = tx.QueryRowContext(ctx, `SELECT quarantined_at FROM agents WHERE tenant_id = ?1 AND id = ?2`, r.Tenant, r.Agent).
		Scan((*instant)(&identity.QuarantinedAt))
	if errors.Is(err, sql.ErrNoRows) {
		return on, nil
	}
	if err != nil {
		return on, fail("read the agent", err)
	}
	on.Identity = &identity
	if on.Shown, err = certificate(ctx, tx, `serial = ?2`, r.Tenant, r.Serial); err != nil {
		return on, err
	}
	on.Given, err = certificate(ctx, tx, `agent_id = ?2 AND public_key = ?3 ORDER BY created_at DESC LIMIT 1`, r.Tenant, r.Agent, r.PublicKey[:])
	if err != nil {
		return on, err
	}
	if on.Offered, err = readOffered(ctx, tx, r); err != nil {
		return on, err
	}
	err = tx.QueryRowContext(ctx, `SELECT count(*) FROM certificates WHERE tenant_id = ?1 AND agent_id = ?2 AND created_at > ?3`,
		r.Tenant, r.Agent, moment(r.At.Add(-fleet.RenewalWindow))).Scan(&on.Recent)
	return on, fail("count the certificates", err)
}

// readOffered reads the number of the offer that has no certificate yet.
func readOffered(ctx context.Context, tx *sql.Tx, r fleet.CertificateRenewal) (offered fleet.Generation, err error) {
	if r.Offer == 0 {
		return 0, nil
	}
	err = tx.QueryRowContext(ctx, `SELECT generation FROM certificate_upkeep WHERE tenant_id = ?1 AND agent_id = ?2 AND offers > 0 AND given = ''`,
		r.Tenant, r.Agent).Scan(&offered)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return offered, fail("read the offer", err)
}

// noteGiven notes that an offer has its certificate.
func noteGiven(ctx context.Context, tx *sql.Tx, r fleet.CertificateRenewal, c fleet.Certificate) error {
	if r.Offer == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `UPDATE certificate_upkeep SET given = ?3 WHERE tenant_id = ?1 AND agent_id = ?2`, r.Tenant, r.Agent, c.Serial)
	return fail("note the certificate of the offer", err)
}

// certificate reads the certificate of a tenant, which is ?1, that a condition names; nil if there is none.
func certificate(ctx context.Context, tx *sql.Tx, which string, args ...any) (*fleet.Certificate, error) {
	c, err := one(ctx, tx, scanCertificate, `SELECT `+certificateColumns+` FROM certificates WHERE tenant_id = ?1 AND `+which, args...)
	if err = fail("read a certificate", err); errors.Is(err, store.ErrNotFound) {
		return nil, nil //nolint:nilnil // the caller asks whether there is one
	}
	return &c, err
}

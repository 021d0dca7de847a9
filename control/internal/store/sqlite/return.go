// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Returnable implements store.Enrolment.
func (s *Store) Returnable(ctx context.Context, r fleet.Return) (reason string, err error) {
	err = s.reading(ctx, r.Tenant, func(tx *sql.Tx) error {
		on, err := readReturning(ctx, tx, r)
		reason, _ = verdict.OfReturn(on, r.Replaces)
		return err
	})
	if err != nil {
		return "", err
	}
	return reason, nil
}

// Return implements store.Enrolment.
func (s *Store) Return(ctx context.Context, r store.Redemption) (reason string, err error) {
	err = s.inTenant(ctx, r.By.Tenant, func(tx *sql.Tx) error {
		on, err := readReturning(ctx, tx, fleet.Return{Tenant: r.By.Tenant, Agent: r.Agent, At: r.By.At})
		if err != nil {
			return err
		}
		token, err := bootstrapToken(ctx, tx, r.By.Tenant, r.Token)
		if err != nil {
			return err
		}
		if err := verdict.OfRedemption(token, r.Agent, r.By.At); err != nil {
			return err
		}
		var lost []fleet.Serial
		if reason, lost = verdict.OfReturn(on, token.Replaces); reason != "" {
			return nil
		}
		return bringBack(ctx, tx, token, r, lost)
	})
	if err != nil {
		return "", err
	}
	return reason, nil
}

// readReturning reads what is decided by.
func readReturning(ctx context.Context, tx *sql.Tx, r fleet.Return) (on verdict.Returning, err error) {
	err = tx.QueryRowContext(ctx, `SELECT parent_id, method, quarantined_at, serial FROM agents WHERE tenant_id = ?1 AND id = ?2`, r.Tenant, r.Agent).
		Scan((*text)(&on.Parent), &on.Method, (*instant)(&on.QuarantinedAt), &on.Shown)
	if err != nil {
		return on, fail("read the agent", err)
	}
	on.Certificates, err = list(ctx, tx, scanCertificate, `SELECT `+certificateColumns+` FROM certificates
		WHERE tenant_id = ?1 AND agent_id = ?2 AND not_after > ?3`, r.Tenant, r.Agent, moment(r.At))
	return on, fail("read the certificates", err)
}

// bringBack uses the token up and gives the identity its certificate, in the place of all others if the token says so, and of
// what is lost.
func bringBack(ctx context.Context, tx *sql.Tx, token fleet.BootstrapToken, r store.Redemption, lost []fleet.Serial) error {
	if err := spend(ctx, tx, r); err != nil {
		return err
	}
	superseded := fleet.Revocation{Serials: lost, Reason: fleet.ReasonSuperseded}
	if token.Replaces {
		superseded.Agents = []fleet.AgentID{r.Agent}
		if err := endReturns(ctx, tx, r.By, superseded); err != nil {
			return err
		}
	}
	if _, err := revoke(ctx, tx, r.By, superseded); err != nil {
		return err
	}
	if err := putCertificate(ctx, tx, r.Certificate); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE agents SET method = ?3 WHERE tenant_id = ?1 AND id = ?2`, r.By.Tenant, r.Agent, r.Method); err != nil {
		return fail("note how the agent came back", err)
	}
	entry, event := trail.Returned(r, token)
	if err := appendAudit(ctx, tx, r.By, entry); err != nil {
		return err
	}
	return appendEvent(ctx, tx, event)
}

// endReturns revokes the live tokens by which agents would come back whose certificates are revoked.
func endReturns(ctx context.Context, tx *sql.Tx, by fleet.By, r fleet.Revocation) error {
	scan := func(row scanner) (id fleet.TokenID, err error) {
		err = row.Scan(&id)
		return id, err
	}
	ended, err := list(ctx, tx, scan, `
		UPDATE bootstrap_tokens SET revoked_at = ?4
		WHERE tenant_id = ?1 AND redeemed_at IS NULL AND revoked_at IS NULL AND expires_at > ?4
		  AND (for_agent_id IN (SELECT value FROM json_each(?2)) OR for_agent_id IN (
			SELECT agent_id FROM certificates WHERE tenant_id = ?1 AND serial IN (SELECT value FROM json_each(?3))))
		RETURNING id`, by.Tenant, asJSON(r.Agents), asJSON(r.Serials), moment(by.At))
	if err != nil {
		return fail("revoke the tokens of agents", err)
	}
	for _, id := range ended {
		if err := appendAudit(ctx, tx, by, trail.BootstrapTokenRevoked(id)); err != nil {
			return err
		}
	}
	return nil
}

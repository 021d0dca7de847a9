// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Returnable implements store.Enrolment.
func (s *Store) Returnable(ctx context.Context, r fleet.Return) (reason string, err error) {
	err = s.reading(ctx, r.Tenant, func(tx pgx.Tx) error {
		on, err := readReturning(ctx, tx, r, "")
		reason, _ = verdict.OfReturn(on, r.Replaces)
		return err
	})
	if err != nil {
		return "", err
	}
	return reason, nil
}

// Return implements store.Enrolment. The agent's row is locked before the token, as by whoever revokes its certificates: of
// the two, the second finds what the first has done.
func (s *Store) Return(ctx context.Context, r store.Redemption) (reason string, err error) {
	err = s.inTenant(ctx, r.By.Tenant, func(tx pgx.Tx) error {
		on, err := readReturning(ctx, tx, fleet.Return{Tenant: r.By.Tenant, Agent: r.Agent, At: r.By.At}, "FOR NO KEY UPDATE")
		if err != nil {
			return err
		}
		token, err := lockBootstrapToken(ctx, tx, r.By.Tenant, r.Token)
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

// readReturning reads what is decided by, the agent's row first, with its lock.
func readReturning(ctx context.Context, tx pgx.Tx, r fleet.Return, lock string) (on verdict.Returning, err error) {
	err = tx.QueryRow(ctx, `SELECT parent_id, method, quarantined_at, serial FROM agents WHERE tenant_id = $1 AND id = $2 `+lock, r.Tenant, r.Agent).
		Scan((*text)(&on.Parent), &on.Method, (*instant)(&on.QuarantinedAt), &on.Shown)
	if err != nil {
		return on, fail("read the agent", err)
	}
	on.Certificates, err = list(ctx, tx, scanCertificate, `SELECT `+certificateColumns+` FROM certificates
		WHERE tenant_id = $1 AND agent_id = $2 AND not_after > $3`, r.Tenant, r.Agent, moment(r.At))
	return on, fail("read the certificates", err)
}

// bringBack uses the token up and gives the identity its certificate, in the place of all others if the token says so, and of
// what is lost.
func bringBack(ctx context.Context, tx pgx.Tx, token fleet.BootstrapToken, r store.Redemption, lost []fleet.Serial) error {
	var batch pgx.Batch
	queueRedeemed(&batch, r.By.Tenant, []verdict.Redeemed{{Redemption: r, Of: token}})
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fail("redeem a bootstrap token", err)
	}
	agents, superseded := []fleet.AgentID{r.Agent}, fleet.Revocation{Serials: lost, Reason: fleet.ReasonSuperseded}
	if token.Replaces {
		superseded.Agents = agents
		if err := endReturns(ctx, tx, r.By, agents); err != nil {
			return err
		}
	}
	if _, err := revoke(ctx, tx, r.By, superseded, agents); err != nil {
		return err
	}
	if err := putCertificate(ctx, tx, r.Certificate); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE agents SET method = $3 WHERE tenant_id = $1 AND id = $2`, r.By.Tenant, r.Agent, r.Method); err != nil {
		return fail("note how the agent came back", err)
	}
	entry, event := trail.Returned(r, token)
	if err := appendAudit(ctx, tx, r.By, entry); err != nil {
		return err
	}
	return appendEvent(ctx, tx, event)
}

// endReturns revokes the live tokens by which agents that are locked would come back, in the order in which tokens are
// redeemed.
func endReturns(ctx context.Context, tx pgx.Tx, by fleet.By, agents []fleet.AgentID) error {
	scan := func(row pgx.Row) (id fleet.TokenID, err error) {
		err = row.Scan(&id)
		return id, err
	}
	ended, err := list(ctx, tx, scan, `
		UPDATE bootstrap_tokens SET revoked_at = $3 WHERE tenant_id = $1 AND id IN (
			SELECT id FROM bootstrap_tokens
			WHERE tenant_id = $1 AND for_agent_id `+among+` AND redeemed_at IS NULL AND revoked_at IS NULL AND expires_at > $3
			ORDER BY id FOR UPDATE)
		RETURNING id`, by.Tenant, ids(agents, itself), moment(by.At))
	if err != nil {
		return fail("revoke the tokens of agents", err)
	}
	for _, id := range ended { // few
		if err := appendAudit(ctx, tx, by, trail.BootstrapTokenRevoked(id)); err != nil {
			return err
		}
	}
	return nil
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Redeem implements store.Enrolment. Those of one tenant share a transaction.
func (s *Store) Redeem(ctx context.Context, list []store.Redemption) []error {
	results := make([]error, len(list))
	places := map[fleet.TenantID][]int{}
	for i, r := range list {
		places[r.By.Tenant] = append(places[r.By.Tenant], i)
	}
	for tenant, of := range places {
		part := make([]store.Redemption, len(of))
		for i, place := range of {
			part[i] = list[place]
		}
		for i, err := range s.redeem(ctx, tenant, part) {
			results[of[i]] = err
		}
	}
	return results
}

// redeem redeems tokens of a tenant together. One that cannot be written takes the others with it; then each is tried
// alone.
func (s *Store) redeem(ctx context.Context, tenant fleet.TenantID, list []store.Redemption) (results []error) {
	err := s.bulkInTenant(ctx, tenant, func(tx pgx.Tx) error {
		tokens, err := lockBootstrapTokens(ctx, tx, tenant, list)
		if err != nil {
			return err
		}
		var done []verdict.Redeemed
		if results, done = verdict.OfRedemptions(list, tokens); len(done) == 0 {
			return nil
		}
		return writeRedeemed(ctx, tx, tenant, done)
	})
	switch {
	case err == nil:
		return results
	case len(list) == 1 || everybodys(ctx, err):
		return slices.Repeat([]error{err}, len(list))
	}
	results = results[:0]
	for _, r := range list {
		results = append(results, s.redeem(ctx, tenant, []store.Redemption{r})...)
	}
	return results
}

// everybodys says of an error that it is about no single redemption.
func everybodys(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrUnknown)
}

// lockBootstrapTokens locks the tokens of redemptions, in the order of their ids. Of two that redeem one token the second
// waits, and finds it redeemed.
func lockBootstrapTokens(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, redemptions []store.Redemption) ([]fleet.BootstrapToken, error) {
	tokens, err := list(ctx, tx, scanBootstrapToken, `
		SELECT `+enrolmentColumns+` FROM bootstrap_tokens WHERE tenant_id = $1 AND id `+among+` ORDER BY id FOR UPDATE`,
		tenant, ids(redemptions, func(r store.Redemption) fleet.TokenID { return r.Token }))
	return tokens, fail("lock bootstrap tokens", err)
}

// writeRedeemed writes each table by one statement, all in one round trip.
func writeRedeemed(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, done []verdict.Redeemed) error {
	living, err := lockGroups(ctx, tx, tenant, done)
	if err != nil {
		return err
	}
	group := func(r verdict.Redeemed) fleet.GroupID { return living[r.Of.Group].ID } // none if it was deleted meanwhile
	told, events := make([]verdict.Told, len(done)), make([]fleet.Event, len(done))
	for i, r := range done {
		told[i].By = r.By
		told[i].Entry, events[i] = trail.Enrolled(r.Redemption, r.Of, group(r))
	}
	var batch pgx.Batch
	queueEnrolled(&batch, tenant, done, group)
	queueEnrolledTags(&batch, tenant, done)
	queueChanged(&batch, tenant, array(done, enrolledID))
	queueCertificates(&batch, array(done, func(r verdict.Redeemed) fleet.Certificate { return r.Certificate }))
	queueRedeemed(&batch, tenant, done)
	queueEvents(&batch, events)
	if err := queueAudit(&batch, told); err != nil {
		return err
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fail("record the identities", err)
	}
	return arrive(ctx, tx, done, living)
}

// arrive gives those that joined a group the default of that, if it has one, and lets them wait for the rest if they must.
func arrive(ctx context.Context, tx pgx.Tx, done []verdict.Redeemed, living map[fleet.GroupID]fleet.Group) error {
	for _, r := range done {
		g := living[r.Of.Group]
		if verdict.Waits(g, 1, 1) {
			if err := waitIn(ctx, tx, r.By, []fleet.AgentID{r.Agent}, g); err != nil {
				return err
			}
		}
		if g.Default.Config != "" {
			if err := giveDefault(ctx, tx, r.By, []fleet.AgentID{r.Agent}, g); err != nil {
				return err
			}
		}
	}
	return nil
}

// queueEnrolledTags gives agents the tags of their tokens.
func queueEnrolledTags(batch *pgx.Batch, tenant fleet.TenantID, done []verdict.Redeemed) {
	var tags []label
	for _, r := range done {
		for key, value := range r.Of.Tags {
			tags = append(tags, label{r.Agent, key, value})
		}
	}
	if len(tags) > 0 {
		batch.Queue(`
			INSERT INTO agent_tags (tenant_id, agent_id, key, value, origin)
			SELECT $1, unnest($2::uuid[]), unnest($3::text[]), unnest($4::text[]), 'enrolment'`,
			tenant, ids(tags, func(l label) fleet.AgentID { return l.agent }),
			array(tags, func(l label) string { return l.key }), array(tags, func(l label) string { return l.value }))
	}
}

// lockGroups returns the groups of the tokens that there still are, and keeps them from being deleted, and from being
// assigned something else. The lock comes first: what is read of them is read after it was got.
func lockGroups(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, done []verdict.Redeemed) (map[fleet.GroupID]fleet.Group, error) {
	var wanted []fleet.GroupID
	for _, r := range done {
		if r.Of.Group != "" {
			wanted = append(wanted, r.Of.Group)
		}
	}
	if len(wanted) == 0 {
		return nil, nil //nolint:nilnil // no group
	}
	scan := func(row pgx.Row) (g fleet.Group, err error) {
		err = row.Scan(&g.ID, (*text)(&g.Default.Config), &g.Default.ConfigName, &g.Default.Version, &g.Settling)
		return g, err
	}
	_, err := tx.Exec(ctx, `SELECT FROM groups WHERE tenant_id = $1 AND id `+among+` ORDER BY id FOR SHARE`, tenant, ids(wanted, itself))
	if err != nil {
		return nil, fail("lock the groups", err)
	}
	locked, err := list(ctx, tx, scan, `
		SELECT id, default_config, coalesce((SELECT c.name FROM configs c WHERE c.tenant_id = g.tenant_id AND c.id = g.default_config), ''), default_version, `+onItsWay+`
		FROM groups g WHERE tenant_id = $1 AND id `+among+` AND deleted_at IS NULL`, tenant, ids(wanted, itself))
	living := make(map[fleet.GroupID]fleet.Group, len(locked))
	for _, g := range locked {
		living[g.ID] = g
	}
	return living, fail("read the groups", err)
}

func enrolledID(r verdict.Redeemed) fleet.AgentID { return r.Agent }
func redeemedAt(r verdict.Redeemed) time.Time     { return r.By.At }

// queueEnrolled records identities as members of groups. What is no UUID is refused here, and by no other of the statements.
func queueEnrolled(batch *pgx.Batch, tenant fleet.TenantID, done []verdict.Redeemed, group func(verdict.Redeemed) fleet.GroupID) {
	batch.Queue(`
		INSERT INTO agents (tenant_id, id, partition, enrolled_at, method, group_id)
		SELECT $1, unnest($2::text[])::uuid, unnest($3::integer[]), unnest($4::timestamptz[]), unnest($5::text[]),
			nullif(unnest($6::uuid[]), '00000000-0000-0000-0000-000000000000')`,
		tenant, texts(array(done, enrolledID)),
		array(done, func(r verdict.Redeemed) int { return r.Partition }),
		moments(done, redeemedAt),
		array(done, func(r verdict.Redeemed) string { return string(r.Method) }),
		ids(done, group))
}

// queueRedeemed uses the tokens up.
func queueRedeemed(batch *pgx.Batch, tenant fleet.TenantID, done []verdict.Redeemed) {
	batch.Queue(`
		UPDATE bootstrap_tokens t SET redeemed_at = r.at, agent_id = r.agent_id, public_key = r.public_key, serial = r.serial
		FROM (SELECT unnest($2::uuid[]) AS id, unnest($3::timestamptz[]) AS at, unnest($4::uuid[]) AS agent_id,
			unnest($5::bytea[]) AS public_key, unnest($6::text[]) AS serial) AS r
		WHERE t.tenant_id = $1 AND t.id `+among+` AND t.id = r.id AND t.redeemed_at IS NULL AND t.revoked_at IS NULL`,
		tenant, ids(done, func(r verdict.Redeemed) fleet.TokenID { return r.Token }),
		moments(done, redeemedAt),
		ids(done, enrolledID),
		array(done, func(r verdict.Redeemed) []byte { return r.Certificate.PublicKey[:] }),
		array(done, func(r verdict.Redeemed) string { return string(r.Certificate.Serial) })).Exec(func(used pgconn.CommandTag) error {
		if int(used.RowsAffected()) != len(done) {
			return fmt.Errorf("redeem bootstrap tokens: %w", errLost)
		}
		return nil
	})
}

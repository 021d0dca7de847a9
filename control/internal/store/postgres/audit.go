// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// appendAudit writes the event of a change into the transaction of the change.
func appendAudit(ctx context.Context, tx pgx.Tx, by fleet.By, e trail.Entry) error {
	var batch pgx.Batch
	if err := queueAudit(&batch, []verdict.Told{{By: by, Entry: e}}); err != nil {
		return err
	}
	return fail("append to the audit log", tx.SendBatch(ctx, &batch).Close())
}

// queueAudit writes entries and who did them, in that order.
func queueAudit(batch *pgx.Batch, told []verdict.Told) error {
	if len(told) == 0 {
		return nil
	}
	before, after := make(pgtype.FlatArray[any], len(told)), make(pgtype.FlatArray[any], len(told))
	for i, t := range told {
		var err error
		if before[i], after[i], err = t.Entry.Objects(); err != nil {
			return err
		}
	}
	batch.Queue(`
		INSERT INTO audit_events (tenant_id, at, actor_kind, actor_id, actor_name, role, action, entity_kind, entity_id,
		                          before, after, source, trace_id)
		SELECT unnest($1::text[]), unnest($2::timestamptz[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[]), unnest($6::integer[]),
			unnest($7::text[]), unnest($8::text[]), unnest($9::text[]), unnest($10::jsonb[]), unnest($11::jsonb[]), unnest($12::text[]), unnest($13::text[])`,
		array(told, func(t verdict.Told) string { return string(t.By.Tenant) }),
		moments(told, func(t verdict.Told) time.Time { return t.By.At }),
		array(told, func(t verdict.Told) string { return string(t.By.Principal.Kind) }),
		array(told, func(t verdict.Told) string { return t.By.Principal.ID }),
		array(told, func(t verdict.Told) string { return t.By.Principal.Name }),
		array(told, func(t verdict.Told) int { return int(t.By.Principal.Role) }),
		array(told, func(t verdict.Told) string { return t.Entry.Action }),
		array(told, func(t verdict.Told) string { return t.Entry.EntityKind }),
		array(told, func(t verdict.Told) string { return t.Entry.EntityID }),
		before, after,
		array(told, func(t verdict.Told) string { return t.By.Source }),
		array(told, func(t verdict.Told) string { return t.By.TraceID }))
	return nil
}

// RecordAudit implements store.Access.
func (s *Store) RecordAudit(ctx context.Context, by fleet.By, action, entityKind, entityID string) error {
	return s.inTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		return appendAudit(ctx, tx, by, trail.Entry{Action: action, EntityKind: entityKind, EntityID: entityID})
	})
}

// RecordRefusal implements store.Access.
func (s *Store) RecordRefusal(ctx context.Context, r fleet.Refusal) error {
	return s.inTenant(ctx, r.By.Tenant, func(tx pgx.Tx) error { return countRefusal(ctx, tx, r) })
}

// countRefusal counts a refusal in a transaction that goes on to commit.
func countRefusal(ctx context.Context, tx pgx.Tx, r fleet.Refusal) error {
	var batch pgx.Batch
	queueRefusals(&batch, []fleet.Refusal{r})
	return fail("count a refusal", tx.SendBatch(ctx, &batch).Close())
}

// queueRefusals counts refusals, in the order of their keys: two that count many wait for each other, not for ever.
func queueRefusals(batch *pgx.Batch, refusals []fleet.Refusal) {
	ordered := slices.SortedStableFunc(slices.Values(refusals), func(a, b fleet.Refusal) int {
		return cmp.Or(cmp.Compare(a.By.Principal.ID, b.By.Principal.ID), cmp.Compare(a.Action, b.Action),
			cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Entity, b.Entity))
	})
	for _, r := range ordered { // each by itself: two of them may count under one key
		by, p := r.By, r.By.Principal
		batch.Queue(`
			INSERT INTO audit_refusals (tenant_id, hour, actor_kind, actor_id, actor_name, role, action, reason, entity_id,
			                            last_at, source, trace_id)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
			ON CONFLICT (tenant_id, hour, actor_id, action, reason, entity_id) DO UPDATE
			SET count = audit_refusals.count + 1, last_at = greatest(audit_refusals.last_at, excluded.last_at),
			    source = excluded.source, trace_id = excluded.trace_id`,
			by.Tenant, moment(by.At.UTC().Truncate(time.Hour)), p.Kind, p.ID, p.Name, int(p.Role), r.Action, r.Reason, r.Entity,
			moment(by.At), by.Source, by.TraceID)
	}
}

// AuditRecords implements store.Access. A refusal stands where it was last counted, so it may move ahead of a reader.
func (s *Store) AuditRecords(ctx context.Context, tenant fleet.TenantID, entity string, page fleet.Page) (records []fleet.AuditRecord, next string, err error) {
	after, err := keyset.AuditPlaceOf(page.After)
	if err != nil {
		return nil, "", err
	}
	narrow := "$6 = ''" // always so
	if entity != "" {
		narrow = "entity_id = $6"
	}
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		records, err = list(ctx, tx, scanAuditRecord, `
			(SELECT id, at, tenant_id, actor_kind, actor_id, actor_name, role, action, entity_kind, entity_id,
			        before, after, source, trace_id, '' AS reason, 0 AS count, 0 AS refused
			 FROM audit_events WHERE tenant_id = $1 AND (at, id) < ($2, $3) AND `+narrow+`
			 ORDER BY at DESC, id DESC LIMIT $5)
			UNION ALL
			(SELECT id, last_at, tenant_id, actor_kind, actor_id, actor_name, role, action, '', entity_id,
			        NULL, NULL, source, trace_id, reason, count, 1
			 FROM audit_refusals WHERE tenant_id = $1 AND (last_at, id) < ($2, $4) AND `+narrow+`
			 ORDER BY last_at DESC, id DESC LIMIT $5)
			ORDER BY at DESC, refused DESC, id DESC LIMIT $5`,
			tenant, moment(after.At), after.Event, after.Refusal, keyset.Limit(page), entity)
		return fail("read the audit log", err)
	})
	records, next = keyset.Cut(records, page, keyset.AuditKey)
	return records, next, err
}

func scanAuditRecord(row pgx.Row) (r fleet.AuditRecord, err error) {
	var refused int
	err = row.Scan(&r.ID, (*instant)(&r.At), &r.Tenant, &r.ActorKind, &r.ActorID, &r.ActorName, &r.Role, &r.Action,
		&r.EntityKind, &r.EntityID, &r.Before, &r.After, &r.Source, &r.TraceID, &r.RefusalReason, &r.Count, &refused)
	return r, err
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// fields is the object of an audit event: what a person would want to know of the entity before or after. Never a
// secret, never a body.
type fields map[string]any

// appendAudit writes the event of a change into the transaction of the change. before and after become JSON objects;
// nil for none.
func appendAudit(ctx context.Context, tx *sql.Tx, by fleet.By, action, entityKind, entityID string, before, after any) error {
	old, err := object(before)
	if err != nil {
		return err
	}
	now, err := object(after)
	if err != nil {
		return err
	}
	p := by.Principal
	_, err = tx.ExecContext(ctx, `
		INSERT INTO audit_events (tenant_id, at, actor_kind, actor_id, actor_name, role, action, entity_kind, entity_id,
		                          before, after, source, trace_id)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)`,
		by.Tenant, moment(by.At), p.Kind, p.ID, p.Name, int(p.Role), action, entityKind, entityID, old, now, by.Source, by.TraceID)
	return fail("append to the audit log", err)
}

// object is v as JSON, NULL for nil.
func object(v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode for the audit log: %w", err)
	}
	return string(b), nil
}

// RecordAudit implements store.Access.
func (s *Store) RecordAudit(ctx context.Context, by fleet.By, action, entityKind, entityID string) error {
	return s.inTenant(ctx, by.Tenant, func(tx *sql.Tx) error {
		return appendAudit(ctx, tx, by, action, entityKind, entityID, nil, nil)
	})
}

// RecordRefusal implements store.Access.
func (s *Store) RecordRefusal(ctx context.Context, r fleet.Refusal) error {
	return s.inTenant(ctx, r.By.Tenant, func(tx *sql.Tx) error { return countRefusal(ctx, tx, r) })
}

// countRefusal counts a refusal in a transaction that goes on to commit.
func countRefusal(ctx context.Context, tx *sql.Tx, r fleet.Refusal) error {
	by, p := r.By, r.By.Principal
	_, err := tx.ExecContext(ctx, `
		INSERT INTO audit_refusals (tenant_id, hour, actor_kind, actor_id, actor_name, role, action, reason, entity_id,
		                            last_at, source, trace_id)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
		ON CONFLICT (tenant_id, hour, actor_id, action, reason, entity_id) DO UPDATE
		SET count = audit_refusals.count + 1, last_at = max(audit_refusals.last_at, excluded.last_at),
		    source = excluded.source, trace_id = excluded.trace_id`,
		by.Tenant, moment(by.At.UTC().Truncate(time.Hour)), p.Kind, p.ID, p.Name, int(p.Role), r.Action, r.Reason, r.Entity,
		moment(by.At), by.Source, by.TraceID)
	return fail("count a refusal", err)
}

// AuditRecords implements store.Access. A refusal stands where it was last counted, so it may move ahead of a reader.
func (s *Store) AuditRecords(ctx context.Context, tenant fleet.TenantID, entity string, page fleet.Page) (records []fleet.AuditRecord, next string, err error) {
	after, err := auditPlaceOf(page.After)
	if err != nil {
		return nil, "", err
	}
	narrow := "?6 = ''" // always so
	if entity != "" {
		narrow = "entity_id = ?6"
	}
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		records, err = list(ctx, tx, scanAuditRecord, `
			SELECT * FROM (SELECT id, at, tenant_id, actor_kind, actor_id, actor_name, role, action, entity_kind, entity_id,
			        before, after, source, trace_id, '' AS reason, 0 AS count, 0 AS refused
			 FROM audit_events WHERE tenant_id = ?1 AND (at, id) < (?2, ?3) AND `+narrow+`
			 ORDER BY at DESC, id DESC LIMIT ?5)
			UNION ALL
			SELECT * FROM (SELECT id, last_at, tenant_id, actor_kind, actor_id, actor_name, role, action, '', entity_id,
			        NULL, NULL, source, trace_id, reason, count, 1
			 FROM audit_refusals WHERE tenant_id = ?1 AND (last_at, id) < (?2, ?4) AND `+narrow+`
			 ORDER BY last_at DESC, id DESC LIMIT ?5)
			ORDER BY at DESC, refused DESC, id DESC LIMIT ?5`,
			tenant, moment(after.at), after.event, after.refusal, size(page)+1, entity)
		return fail("read the audit log", err)
	})
	records, next = keyset(records, size(page), auditKey)
	return records, next, err
}

func scanAuditRecord(row scanner) (r fleet.AuditRecord, err error) {
	var refused int
	err = row.Scan(&r.ID, (*instant)(&r.At), &r.Tenant, &r.ActorKind, &r.ActorID, &r.ActorName, &r.Role, &r.Action,
		&r.EntityKind, &r.EntityID, &r.Before, &r.After, &r.Source, &r.TraceID, &r.RefusalReason, &r.Count, &refused)
	return r, err
}

// auditPlace is a place in the log: a time and, of each of its two tables, the id that was reached at that time.
// Refusals come before events of their time.
type auditPlace struct {
	at             time.Time
	event, refusal int64
}

func auditKey(r fleet.AuditRecord) string {
	table := "e"
	if r.RefusalReason != "" {
		table = "r"
	}
	return fmt.Sprintf("%d.%s%d", r.At.UnixMicro(), table, r.ID)
}

// auditPlaceOf reads a key that auditKey wrote; the empty key is before the newest.
func auditPlaceOf(key string) (auditPlace, error) {
	if key == "" {
		return auditPlace{at: newest.at}, nil
	}
	at, rest, _ := strings.Cut(key, ".")
	micros, err := strconv.ParseInt(at, 10, 64)
	if err != nil || len(rest) < 2 {
		return auditPlace{}, fmt.Errorf("page: %w", store.ErrNotFound)
	}
	id, err := strconv.ParseInt(rest[1:], 10, 64)
	if err != nil {
		return auditPlace{}, fmt.Errorf("page: %w", store.ErrNotFound)
	}
	if rest[0] == 'r' {
		return auditPlace{time.UnixMicro(micros).UTC(), math.MaxInt64, id}, nil
	}
	return auditPlace{time.UnixMicro(micros).UTC(), id, 0}, nil
}

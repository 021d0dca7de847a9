// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// appendAudit writes the event of a change into the transaction of the change. before and after become JSON objects;
// nil for none. They must not hold secrets.
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

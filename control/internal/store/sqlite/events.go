// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// appendEvent writes what happened into the transaction in which it happened.
func appendEvent(ctx context.Context, tx *sql.Tx, e fleet.Event) error {
	attributes := e.Attributes
	if attributes == nil {
		attributes = map[string]string{}
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO events (tenant_id, at, kind, agent_id, message, attributes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)`,
		e.Tenant, moment(e.At), e.Kind, orNull(e.Agent), e.Message, asJSON(attributes))
	return fail("append an event", err)
}

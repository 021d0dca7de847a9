// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
)

// appendEvent writes what happened into the transaction in which it happened.
func appendEvent(ctx context.Context, tx *sql.Tx, e fleet.Event) error {
	attributes := e.Attributes
	if attributes == nil {
		attributes = map[string]string{}
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO events (tenant_id, at, kind, agent_id, message, attributes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)`,
		e.Tenant, moment(e.At), e.Kind, column.OrNull(e.Agent), e.Message, asJSON(attributes))
	return fail("append an event", err)
}

// EventsBefore implements store.Events.
func (s *Store) EventsBefore(ctx context.Context, tenant fleet.TenantID, f fleet.EventFilter, page fleet.Page) (events []fleet.Event, next string, err error) {
	before := int64(math.MaxInt64)
	if page.After != "" {
		if before, err = placeInStream(fleet.Cursor(page.After)); err != nil {
			return nil, "", err
		}
	}
	where := conditions{args: []any{tenant}}
	where.and("id < %s", before)
	where.events(f)
	query := "SELECT " + eventColumns + " FROM events WHERE tenant_id = ?1" + where.sql.String() + where.number(" ORDER BY id DESC LIMIT %s", keyset.Limit(page))
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		events, err = list(ctx, tx, scanEvent, query, where.args...)
		return fail("read events", err)
	})
	events, next = keyset.Cut(events, page, func(e fleet.Event) string { return string(e.Cursor) })
	return events, next, err
}

func (c *conditions) events(f fleet.EventFilter) {
	if f.Agent != "" {
		c.and("agent_id = %s", f.Agent)
	}
	if len(f.Kinds) > 0 {
		c.and("kind IN (SELECT value FROM json_each(%s))", asJSON(f.Kinds))
	}
	if !f.From.IsZero() {
		c.and("at >= %s", moment(f.From))
	}
	if !f.Until.IsZero() {
		c.and("at < %s", moment(f.Until))
	}
}

// The stream is ordered by id: transactions that write follow each other, so ids are given in the order of commits.

// EventsAfter implements store.Events.
func (s *Store) EventsAfter(ctx context.Context, tenant fleet.TenantID, after fleet.Cursor, limit int) (events []fleet.Event, err error) {
	id, err := placeInStream(after)
	if err != nil {
		return nil, err
	}
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		events, err = list(ctx, tx, scanEvent, `
			SELECT `+eventColumns+` FROM events WHERE tenant_id = ?1 AND id > ?2
			ORDER BY id LIMIT ?3`, tenant, id, limit)
		return fail("read events", err)
	})
	return events, err
}

// LastCursor implements store.Events.
func (s *Store) LastCursor(ctx context.Context, tenant fleet.TenantID) (last fleet.Cursor, err error) {
	err = s.reading(ctx, tenant, func(tx *sql.Tx) error {
		cursors, err := list(ctx, tx, scanCursor, `
			SELECT id FROM events WHERE tenant_id = ?1 ORDER BY id DESC LIMIT 1`, tenant)
		if err == nil && len(cursors) > 0 {
			last = cursors[0]
		}
		return fail("read the last event", err)
	})
	return last, err
}

// PruneEvents implements store.Events.
func (s *Store) PruneEvents(ctx context.Context, before time.Time, most int) (n int, err error) {
	err = s.asWorker(ctx, func(tx *sql.Tx) error {
		n, err = changed(tx.ExecContext(ctx, `
			DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < ?1 ORDER BY at LIMIT ?2)`, moment(before), most))
		return fail("prune events", err)
	})
	return n, err
}

const eventColumns = "id, tenant_id, at, kind, agent_id, message, attributes"

func scanEvent(row scanner) (e fleet.Event, err error) {
	var id int64
	err = row.Scan(&id, &e.Tenant, (*instant)(&e.At), &e.Kind, (*text)(&e.Agent), &e.Message, document(&e.Attributes))
	e.Cursor = cursor(id)
	return e, err
}

func scanCursor(row scanner) (fleet.Cursor, error) {
	var id int64
	err := row.Scan(&id)
	return cursor(id), err
}

func cursor(id int64) fleet.Cursor { return fleet.Cursor(strconv.FormatInt(id, 10)) }

// placeInStream reads a cursor; the empty one is before everything. What is no cursor is the place of nothing.
func placeInStream(c fleet.Cursor) (id int64, err error) {
	if c == "" {
		return 0, nil
	}
	id, err = strconv.ParseInt(string(c), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cursor: %w", store.ErrNotFound)
	}
	return id, nil
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
)

// appendEvent writes what happened into the transaction in which it happened.
func appendEvent(ctx context.Context, tx pgx.Tx, e fleet.Event) error {
	return appendEvents(ctx, tx, []fleet.Event{e})
}

// appendEvents writes what happened, in that order.
func appendEvents(ctx context.Context, tx pgx.Tx, events []fleet.Event) error {
	var batch pgx.Batch
	queueEvents(&batch, events)
	return fail("append events", tx.SendBatch(ctx, &batch).Close())
}

// queueEvents writes what happened, in that order.
func queueEvents(batch *pgx.Batch, events []fleet.Event) {
	if len(events) == 0 {
		return
	}
	batch.Queue(`
		INSERT INTO events (tenant_id, at, kind, agent_id, message, attributes)
		SELECT unnest($1::text[]), unnest($2::timestamptz[]), unnest($3::text[]),
			nullif(unnest($4::uuid[]), '00000000-0000-0000-0000-000000000000'), unnest($5::text[]), unnest($6::jsonb[])`,
		array(events, func(e fleet.Event) fleet.TenantID { return e.Tenant }),
		moments(events, func(e fleet.Event) time.Time { return e.At }),
		array(events, func(e fleet.Event) fleet.EventKind { return e.Kind }),
		ids(events, func(e fleet.Event) fleet.AgentID { return e.Agent }),
		array(events, func(e fleet.Event) string { return e.Message }),
		array(events, func(e fleet.Event) map[string]string { return column.NotNullMap(e.Attributes) }))
}

// EventsBefore implements store.Events.
func (s *Store) EventsBefore(ctx context.Context, tenant fleet.TenantID, f fleet.EventFilter, page fleet.Page) (events []fleet.Event, next string, err error) {
	before := int64(math.MaxInt64)
	if page.After != "" {
		if _, before, err = placeInStream(fleet.Cursor(page.After)); err != nil {
			return nil, "", err
		}
	}
	where := conditions{args: []any{tenant}}
	where.and("id < %s", before)
	where.events(f)
	query := "SELECT " + eventColumns + " FROM events WHERE tenant_id = $1" + where.sql.String() + where.number(" ORDER BY id DESC LIMIT %s", keyset.Limit(page))
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
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
		c.and("kind = ANY(%s)", texts(f.Kinds))
	}
	if !f.From.IsZero() {
		c.and("at >= %s", moment(f.From))
	}
	if !f.Until.IsZero() {
		c.and("at < %s", moment(f.Until))
	}
}

// The stream is ordered by (xid, id), the transaction that wrote and the order in which it did. Transactions commit in
// another order than they got their xid, so the stream ends before the oldest that still runs: nothing can come in
// before what a reader already got. A transaction that stays open holds the stream back; none of ours does.
const settled = "xid < pg_snapshot_xmin(pg_current_snapshot())"

// EventsAfter implements store.Events.
func (s *Store) EventsAfter(ctx context.Context, tenant fleet.TenantID, after fleet.Cursor, limit int) (events []fleet.Event, err error) {
	xid, id, err := placeInStream(after)
	if err != nil {
		return nil, err
	}
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		events, err = list(ctx, tx, scanEvent, `
			SELECT `+eventColumns+` FROM events WHERE tenant_id = $1 AND (xid, id) > ($2, $3) AND `+settled+`
			ORDER BY xid, id LIMIT $4`, tenant, xid, id, limit)
		return fail("read events", err)
	})
	return events, err
}

// LastCursor implements store.Events.
func (s *Store) LastCursor(ctx context.Context, tenant fleet.TenantID) (last fleet.Cursor, err error) {
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		cursors, err := list(ctx, tx, scanCursor, `
			SELECT xid, id FROM events WHERE tenant_id = $1 AND `+settled+` ORDER BY xid DESC, id DESC LIMIT 1`, tenant)
		if err == nil && len(cursors) > 0 {
			last = cursors[0]
		}
		return fail("read the last event", err)
	})
	return last, err
}

// PruneEvents implements store.Events.
func (s *Store) PruneEvents(ctx context.Context, before time.Time, most int) (n int, err error) {
	err = s.asWorker(ctx, func(tx pgx.Tx) error {
		deleted, err := tx.Exec(ctx, `
			DELETE FROM events WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM events WHERE at < $1 ORDER BY at LIMIT $2)`,
			moment(before), most)
		n = int(deleted.RowsAffected())
		return fail("prune events", err)
	})
	return n, err
}

const eventColumns = "xid, id, tenant_id, at, kind, agent_id, message, attributes"

func scanEvent(row pgx.Row) (e fleet.Event, err error) {
	var xid uint64
	var id int64
	err = row.Scan(&xid, &id, &e.Tenant, (*instant)(&e.At), &e.Kind, (*text)(&e.Agent), &e.Message, &e.Attributes)
	e.Cursor = cursor(xid, id)
	return e, err
}

func scanCursor(row pgx.Row) (fleet.Cursor, error) {
	var xid uint64
	var id int64
	err := row.Scan(&xid, &id)
	return cursor(xid, id), err
}

func cursor(xid uint64, id int64) fleet.Cursor {
	return fleet.Cursor(strconv.FormatUint(xid, 10) + "-" + strconv.FormatInt(id, 10))
}

// placeInStream reads a cursor; the empty one is before everything. What is no cursor is the place of nothing.
func placeInStream(c fleet.Cursor) (xid uint64, id int64, err error) {
	if c == "" {
		return 0, 0, nil
	}
	first, second, _ := strings.Cut(string(c), "-")
	xid, err = strconv.ParseUint(first, 10, 64)
	if err == nil {
		id, err = strconv.ParseInt(second, 10, 64)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("cursor: %w", store.ErrNotFound)
	}
	return xid, id, nil
}

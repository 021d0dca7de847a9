// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// list reads all rows of a query, each by scan.
func list[T any](ctx context.Context, tx pgx.Tx, scan func(pgx.Row) (T, error), query string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (T, error) { return scan(row) })
}

// one reads a row that must be there, by scan.
func one[T any](ctx context.Context, tx pgx.Tx, scan func(pgx.Row) (T, error), query string, args ...any) (T, error) {
	return scan(tx.QueryRow(ctx, query, args...))
}

// among compares an id with the list that is parameter $2. The sub-select hides the list from the planner, which would
// weigh each of a thousand elements against its statistics for longer than the query takes, and conclude from statistics
// of before the burst; so it takes the index.
const among = `= ANY((SELECT $2::uuid[])::uuid[])`

// array is one column of rows, as a parameter for unnest and ANY. Columns are unnested side by side in a list of SELECT:
// as arguments of one unnest, each would be written to a store of its own before its first row is read.
func array[R, V any](rows []R, column func(R) V) pgtype.FlatArray[V] {
	values := make(pgtype.FlatArray[V], len(rows))
	for i, r := range rows {
		values[i] = column(r)
	}
	return values
}

// texts is a column of what is text.
func texts[T ~string](rows []T) pgtype.FlatArray[string] {
	return array(rows, func(t T) string { return string(t) })
}

// ids is a column of ids. What is no UUID becomes the one of nothing.
func ids[R any, ID ~string](rows []R, column func(R) ID) pgtype.FlatArray[[16]byte] {
	return array(rows, func(r R) [16]byte {
		id, err := uuid.Parse(string(column(r)))
		if err != nil {
			return uuid.Nil
		}
		return id
	})
}

// moments is a column of times; NULL if zero.
func moments[R any](rows []R, column func(R) time.Time) pgtype.FlatArray[pgtype.Timestamptz] {
	return array(rows, func(r R) pgtype.Timestamptz {
		t := column(r)
		return pgtype.Timestamptz{Time: t.UTC().Truncate(time.Microsecond), Valid: !t.IsZero()}
	})
}

// itself is the column of a list that is one.
func itself[V any](v V) V { return v }

// pipeline gathers queries for one round trip.
type pipeline struct{ pgx.Batch }

// ask queues a query; each row is scanned into into, and then row is called.
func (q *pipeline) ask(row func() error, into []any, query string, args ...any) {
	q.Queue(query, args...).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, into, row)
		return err
	})
}

// pipelined makes queries in one round trip, one after the other.
func pipelined(ctx context.Context, tx pgx.Tx, what string, queries ...func(*pipeline)) error {
	var q pipeline
	for _, query := range queries {
		query(&q)
	}
	return fail(what, tx.SendBatch(ctx, &q.Batch).Close())
}

// affected is how many rows a statement changed. It takes what Exec returns.
func affected(done pgconn.CommandTag, err error) (int, error) {
	return int(done.RowsAffected()), err
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
)

// scanner is one row: *sql.Row or *sql.Rows.
type scanner interface{ Scan(into ...any) error }

// list reads all rows of a query, each by scan.
func list[T any](ctx context.Context, tx *sql.Tx, scan func(scanner) (T, error), query string, args ...any) (all []T, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// one reads a row that must be there, by scan.
func one[T any](ctx context.Context, tx *sql.Tx, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	return scan(tx.QueryRowContext(ctx, query, args...))
}

// changed is how many rows a statement changed. It takes what ExecContext returns.
func changed(done sql.Result, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n, err := done.RowsAffected()
	return int(n), err
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"gitlab.com/ampora/ampora/control/internal/store"
)

// fail is where errors of the driver die: what leaves is nil, an error of the context, or a sentinel of the store
// wrapped with what was tried. Only an error nobody foresaw keeps the driver's as its cause.
func fail(what string, err error) error {
	var lite *driver.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("%s: %w", what, store.ErrNotFound)
	case errors.As(err, &lite):
		return failCode(what, lite)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

// failCode maps an error of SQLite by its extended result code (https://sqlite.org/rescode.html).
func failCode(what string, lite *driver.Error) error {
	switch lite.Code() {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return fmt.Errorf("%s: %w", what, store.ErrExists)
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return fmt.Errorf("%s: %w", what, store.ErrNotFound)
	}
	switch lite.Code() & 0xff { // the primary code
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM:
		return fmt.Errorf("%s: %w: %v", what, store.ErrUnavailable, lite) //nolint:errorlint // the driver's error dies here
	case sqlite3.SQLITE_INTERRUPT: // the driver's answer to a context that is over
		return fmt.Errorf("%s: %w", what, context.Canceled)
	default:
		return fmt.Errorf("%s: %w", what, lite)
	}
}

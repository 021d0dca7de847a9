// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"

	"github.com/pressly/goose/v3"
	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"gitlab.com/ampora/ampora/shared/fault"
)

func openSQLite(path string, how access) (*database, error) {
	if path == "" {
		return nil, fault.New(fault.Invalid, "DATABASE_URL", "sqlite: names no file")
	}
	if how == create {
		if err := touch(path); err != nil {
			return nil, err
		}
	}
	db, err := sql.Open("sqlite", dsn(path, "immediate", "busy_timeout(5000)", "foreign_keys(1)"))
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	folder, err := fs.Sub(files, "sqlite")
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	return &database{
		db: db, dialect: goose.DialectSQLite3, files: folder,
		listTables:  "SELECT name FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_'",
		exclusively: func(ctx context.Context, do func() error) error { return underLockFile(ctx, path+"-migrating", do) },
	}, nil
}

// touch makes the file, for its owner alone: sealed keys lie in it. SQLite gives its side files the same mode.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator's own path
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	return f.Close()
}

// dsn is the driver's name for a file that exists.
func dsn(path, lock string, pragmas ...string) string {
	query := url.Values{"mode": {"rw"}, "_txlock": {lock}, "_pragma": pragmas}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String()
}

// underLockFile holds the write lock of an empty database beside the real one: goose begins its own transactions there,
// and SQLite's locks, unlike those of an operating system's call, are the same everywhere. The file stays.
func underLockFile(ctx context.Context, path string, do func() error) error {
	if err := touch(path); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", dsn(path, "exclusive"))
	if err != nil {
		return fmt.Errorf("open the lock: %w", err)
	}
	defer func() { _ = db.Close() }()
	var lock *sql.Tx
	if err := waitForLock(ctx, func() (bool, error) {
		lock, err = db.BeginTx(ctx, nil)
		if codeOf(err) == sqlite3.SQLITE_BUSY {
			return false, nil
		}
		return err == nil, err
	}); err != nil {
		return err
	}
	defer func() { _ = lock.Rollback() }()
	return do()
}

// isNoFile says whether err is that a SQLite database does not exist.
func isNoFile(err error) bool { return codeOf(err) == sqlite3.SQLITE_CANTOPEN }

// codeOf is the primary result code of an error of SQLite, 0 for any other.
func codeOf(err error) int {
	if lite, ok := errors.AsType[*driver.Error](err); ok {
		return lite.Code() & 0xff
	}
	return 0
}

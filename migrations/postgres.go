// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package migrations

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// advisoryLock is the key of the lock that a migrating process holds, per database: "ampora" in ASCII.
const advisoryLock int64 = 0x616d706f7261

func openPostgres(url string) (*database, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the database URL: %w", err) // the driver leaves the password out
	}
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["application_name"] = "ampora-migrate"
	folder, err := fs.Sub(files, "postgres")
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	d := &database{
		db: stdlib.OpenDB(*config), dialect: goose.DialectPostgres, files: folder,
		listTables: "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace",
	}
	d.exclusively = d.underAdvisoryLock
	return d, nil
}

// underAdvisoryLock holds the lock on a connection of its own: it goes with the connection if the process dies.
func (d *database) underAdvisoryLock(ctx context.Context, do func() error) error {
	conn, err := d.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := waitForLock(ctx, func() (got bool, err error) {
		err = conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", advisoryLock).Scan(&got)
		return got, err
	}); err != nil {
		return err
	}
	defer unlock(context.WithoutCancel(ctx), conn)
	return do()
}

func unlock(ctx context.Context, conn *sql.Conn) {
	// If this fails the connection is broken, and the lock gone with it.
	_, _ = conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", advisoryLock)
}

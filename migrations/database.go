// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"gitlab.com/ampora/ampora/shared/fault"
)

// database is a database about to be looked at or migrated.
type database struct {
	db      *sql.DB
	dialect goose.Dialect
	files   fs.FS
	// listTables lists the tables where Ampora's would be.
	listTables string
	// exclusively runs do while no other process does the same to this database.
	exclusively func(ctx context.Context, do func() error) error
}

// access says whether open may make a database that is none.
type access bool

const (
	use    access = false
	create access = true
)

func open(url string, how access) (*database, error) {
	scheme, path, _ := strings.Cut(url, ":")
	var d *database
	var err error
	switch scheme {
	case "postgres", "postgresql":
		d, err = openPostgres(url)
	case "sqlite":
		d, err = openSQLite(path, how)
	default:
		// The URL may hold a password and is not repeated.
		err = fault.New(fault.Invalid, "DATABASE_URL", "a database URL begins with postgres:// or sqlite:")
	}
	return d, err
}

func (d *database) close() { _ = d.db.Close() } // nothing is pending, nobody could help it

// tables lists what tables there are. A database that is none yet has none.
func (d *database) tables(ctx context.Context) ([]string, error) {
	rows, err := d.db.QueryContext(ctx, d.listTables)
	if isNoFile(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look into the database: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("look into the database: %w", err)
		}
		tables = append(tables, name)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look into the database: %w", err)
	}
	return tables, nil
}

// applied reads which migrations the database has, since when. Version 0 is goose's own mark.
func (d *database) applied(ctx context.Context) (map[int64]time.Time, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT version_id, tstamp FROM "+table+" WHERE version_id > 0 AND is_applied")
	if err != nil {
		return nil, fmt.Errorf("read the applied migrations: %w", err)
	}
	defer func() { _ = rows.Close() }()
	has := map[int64]time.Time{}
	for rows.Next() {
		var version int64
		var at time.Time
		if err := rows.Scan(&version, &at); err != nil {
			return nil, fmt.Errorf("read the applied migrations: %w", err)
		}
		has[version] = at.UTC()
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the applied migrations: %w", err)
	}
	return has, nil
}

// waitForLock tries every 50 ms until it gets what it tries for. Waiting inside the database would be a transaction,
// which some migrations (CREATE INDEX CONCURRENTLY) wait for in turn.
func waitForLock(ctx context.Context, try func() (bool, error)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := try()
		if err != nil {
			return fmt.Errorf("lock the schema: %w", err)
		}
		if got {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lock the schema: %w", errors.Join(ctx.Err(), context.Cause(ctx)))
		case <-tick.C:
		}
	}
}

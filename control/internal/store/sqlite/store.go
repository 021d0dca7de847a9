// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package sqlite is the store on SQLite: one process, for development and for trying Ampora, up to 500 agents.
//
// One connection writes, in BEGIN IMMEDIATE transactions, so writers stand in line and never fail for each other; a few
// others read beside it (WAL), each transaction one moment. There is no row-level security: every query names its
// tenant, and the suite that PostgreSQL's policies pass is what holds them to it.
//
// Times are integers, microseconds since 1970 UTC. Files and queries are those of store/postgres; where they differ,
// the dialect does.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"net/url"

	_ "modernc.org/sqlite" // the driver

	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/migrations"
)

// readers is how many transactions may read at once.
const readers = 4

// Store implements store.Store on SQLite. Safe for concurrent use, of one process.
type Store struct {
	writer *sql.DB // one connection
	reader *sql.DB
}

var _ store.Store = (*Store)(nil)

// Open opens the database file at path and refuses a schema that is not exactly this program's (see migrations.Check).
// It does not migrate, and does not create the file.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := migrations.Check(ctx, "sqlite:"+path); err != nil {
		return nil, fail("check the schema", err)
	}
	writer, err := sql.Open("sqlite", dsn(path, "rw", "immediate"))
	if err != nil {
		return nil, fail("open the database", err)
	}
	writer.SetMaxOpenConns(1)
	reader, err := sql.Open("sqlite", dsn(path, "rw", "deferred", "query_only(1)"))
	if err != nil {
		return nil, fail("open the database", errors.Join(err, writer.Close()))
	}
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers)
	return &Store{writer: writer, reader: reader}, nil
}

// dsn is the driver's name for the file.
//
// synchronous is NORMAL: with a write-ahead log a crash of the program loses nothing and a crash of the machine at most
// the last commits, never consistency. That is fair for development, and spares a flush per report.
func dsn(path, mode, lock string, pragmas ...string) string {
	query := url.Values{
		"mode":    {mode},
		"_txlock": {lock},
		"_pragma": append([]string{"busy_timeout(5000)", "journal_mode(wal)", "synchronous(normal)", "foreign_keys(1)"}, pragmas...),
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String()
}

// Ping fails with store.ErrUnavailable while the database cannot be used.
func (s *Store) Ping(ctx context.Context) error {
	return s.readingAsWorker(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "SELECT 1 FROM settings LIMIT 1")
		return fail("ping", err)
	})
}

// Backend is "sqlite".
func (s *Store) Backend() string { return "sqlite" }

// Pool implements store.Store, for writer and readers together.
func (s *Store) Pool() store.Pool {
	w, r := s.writer.Stats(), s.reader.Stats()
	return store.Pool{
		Max: w.MaxOpenConnections + r.MaxOpenConnections, Used: w.InUse + r.InUse, Idle: w.Idle + r.Idle,
		Waits: w.WaitCount + r.WaitCount, Waited: w.WaitDuration + r.WaitDuration,
	}
}

// Close closes all connections.
func (s *Store) Close() error {
	return fail("close the database", errors.Join(s.reader.Close(), s.writer.Close()))
}

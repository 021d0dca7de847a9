// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package postgres is the store on PostgreSQL 16 or newer.
//
// Every connection is entered through three functions (and their like in tx.go), which set a role without login for the
// length of the transaction: inTenant and reading as ampora_api, which row-level security confines to the tenant named;
// asWorker as ampora_worker, which may look over tenants at queues and at the columns it routes by. The program's own login needs
// no privilege but membership in these two. The queries name their tenant besides: what isolates is the policy, what
// finds the index is the query.
//
// Transactions are READ COMMITTED with guarded writes; those that only read are REPEATABLE READ, so that several
// queries see one moment. What is about many agents asks and writes each table once for all of them. Rows are locked in
// the order of their ids: gateways before agents, agents before items of work, grants and the outbox; bootstrap tokens before groups. One that loses against another by deadlock or serialization is run again, twice at most.
package postgres

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/migrations"
)

// connections is how many a process uses at most, unless the database's URL says: when thousands of agents answer at once
// and all partitions are recorded, engine and outbox need one, too.
const connections = 16

// Store implements store.Store on PostgreSQL. Safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
}

var _ store.Store = (*Store)(nil)

// Open connects to the database at url (a postgres:// URL, with the parameters of pgxpool) and refuses a schema that is
// not exactly this program's (see migrations.Check). It does not migrate.
func Open(ctx context.Context, url string) (*Store, error) {
	if err := migrations.Check(ctx, url); err != nil {
		return nil, fail("check the schema", err)
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fail("read the database URL", err)
	}
	params := config.ConnConfig.RuntimeParams
	params["timezone"] = "UTC"
	if params["application_name"] == "" {
		params["application_name"] = "ampora"
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = connections
	}
	// A transaction that stands still holds back the event stream of everybody.
	params["idle_in_transaction_session_timeout"] = "30s"
	// Queues are empty most of the time, and a plan that was made for an empty table and kept is the wrong one for the
	// thousands of rows that come at once. So nothing is planned ahead; what few statements there are work on many rows.
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidAsText{}})
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fail("open the database", err)
	}
	return &Store{pool: pool}, nil
}

// Ping fails with store.ErrUnavailable while the database cannot be used.
func (s *Store) Ping(ctx context.Context) error {
	return s.readingAsWorker(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT 1 FROM settings LIMIT 1")
		return fail("ping", err)
	})
}

// Backend is "postgres".
func (s *Store) Backend() string { return "postgres" }

// Pool implements store.Store.
func (s *Store) Pool() store.Pool {
	p := s.pool.Stat()
	return store.Pool{
		Max: int(p.MaxConns()), Used: int(p.AcquiredConns()), Idle: int(p.IdleConns()),
		Waits: p.EmptyAcquireCount(), Waited: p.EmptyAcquireWaitTime(),
	}
}

// Close ends all connections, waiting for those in use.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

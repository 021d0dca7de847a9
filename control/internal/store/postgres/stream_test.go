// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/postgres"
	"gitlab.com/ampora/ampora/control/internal/store/postgres/postgrestest"
)

// Transactions commit in another order than they began to write. The one that began first here commits last: a stream
// that returned what is committed would be past its event by then.
func TestTheStreamSkipsNothingThatCommitsLate(t *testing.T) {
	database := postgrestest.Database(t)
	s, err := postgres.Open(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := s.EnsureTenant(t.Context(), fleet.Tenant{ID: "acme", CreatedAt: time.Unix(0, 0), WrappedDataKey: []byte("k")}); err != nil {
		t.Fatal(err)
	}

	slow, quick := begin(t, database), begin(t, database)
	tell(t, slow, "slow, before")
	tell(t, quick, "quick")
	tell(t, slow, "slow, after")
	last := xid(t, quick)
	if err := quick.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}

	before, err := s.LastCursor(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if early := read(t, s, before); len(early) != 0 {
		t.Errorf("while the first still runs the stream says %q", early)
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitUntilSettled(t, dial(t, database), last)
	if got, want := read(t, s, before), []string{"slow, before", "slow, after", "quick"}; !slices.Equal(got, want) {
		t.Fatalf("the stream says %q, want %q", got, want)
	}
}

// xid is the id of a transaction that has written.
func xid(t *testing.T, tx pgx.Tx) (id string) {
	t.Helper()
	if err := tx.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text").Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

// waitUntilSettled waits until no transaction runs on the server that began to write before the one of the id did, or with
// it: those of other tests, in their databases, hold the stream back, too.
func waitUntilSettled(t *testing.T, conn *pgx.Conn, xid string) {
	t.Helper()
	for {
		var settled bool
		err := conn.QueryRow(t.Context(), "SELECT $1::text::xid8 < pg_snapshot_xmin(pg_current_snapshot())", xid).Scan(&settled)
		if err != nil {
			t.Fatal(err)
		}
		if settled {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func begin(t *testing.T, database string) pgx.Tx {
	t.Helper()
	tx, err := dial(t, database).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"SET LOCAL ROLE ampora_api", "SET LOCAL ampora.tenant = 'acme'"} {
		if _, err := tx.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	return tx
}

func tell(t *testing.T, tx pgx.Tx, message string) {
	t.Helper()
	if _, err := tx.Exec(t.Context(), "INSERT INTO events (tenant_id, at, kind, message) VALUES ('acme', now(), 'k', $1)", message); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s *postgres.Store, after fleet.Cursor) (messages []string) {
	t.Helper()
	events, err := s.EventsAfter(t.Context(), "acme", after, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		messages = append(messages, e.Message)
	}
	return messages
}

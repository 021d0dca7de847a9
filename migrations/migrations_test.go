// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package migrations_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"gitlab.com/ampora/ampora/migrations"
	"gitlab.com/ampora/ampora/shared/fault"
)

// backend makes empty databases and reaches into them.
type backend struct {
	name string
	// empty returns the URL of a database nobody has used, and what database/sql calls it.
	empty func(t *testing.T) (url, driver, name string)
}

var backends = []backend{{"postgres", emptyPostgres}, {"sqlite", emptySQLite}}

func emptySQLite(t *testing.T) (url, driver, name string) {
	path := filepath.Join(t.TempDir(), "a b?c%d.db") // a path needs escaping once
	return "sqlite:" + path, "sqlite", "file:" + strings.NewReplacer("%", "%25", "?", "%3f").Replace(path)
}

func emptyPostgres(t *testing.T) (address, driver, name string) {
	server := os.Getenv("AMPORA_TEST_POSTGRES_URL")
	if server == "" {
		t.Fatal("AMPORA_TEST_POSTGRES_URL is not set: infra/dev/services.sh up, and env")
	}
	admin := connect(t, "pgx", server)
	database := "migrations_" + strings.ToLower(rand.Text())
	execute(t, admin, "CREATE DATABASE "+database)
	t.Cleanup(func() {
		executeIn(context.WithoutCancel(t.Context()), t, admin, "DROP DATABASE "+database+" WITH (FORCE)")
	})
	parsed, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	parsed.Path = "/" + database
	return parsed.String(), "pgx", parsed.String()
}

func connect(t *testing.T, driver, name string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func execute(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	executeIn(t.Context(), t, db, statement)
}

func executeIn(ctx context.Context, t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func onBoth(t *testing.T, test func(t *testing.T, b backend)) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) { test(t, b) })
	}
}

func TestApply(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		database, _, _ := b.empty(t)
		wantReason(t, migrations.Check(t.Context(), database), migrations.ReasonMissing)

		applied, err := migrations.Apply(t.Context(), database)
		if err != nil {
			t.Fatal(err)
		}
		status, err := migrations.Status(t.Context(), database)
		if err != nil {
			t.Fatalf("after Apply: %v", err)
		}
		if len(applied) != len(status) || status[0].Name != "00001_foundation.sql" || status[0].AppliedAt.IsZero() {
			t.Errorf("applied %v, status %v", applied, status)
		}

		again, err := migrations.Apply(t.Context(), database)
		if err != nil || len(again) != 0 {
			t.Errorf("a second Apply did %v, %v", again, err)
		}
	})
}

func TestApplyAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		database, _, _ := b.empty(t)
		var wg sync.WaitGroup
		applied := make([]int, 4)
		for i := range applied {
			wg.Go(func() {
				done, err := migrations.Apply(t.Context(), database)
				if err != nil {
					t.Errorf("process %d: %v", i, err)
				}
				applied[i] = len(done)
			})
		}
		wg.Wait()
		total := 0
		for _, n := range applied {
			total += n
		}
		if status, err := migrations.Status(t.Context(), database); err != nil || total != len(status) {
			t.Errorf("applied %v of %v: %v", applied, status, err)
		}
	})
}

func TestRefused(t *testing.T) {
	tests := []struct {
		name, change string
		want         string
		onEmpty      bool
	}{
		{name: "older", change: "DELETE FROM ampora_migrations WHERE version_id = 1", want: migrations.ReasonOlder},
		{name: "newer", change: "INSERT INTO ampora_migrations (version_id, is_applied) VALUES (99999, true)", want: migrations.ReasonNewer},
		{name: "foreign", change: "CREATE TABLE theirs (id integer)", want: migrations.ReasonForeign, onEmpty: true},
	}
	onBoth(t, func(t *testing.T, b backend) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				database, driver, name := b.empty(t)
				if !test.onEmpty {
					if _, err := migrations.Apply(t.Context(), database); err != nil {
						t.Fatal(err)
					}
				}
				db := connect(t, driver, name)
				execute(t, db, test.change)
				wantReason(t, migrations.Check(t.Context(), database), test.want)
				if test.want == migrations.ReasonOlder {
					return
				}
				_, err := migrations.Apply(t.Context(), database)
				wantReason(t, err, test.want)
			})
		}
	})
}

func TestApplyEndsWithItsContext(t *testing.T) {
	onBoth(t, func(t *testing.T, b backend) {
		database, _, _ := b.empty(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := migrations.Apply(ctx, database); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
}

func TestWrongURL(t *testing.T) {
	for _, address := range []string{"", "mysql://root:hunter2@db/x", "sqlite:", "/var/lib/ampora.db"} {
		err := migrations.Check(t.Context(), address)
		wantReason(t, err, "DATABASE_URL")
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error repeats a password: %v", err)
		}
	}
}

func TestSQLiteFileIsItsOwners(t *testing.T) {
	database, _, _ := emptySQLite(t)
	if _, err := migrations.Apply(t.Context(), database); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(strings.TrimPrefix(database, "sqlite:"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestForwardOnly(t *testing.T) {
	err := fs.WalkDir(os.DirFS("."), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".sql" {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // our own files
		if strings.Contains(string(text), "+goose Down") {
			t.Errorf("%s offers a way back; going back is running the former program", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if err == nil || !fault.Is(err, reason) {
		t.Errorf("got %v, want a fault with reason %s", err, reason)
	}
}

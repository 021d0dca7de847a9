// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package postgrestest gives each test a PostgreSQL database of its own.
//
// AMPORA_TEST_POSTGRES_URL names the server and a superuser of it (infra/dev/services.sh env prints it); a test without
// fails. Databases are cloned from a template that is migrated once per state of the schema, which takes a tenth of a
// second, and dropped at the end of their test. The store logs in as a role that is no superuser and inherits nothing,
// as in production, so policies bind it.
package postgrestest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/store/postgres"
	"gitlab.com/ampora/ampora/migrations"
)

const (
	// login is the role that stores of tests log in as, and its password: nothing but test databases is behind it.
	login = "ampora_test"
	// lock is the advisory lock on the server that keeps clones from meeting migrations of their template.
	lock = 0x74656d706c617465
)

// Open returns a store on a fresh database.
func Open(t testing.TB) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), Database(t))
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Database returns the URL of a fresh, migrated database for the login of tests.
func Database(t testing.TB) string {
	t.Helper()
	return at(t, url.UserPassword(login, login), clone(t))
}

// Superuser returns the URL of the same database for the server's superuser, who no policy binds.
func Superuser(t testing.TB, database string) string {
	t.Helper()
	parsed, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	return at(t, server(t).User, strings.TrimPrefix(parsed.Path, "/"))
}

// template migrates the template once per process, and says its name.
var template = sync.OnceValues(func() (string, error) {
	name := "ampora_template_" + migrations.Digest()
	ctx := context.Background()
	admin, err := pgx.Connect(ctx, os.Getenv("AMPORA_TEST_POSTGRES_URL"))
	if err != nil {
		return "", err
	}
	defer func() { _ = admin.Close(ctx) }()
	if _, err := admin.Exec(ctx, "SELECT pg_advisory_lock($1)", lock); err != nil {
		return "", err
	}
	return name, prepare(ctx, admin, name)
})

func prepare(ctx context.Context, admin *pgx.Conn, name string) error {
	var exists bool
	if err := admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		if _, err := admin.Exec(ctx, "CREATE DATABASE "+name); err != nil {
			return err
		}
	}
	config := admin.Config().ConnString()
	parsed, err := url.Parse(config)
	if err != nil {
		return err
	}
	parsed.Path = "/" + name
	if _, err := migrations.Apply(ctx, parsed.String()); err != nil {
		return err
	}
	_, err = admin.Exec(ctx, `
		DO $$ BEGIN
			IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ampora_test') THEN
				CREATE ROLE ampora_test LOGIN PASSWORD 'ampora_test' NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
				GRANT ampora_api, ampora_worker TO ampora_test WITH INHERIT FALSE, SET TRUE;
			END IF;
		END $$`)
	return err
}

// clone makes a database from the template, drops it at the end of the test, and says its name.
func clone(t testing.TB) string {
	t.Helper()
	admin := connect(t)
	from, err := template()
	if err != nil {
		t.Fatalf("migrate the template: %v", err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	run(t, admin, fmt.Sprintf("SELECT pg_advisory_lock_shared(%d)", int64(lock)))
	run(t, admin, "CREATE DATABASE "+name+" TEMPLATE "+from)
	run(t, admin, fmt.Sprintf("SELECT pg_advisory_unlock_shared(%d)", int64(lock)))
	t.Cleanup(func() { run(t, admin, "DROP DATABASE "+name+" WITH (FORCE)") })
	return name
}

func connect(t testing.TB) *pgx.Conn {
	t.Helper()
	admin, err := pgx.Connect(t.Context(), server(t).String())
	if err != nil {
		t.Fatalf("connect to the server of the tests: %v", err)
	}
	t.Cleanup(func() { _ = admin.Close(context.Background()) })
	return admin
}

func run(t testing.TB, conn *pgx.Conn, statement string) {
	t.Helper()
	if _, err := conn.Exec(context.WithoutCancel(t.Context()), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func server(t testing.TB) *url.URL {
	t.Helper()
	parsed, err := url.Parse(os.Getenv("AMPORA_TEST_POSTGRES_URL"))
	if err != nil || parsed.Host == "" {
		t.Fatal("AMPORA_TEST_POSTGRES_URL names no server: infra/dev/services.sh up, then eval its env")
	}
	return parsed
}

func at(t testing.TB, user *url.Userinfo, database string) string {
	t.Helper()
	u := *server(t)
	u.User, u.Path = user, "/"+database
	return u.String()
}

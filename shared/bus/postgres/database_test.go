// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// The tests of this package have a database each, cloned from a template that holds
// the schema of the migrations: their files, run as they are, because package
// migrations stands above this module.

// lock is the advisory lock on the server that keeps clones from meeting the making of
// their template.
const lock = 0x616d706f72616275

// controlLogin is the login of control planes in tests; roles are of the server.
const controlLogin = "ampora_bus_test_control"

// database is one of a test, reached by a superuser, whom nothing stops.
type database struct {
	t        testing.TB
	name     string
	super    *pgx.Conn
	admitted map[string]string // logins by gateway
}

func newDatabase(t testing.TB) *database {
	t.Helper()
	server := connect(t, serverURL(t).String())
	from, err := template()
	if err != nil {
		t.Fatalf("make the template: %v", err)
	}
	name := "bus_" + strings.ToLower(rand.Text())
	run(t, server, "SELECT pg_advisory_lock_shared($1)", lock)
	run(t, server, "CREATE DATABASE "+name+" TEMPLATE "+from)
	run(t, server, "SELECT pg_advisory_unlock_shared($1)", lock)
	t.Cleanup(func() { run(t, server, "DROP DATABASE "+name+" WITH (FORCE)") })
	d := &database{t: t, name: name, admitted: map[string]string{}}
	d.super = connect(t, d.url(serverURL(t).User.Username()))
	return d
}

// url is that of the database for a login.
func (d *database) url(login string) string {
	u := serverURL(d.t)
	if login != u.User.Username() {
		u.User = url.UserPassword(login, login)
	}
	u.Path = "/" + d.name
	return u.String()
}

// admit returns the URL of a login that is admitted as a gateway.
func (d *database) admit(gateway string) string {
	d.t.Helper()
	login, already := d.admitted[gateway]
	if !already {
		sum := sha256.Sum256([]byte(gateway))
		login = "ampora_bus_test_" + hex.EncodeToString(sum[:4])
		run(d.t, d.super, createLogin(login))
		run(d.t, d.super, "SELECT ampora_bus.admit($1, $2)", login, gateway)
		d.admitted[gateway] = login
	}
	return d.url(login)
}

func (d *database) run(statement string, args ...any) {
	d.t.Helper()
	run(d.t, d.super, statement, args...)
}

// template makes the template once for each state of the schema, and says its name.
var template = sync.OnceValues(func() (string, error) {
	schema, err := schema()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(schema))
	name := "ampora_bus_template_" + hex.EncodeToString(sum[:8])
	ctx := context.Background()
	server, err := pgx.Connect(ctx, os.Getenv("AMPORA_TEST_POSTGRES_URL"))
	if err != nil {
		return "", err
	}
	defer func() { _ = server.Close(ctx) }()
	if _, err := server.Exec(ctx, "SELECT pg_advisory_lock($1)", lock); err != nil {
		return "", err
	}
	var exists bool
	if err := server.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil || exists {
		return name, err
	}
	return name, fill(ctx, server, name, schema)
})

// fill makes the template under another name first: one that is half done is none.
func fill(ctx context.Context, server *pgx.Conn, name, schema string) error {
	draft := "draft_" + strings.ToLower(rand.Text())
	if _, err := server.Exec(ctx, "CREATE DATABASE "+draft); err != nil {
		return err
	}
	config := server.Config()
	config.Database = draft
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	_, err = conn.PgConn().Exec(ctx, schema).ReadAll()
	_ = conn.Close(ctx)
	if err != nil {
		return err
	}
	_, err = server.Exec(ctx, "ALTER DATABASE "+draft+" RENAME TO "+name)
	return err
}

// schema is what the migrations do: their comments for goose are comments to the
// server, too. The table is goose's own.
func schema() (string, error) {
	files, err := filepath.Glob("../../../migrations/postgres/*.sql")
	if err != nil || len(files) < 2 {
		return "", fmt.Errorf("the migrations are not where they were: %w", err)
	}
	text := "CREATE TABLE ampora_migrations (version_id bigint, is_applied boolean, tstamp timestamp);\n" + createLogin(controlLogin) + ";\n"
	for _, file := range files {
		migration, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		text += string(migration)
	}
	return text + "\nGRANT ampora_bus_control TO " + controlLogin + " WITH INHERIT FALSE, SET TRUE", nil
}

// createLogin is SQL that makes a login unless there is one.
func createLogin(name string) string {
	return fmt.Sprintf(`DO $$ BEGIN
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%[1]s') THEN
			CREATE ROLE %[1]s LOGIN PASSWORD '%[1]s' NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
		END IF;
	END $$`, name)
}

func serverURL(t testing.TB) *url.URL {
	t.Helper()
	parsed, err := url.Parse(os.Getenv("AMPORA_TEST_POSTGRES_URL"))
	if err != nil || parsed.Host == "" {
		t.Fatal("AMPORA_TEST_POSTGRES_URL names no server: infra/dev/services.sh up, then eval its env")
	}
	return parsed
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func run(t testing.TB, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(context.WithoutCancel(t.Context()), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

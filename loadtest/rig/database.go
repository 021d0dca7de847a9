// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" //nolint:depguard // driver "pgx": tests count what was stored
	_ "modernc.org/sqlite"             //nolint:depguard // driver "sqlite", likewise
)

// Database is the database of one installation, seen from outside.
type Database struct {
	// URL is what the program is given, Owner's may also migrate.
	URL, Owner string
	driver     string
	source     string
}

// SQLite is a database in a file that does not exist yet.
func SQLite(dir string) Database {
	path := filepath.Join(dir, "ampora.db")
	return Database{URL: "sqlite:" + path, Owner: "sqlite:" + path, driver: "sqlite", source: "file:" + path + "?mode=ro&_pragma=busy_timeout(5000)"}
}

// PostgreSQL is a new, empty database. The program's own login is no superuser: it is a
// member of the two roles, which it must set to do anything.
func PostgreSQL(t testing.TB) Database {
	t.Helper()
	super := PostgresURL(t)
	name := "e2e_" + secretText()[:12]
	newLogin(t, name)
	admin := connect(t, "pgx", super.String())
	do(t, admin, `CREATE DATABASE `+name)
	t.Cleanup(func() { do(t, admin, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`) })
	owner := *super
	owner.Path = "/" + name
	login := owner
	login.User = url.User(name)
	return Database{URL: login.String(), Owner: owner.String(), driver: "pgx", source: owner.String()}
}

// Grant lets the program's login into the two roles, once the migrations have made them.
func (d Database) Grant(t testing.TB) {
	t.Helper()
	login, err := url.Parse(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	do(t, connect(t, d.driver, d.source), `GRANT ampora_api, ampora_worker, ampora_bus_control TO `+login.User.Username()+` WITH INHERIT FALSE, SET TRUE`)
}

// BackUp keeps the database of PostgreSQL as it is, while nobody uses it. What it returns puts it back.
func (d Database) BackUp(t testing.TB) (restore func()) {
	t.Helper()
	admin := connect(t, "pgx", PostgresURL(t).String())
	owner, err := url.Parse(d.Owner)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(owner.Path, "/")
	// Connections of the tests themselves may linger.
	do(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '`+name+`'`)
	do(t, admin, `CREATE DATABASE `+name+`_backup TEMPLATE `+name)
	t.Cleanup(func() { do(t, admin, `DROP DATABASE IF EXISTS `+name+`_backup WITH (FORCE)`) })
	return func() {
		t.Helper()
		do(t, admin, `DROP DATABASE `+name+` WITH (FORCE)`)
		do(t, admin, `CREATE DATABASE `+name+` TEMPLATE `+name+`_backup`)
	}
}

// Login makes a login that may do nothing yet.
func (d Database) Login(t testing.TB) (name, address string) {
	t.Helper()
	name = "e2e_bus_" + secretText()[:12]
	newLogin(t, name)
	login, err := url.Parse(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	login.User = url.User(name)
	return name, login.String()
}

// newLogin makes a login that may do nothing, and drops it after what was made since.
func newLogin(t testing.TB, name string) {
	t.Helper()
	admin := connect(t, "pgx", PostgresURL(t).String())
	do(t, admin, `CREATE ROLE `+name+` LOGIN NOINHERIT NOSUPERUSER NOBYPASSRLS`)
	t.Cleanup(func() { do(t, admin, `DROP ROLE IF EXISTS `+name) })
}

// PostgresURL is the superuser's URL of the test server.
func PostgresURL(t testing.TB) *url.URL {
	t.Helper()
	text := os.Getenv("AMPORA_TEST_POSTGRES_URL")
	if text == "" {
		t.Fatal("AMPORA_TEST_POSTGRES_URL is not set: run these tests with make e2e")
	}
	parsed, err := url.Parse(text)
	if err != nil {
		t.Fatal("AMPORA_TEST_POSTGRES_URL is not a URL")
	}
	return parsed
}

// Count runs a query of one number, past row-level security: what is really stored.
func (d Database) Count(t testing.TB, query string) (n int) {
	t.Helper()
	db := connect(t, d.driver, d.source)
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// Everything is all rows of all tables of a PostgreSQL, as text: bytes in hexadecimal.
func (d Database) Everything(t testing.TB) map[string]string {
	t.Helper()
	db := connect(t, d.driver, d.source)
	defer db.Close()
	var tables []string
	read(t, db, &tables, `
		SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`)
	all := make(map[string]string, len(tables))
	for _, table := range tables {
		var rows []string
		read(t, db, &rows, "SELECT t::text FROM "+table+" AS t")
		all[table] = strings.Join(rows, "\n")
	}
	return all
}

func read(t testing.TB, db *sql.DB, into *[]string, query string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		*into = append(*into, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// Exec changes the database behind the program's back, as the owner.
func (d Database) Exec(t testing.TB, statement string) {
	t.Helper()
	source := d.source
	if d.driver == "sqlite" {
		source = "file:" + d.URL[len("sqlite:"):] + "?_pragma=busy_timeout(10000)"
	}
	db := connect(t, d.driver, source)
	defer db.Close()
	do(t, db, statement)
}

func connect(t testing.TB, driver, source string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func do(t testing.TB, db *sql.DB, statement string) {
	t.Helper()
	// Also in cleanups, where the test's context has ended.
	if _, err := db.ExecContext(context.WithoutCancel(t.Context()), statement); err != nil {
		t.Errorf("%s: %v", statement, err)
	}
}

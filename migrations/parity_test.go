// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package migrations_test

import (
	"database/sql"
	"maps"
	"slices"
	"testing"

	"gitlab.com/ampora/ampora/migrations"
)

// onlyPostgres are the columns that SQLite does not need, each with the reason.
var onlyPostgres = map[string]string{
	"events.xid": "one writer at a time makes the order of ids the order of commits",
}

// The queries of both stores are meant to be read side by side.
func TestBothHaveTheSameTablesAndColumns(t *testing.T) {
	postgres := columns(t, emptyPostgres, `
		SELECT table_name || '.' || column_name, is_nullable = 'YES' FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name <> 'ampora_migrations'`)
	sqlite := columns(t, emptySQLite, `
		SELECT t.name || '.' || c.name, c."notnull" = 0 AND c.pk = 0 FROM sqlite_schema t, pragma_table_info(t.name) c
		WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name <> 'ampora_migrations'`)
	for column, nullable := range postgres {
		if _, reason := onlyPostgres[column]; reason {
			continue
		}
		if there, ok := sqlite[column]; !ok {
			t.Errorf("SQLite lacks %s", column)
		} else if there != nullable {
			t.Errorf("%s may be null: %v in PostgreSQL, %v in SQLite", column, nullable, there)
		}
	}
	for _, column := range slices.Sorted(maps.Keys(sqlite)) {
		if _, ok := postgres[column]; !ok {
			t.Errorf("PostgreSQL lacks %s", column)
		}
	}
}

// columns reads which columns a fresh database has, and whether they may be null.
func columns(t *testing.T, empty func(t *testing.T) (url, driver, name string), query string) map[string]bool {
	t.Helper()
	database, driver, name := empty(t)
	if _, err := migrations.Apply(t.Context(), database); err != nil {
		t.Fatal(err)
	}
	rows, err := connect(t, driver, name).QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func(rows *sql.Rows) { _ = rows.Close() }(rows)
	list := map[string]bool{}
	for rows.Next() {
		var column string
		var nullable bool
		if err := rows.Scan(&column, &nullable); err != nil {
			t.Fatal(err)
		}
		list[column] = nullable
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

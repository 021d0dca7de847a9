// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/migrations"
	"gitlab.com/ampora/ampora/shared/fault"
)

func acme(t *testing.T) *sqlite.Store {
	t.Helper()
	s := open(t)
	if _, err := s.EnsureTenant(t.Context(), fleet.Tenant{ID: "acme", CreatedAt: time.Unix(0, 0), WrappedDataKey: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDriverErrorsDie(t *testing.T) {
	const body = "INSERT INTO bodies (tenant_id, hash, size, sealed, created_at) VALUES (%s, zeroblob(32), 1, x'', 0)"
	tests := []struct {
		name       string
		statements []string
		want       error
	}{
		{"a taken key", []string{fmt.Sprintf(body, "'acme'"), fmt.Sprintf(body, "'acme'")}, store.ErrExists},
		{"a missing parent", []string{fmt.Sprintf(body, "'nobody'")}, store.ErrNotFound},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := sqlite.InTenant(acme(t), t.Context(), "acme", func(tx *sql.Tx) error {
				for _, statement := range test.statements {
					if _, err := tx.ExecContext(t.Context(), statement); err != nil {
						return sqlite.Fail("try", err)
					}
				}
				return nil
			})
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	for _, err := range []error{context.Canceled, fmt.Errorf("timeout: %w", context.DeadlineExceeded)} {
		if got := sqlite.Fail("try", err); !errors.Is(got, err) {
			t.Errorf("%v became %v", err, got)
		}
	}
	if got := sqlite.Fail("try", sql.ErrNoRows); !errors.Is(got, store.ErrNotFound) {
		t.Errorf("no rows became %v", got)
	}
	if sqlite.Fail("try", nil) != nil {
		t.Error("nothing became something")
	}
}

func TestReadingDoesNotWrite(t *testing.T) {
	err := sqlite.Reading(acme(t), t.Context(), "acme", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "DELETE FROM tenants")
		return sqlite.Fail("write", err)
	})
	if err == nil {
		t.Error("a reading transaction wrote")
	}
}

func TestAFullDatabaseIsUnavailable(t *testing.T) {
	err := sqlite.InTenant(acme(t), t.Context(), "acme", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), "PRAGMA max_page_count = 1"); err != nil {
			return err
		}
		_, err := tx.ExecContext(t.Context(), "INSERT INTO bodies VALUES ('acme', zeroblob(32), 1, zeroblob(1000000), 0)")
		return sqlite.Fail("store a body", err)
	})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestOpenMakesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ampora.db")
	if _, err := sqlite.Open(t.Context(), path); !fault.Is(err, migrations.ReasonMissing) {
		t.Errorf("got %v", err)
	}
	if files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); err != nil || len(files) != 0 {
		t.Errorf("made %v, %v", files, err)
	}
}

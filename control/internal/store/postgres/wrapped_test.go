// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"testing"

	"gitlab.com/ampora/ampora/control/internal/store/postgres/postgrestest"
	"gitlab.com/ampora/ampora/control/internal/store/storetest"
)

func TestWrappedColumnsAreDeclared(t *testing.T) {
	conn := dial(t, postgrestest.Superuser(t, postgrestest.Database(t)))
	storetest.WantDeclared(t, column[string](t, conn, `
		SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'`))
}

// TestTheWorkerMayChangeWhatIsWrappedOfTheInstallation and nothing else of the settings.
func TestTheWorkerMayChangeWhatIsWrappedOfTheInstallation(t *testing.T) {
	conn := dial(t, postgrestest.Superuser(t, postgrestest.Database(t)))
	for query, want := range map[string]bool{
		"SELECT has_column_privilege('ampora_worker', 'settings', 'value', 'UPDATE')": true,
		"SELECT has_column_privilege('ampora_worker', 'settings', 'name', 'UPDATE')":  false,
		"SELECT has_table_privilege('ampora_worker', 'settings', 'DELETE')":           false,
		"SELECT has_any_column_privilege('ampora_api', 'settings', 'UPDATE')":         false,
	} {
		if got := column[bool](t, conn, query); got[0] != want {
			t.Errorf("%s: %v", query, got[0])
		}
	}
}

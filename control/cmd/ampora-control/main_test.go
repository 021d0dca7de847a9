// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// TestATenantThatCannotBeOneLeavesNothing: the first key an installation is opened with is its key for good, so nothing
// may be opened for a request that is wrong.
func TestATenantThatCannotBeOneLeavesNothing(t *testing.T) {
	database := "AMPORA_DATABASE_URL=sqlite:" + filepath.Join(t.TempDir(), "ampora.db")
	key := func(c string) string { return "AMPORA_MASTER_KEY=" + strings.Repeat(c, 43) + "=" }
	run := func(environ []string, args ...string) (code int, out, errs string) {
		var o, e bytes.Buffer
		code = start(t.Context(), args, environ, &o, &e)
		return code, o.String(), e.String()
	}
	if code, _, errs := run([]string{database}, "migrate", "up"); code != 0 {
		t.Fatalf("migrate: %d %s", code, errs)
	}
	code, _, errs := run([]string{database, key("I"), "AMPORA_TENANT=Not A Tenant"}, "bootstrap-admin")
	if code != 2 || !strings.Contains(errs, "AMPORA_TENANT") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if code, out, errs := run([]string{database, key("E")}, "bootstrap-admin"); code != 0 || !strings.HasPrefix(out, "amp-pat.") {
		t.Errorf("with another key: %d %s", code, errs)
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/shared/identity"
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

// TestGatewaysOfSeveralTenants lets the operator issue a join token, and revoke what did not join with it.
func TestGatewaysOfSeveralTenants(t *testing.T) {
	dir := t.TempDir()
	environ := []string{
		"AMPORA_DATABASE_URL=sqlite:" + filepath.Join(dir, "ampora.db"), "AMPORA_MASTER_KEY=" + strings.Repeat("I", 43) + "=",
		"AMPORA_TRUST_DOMAIN=example.org",
	}
	ca := filepath.Join(dir, "ca.pem")
	run := func(want int, args ...string) (out, errs string) {
		t.Helper()
		var o, e bytes.Buffer
		if code := start(t.Context(), args, environ, &o, &e); code != want {
			t.Fatalf("%v: exit code %d, want %d: %s%s", args, code, want, o.String(), e.String())
		}
		return o.String(), e.String()
	}
	run(0, "migrate", "up")
	run(0, "bootstrap-admin") // which makes the tenant default
	for _, wrong := range [][]string{
		{"--gateway", "edge-1"},
		{"--gateway", "edge-1", "--tenant", "default", "--all-tenants"},
		{"--gateway", "Edge", "--all-tenants"},
		{"--gateway", "edge-1", "--tenant", "Not One"},
		{"--gateway", "edge-1", "--all-tenants", "--ttl", "1m"},
	} {
		if out, _ := run(2, append([]string{"join-token"}, wrong...)...); out != "" {
			t.Errorf("%v printed %s", wrong, out)
		}
	}
	run(1, "join-token", "--gateway", "edge-1", "--tenant", "default", "--tenant", "nobody")
	for _, scope := range [][]string{{"--tenant", "default"}, {"--all-tenants", "--ttl", "15m"}} {
		out, _ := run(0, append([]string{"join-token", "--gateway", "edge-1", "--ca-out", ca}, scope...)...)
		if _, err := identity.ParseToken(identity.GatewayToken, strings.TrimSpace(out)); err != nil {
			t.Errorf("%v printed %q: %v", scope, out, err)
		}
	}
	if pem, err := os.ReadFile(ca); err != nil || !strings.HasPrefix(string(pem), "-----BEGIN CERTIFICATE-----") {
		t.Errorf("the authority is %q, %v", pem, err)
	}
	if err := os.WriteFile(ca, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(1, "join-token", "--gateway", "edge-1", "--all-tenants", "--ca-out", ca)
	if pem, _ := os.ReadFile(ca); string(pem) != "precious" {
		t.Errorf("the file holds %q now", pem)
	}
	if _, errs := run(1, "revoke-gateway", "edge-1"); !strings.Contains(errs, "there is no gateway") {
		t.Errorf("revoking what has not joined: %s", errs)
	}
}

// TestImportOfAnAuthority takes one over before the first start, and says what became of it.
func TestImportOfAnAuthority(t *testing.T) {
	dir := t.TempDir()
	environ := []string{
		"AMPORA_DATABASE_URL=sqlite:" + filepath.Join(dir, "ampora.db"), "AMPORA_MASTER_KEY=" + strings.Repeat("I", 43) + "=",
		"AMPORA_TRUST_DOMAIN=example.org",
	}
	run := func(want int, args ...string) (out, errs string) {
		t.Helper()
		var o, e bytes.Buffer
		if code := start(t.Context(), args, environ, &o, &e); code != want {
			t.Fatalf("%v: exit code %d, want %d: %s%s", args, code, want, o.String(), e.String())
		}
		return o.String(), e.String()
	}
	run(0, "migrate", "up")
	pem, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	made := exec.CommandContext(t.Context(), "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", pem,
		"-subj", "/CN=Corp Root", "-days", "365")
	if out, err := made.CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v: %s", err, out)
	}
	for _, wrong := range [][]string{
		{"--tenant", "default"},
		{"--tenant", "default", "--cert", pem},
		{"--tenant", "default", "--cert", pem, "--key", key, "--key-uri", "pkcs11:id=5e"},
		{"--tenant", "default", "--cert", pem, "--key", filepath.Join(dir, "missing")},
		{"--tenant", "nobody", "--cert", pem, "--key", key},
		{"--tenant", "default", "--cert", key, "--key", key},
		{"--tenant", "default", "--cert", pem, "--key-uri", "pkcs11:id=5e"},
	} {
		if out, errs := run(1, append([]string{"keys", "import-ca"}, wrong...)...); out != "" || errs == "" {
			t.Errorf("%v: %s%s", wrong, out, errs)
		}
	}
	out, errs := run(0, "keys", "import-ca", "--tenant", "default", "--cert", pem, "--key", key)
	if strings.Count(out, "active") != 2 || errs != "" {
		t.Errorf("%s%s", out, errs)
	}
	if _, errs := run(1, "keys", "import-ca", "--tenant", "default", "--cert", pem, "--key", key); !strings.Contains(errs, "CA_ALREADY_THERE") {
		t.Errorf("again: %s", errs)
	}
}

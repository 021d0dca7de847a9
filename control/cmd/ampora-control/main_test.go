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

// TestTheMasterKeyIsReplaced goes through it as an operator does, and looks at what each command says.
func TestTheMasterKeyIsReplaced(t *testing.T) {
	database := "AMPORA_DATABASE_URL=sqlite:" + filepath.Join(t.TempDir(), "ampora.db")
	former, next := strings.Repeat("I", 43)+"=", strings.Repeat("E", 43)+"="
	run := func(want int, master, previous string, args ...string) (out, errs string) {
		t.Helper()
		environ := []string{database}
		for name, value := range map[string]string{"AMPORA_MASTER_KEY": master, "AMPORA_PREVIOUS_MASTER_KEY": previous} {
			if value != "" {
				environ = append(environ, name+"="+value)
			}
		}
		var o, e bytes.Buffer
		if code := start(t.Context(), args, environ, &o, &e); code != want {
			t.Fatalf("%v: exit code %d, want %d: %s%s", args, code, want, o.String(), e.String())
		}
		return o.String(), e.String()
	}
	says := func(text string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("%q does not say %q", text, part)
			}
		}
	}
	run(0, "", "", "migrate", "up")
	out, _ := run(0, former, "", "keys", "status")
	says(out, "Nothing was ever sealed")
	_, errs := run(1, next, former, "keys", "rotate-master")
	says(errs, "nothing was ever sealed")

	run(0, former, "", "bootstrap-admin") // a tenant, its data key and the key check
	out, _ = run(0, former, "", "keys", "status")
	says(out, "All 2 records open under AMPORA_MASTER_KEY: no other key is needed.")
	out, _ = run(3, "", "", "keys", "status")
	says(out, "tenant-data-key", "key-check", "was not looked at")
	out, _ = run(3, next, former, "keys", "status")
	says(out, "2 of 2 records are under AMPORA_PREVIOUS_MASTER_KEY: keep it")
	_, errs = run(1, next, "", "keys", "rotate-master")
	says(errs, "AMPORA_MASTER_KEY is not the key")
	out, _ = run(0, former, next, "keys", "status") // the step before: each process learns the new key
	says(out, "All 2 records open under AMPORA_MASTER_KEY")

	out, errs = run(0, next, former, "keys", "rotate-master")
	says(out, "2 records were wrapped anew")
	says(errs, "tenant-data-key 1/1", "key-check 1/1")
	out, _ = run(0, next, former, "keys", "status")
	says(out, "AMPORA_PREVIOUS_MASTER_KEY may be removed from every process")
	out, _ = run(0, next, "", "keys", "rotate-master")
	says(out, "0 records were wrapped anew")

	out, _ = run(3, former, "", "keys", "status")
	says(out, "2 of 2 records are under keys that are not configured")
	_, errs = run(1, former, "", "bootstrap-admin", "--name", "second")
	says(errs, "AMPORA_MASTER_KEY is not the key that this database was sealed with")
	run(0, next, "", "bootstrap-admin", "--name", "second")
	run(1, "too short", "", "keys", "status")
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

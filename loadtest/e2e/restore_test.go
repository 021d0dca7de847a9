// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/agent"
	"gitlab.com/ampora/ampora/loadtest/rig"
)

// TestRestore: the database is put back as it was, and nothing comes back to life with it. Where gateways are processes of
// their own, they go on meanwhile.
func TestRestore(t *testing.T) {
	each(t, []rig.Flavour{rig.Production, rig.SplitRedis}, restore)
}

func restore(t *testing.T, s *rig.Server) {
	control := s.Parts[:1]
	if len(s.Parts) > 1 {
		control = s.Controls()
	}
	stop := func() {
		t.Helper()
		for _, part := range control {
			part.Stop()
		}
	}
	start := func() {
		t.Helper()
		for _, part := range control {
			part.Start()
		}
	}
	gone, goneID := s.Enrol("gone")
	_, keptID := run(t, s, "kept", agent.Apply)
	s.AwaitOnline(keptID)
	unused := s.Issue()

	stop()
	restore := s.Database.BackUp(t)
	start()

	s.Do("certificates", "revoke", goneID, "--reason", "key-compromise")
	late, err := s.Stranger().Enrol(t.Context(), unused.GetSecret()) // with a token that the backup takes for unused
	if err != nil {
		t.Fatal(err)
	}
	rig.Await(t, "the list to name it", func() string {
		list := download(t, s, distributionPoint(t, gone))
		out := openssl(t, "crl", "-inform", "DER", "-in", list, "-noout", "-text")
		return unless(strings.Contains(out, "Key Compromise"), out)
	})
	list := download(t, s, distributionPoint(t, gone))
	number := openssl(t, "crl", "-inform", "DER", "-in", list, "-noout", "-crlnumber")
	stop()
	restore()

	if got := s.Control(s.Database.URL, "after-restore"); got.Code != 2 {
		t.Errorf("without a list or a word it ends with %d: %s", got.Code, got.Stderr)
	}
	got := s.Control(s.Database.URL, "after-restore", "--crl", filepath.Join(gone, "cert.pem"))
	if got.Code == 0 {
		t.Error("a certificate was taken for a list")
	}
	rig.Await(t, "the lease of the stopped process to end", func() string {
		got = s.Control(s.Database.URL, "after-restore", "--crl", list)
		return unless(got.Code == 0, got.Stderr)
	})
	if !strings.Contains(got.Stdout, "revoked 1 certificates, 0 are not on record") || !strings.Contains(got.Stdout, "revoked 1 bootstrap tokens") {
		t.Errorf("it says: %s", got.Stdout)
	}
	began := time.Now()
	start()

	// The agent that was there is there again; the revoked one is not, nor the token, nor what came after the backup.
	s.AwaitOnline(keptID)
	t.Logf("the agent is back %s after the start", time.Since(began).Round(time.Millisecond))
	if got := s.CLI("renew", "--server", "https://"+s.OpAMP, "--dir", gone, "--force"); got.Code == 0 {
		t.Error("what was revoked is renewed")
	}
	if _, err := s.Stranger().Enrol(t.Context(), unused.GetSecret()); err == nil {
		t.Error("a token enrols for the second time")
	}
	if why := admits(t, s.Stranger().With(late)); why == "" {
		t.Error("what was issued after the backup is refused in the handshake, although its key is trusted")
	}
	rig.Await(t, "the list to go on", func() string {
		next := download(t, s, distributionPoint(t, gone))
		out := openssl(t, "crl", "-inform", "DER", "-in", next, "-noout", "-text")
		return unless(strings.Contains(out, "Key Compromise"), out)
	})
	next := download(t, s, distributionPoint(t, gone))
	if again := openssl(t, "crl", "-inform", "DER", "-in", next, "-noout", "-crlnumber"); again < number {
		t.Errorf("the list is %s after %s", again, number)
	}
	if out := s.Do("audit", "list"); !strings.Contains(out, "installation.after_restore") || !strings.Contains(out, "revocation_list.import") {
		t.Errorf("the audit log says: %s", out)
	}
}

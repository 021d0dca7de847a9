// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestKeyServiceIsAway: the authorities' keys are in Vault, which hangs and then is gone. Agents are told to come back and
// keep their tokens, gateways and lists go on, a control plane that starts anew included; then Vault is back.
func TestKeyServiceIsAway(t *testing.T) {
	t.Parallel()
	s := rig.NewServer(t, rig.SplitPostgres)
	vault := s.InVault()
	s.Start()
	identity, _ := s.Enrol("before")
	if here := s.Database.Count(t, "SELECT count(*) FROM signing_keys WHERE key_uri = '' OR length(sealed_key) > 0"); here != 0 {
		t.Errorf("%d keys are in the database", here)
	}
	rig.Await(t, "the first list", func() string {
		response, err := http.Get(distributionPoint(t, identity))
		if err != nil {
			return err.Error()
		}
		_ = response.Body.Close()
		return unless(response.StatusCode == http.StatusOK, response.Status)
	})
	verifies := func(identity string) {
		t.Helper()
		bundle := download(t, s, "http://"+s.PKI+"/pki/trust-bundle.pem")
		der := download(t, s, distributionPoint(t, identity))
		openssl(t, "crl", "-inform", "DER", "-in", der, "-out", der+".pem")
		if out := openssl(t, "verify", "-x509_strict", "-crl_check", "-CAfile", bundle, "-CRLfile", der+".pem", filepath.Join(identity, "cert.pem")); !strings.Contains(out, ": OK") {
			t.Errorf("openssl verify: %s", out)
		}
	}
	verifies(identity)

	token, id := s.IssueFile("after.token")
	enrol := func() rig.Result {
		return s.CLI("enroll", "--server", "https://"+s.OpAMP, "--ca-file", s.CAFile, "--token-file", token, "--out-dir", filepath.Join(s.Dir, "after.identity"))
	}
	refused := func(how string) {
		t.Helper()
		began := time.Now()
		if got := enrol(); got.Code == 0 || !strings.Contains(got.Stderr, "cannot enrol now") {
			t.Errorf("%s: enrolled with %d: %s", how, got.Code, got.Stderr)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("%s: it took %s", how, took)
		}
		if state := s.Token(id).GetState(); state != amporav1.TokenState_TOKEN_STATE_LIVE {
			t.Errorf("%s: the token is %s", how, state)
		}
		verifies(identity)
	}
	vault.Swallow()
	refused("it hangs")
	vault.Cut()
	refused("it is gone")
	for _, part := range s.Controls() {
		part.Stop()
		part.Start()
	}
	refused("the control plane has started anew")
	for _, part := range s.Gateways() {
		part.AwaitReady()
	}

	vault.Heal()
	rig.Await(t, "the agent to enrol with the token that it has", func() string {
		got := enrol()
		return unless(got.Code == 0, got.Stderr)
	})
	verifies(filepath.Join(s.Dir, "after.identity"))
	if first, second := s.Controls()[0], s.Controls()[1]; !first.Logged("the key service cannot be used") && !second.Logged("the key service cannot be used") {
		t.Error("nobody says that the key service was away")
	}
}

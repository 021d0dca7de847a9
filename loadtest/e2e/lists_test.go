// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
)

// listTime is how long the list may be behind a revocation (product specification, section 5).
const listTime = 5 * time.Second

// TestRevocationList: openssl, which knows nothing of us, finds the list where the certificate says it is, and knows from
// it which certificate is revoked and which is not.
func TestRevocationList(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		identity, id := s.Enrol("revoked")
		good, _ := s.Enrol("good")
		bundle := download(t, s, "http://"+s.PKI+"/pki/trust-bundle.pem")
		var list string
		rig.Await(t, "the first list", func() string {
			response, err := http.Get(distributionPoint(t, identity))
			if err != nil {
				return err.Error()
			}
			_ = response.Body.Close()
			return unless(response.StatusCode == http.StatusOK, response.Status)
		})
		verify := func(identity string) string {
			t.Helper()
			der := download(t, s, distributionPoint(t, identity))
			list = der + ".pem"
			openssl(t, "crl", "-inform", "DER", "-in", der, "-out", list)
			if out := openssl(t, "crl", "-inform", "DER", "-in", der, "-noout", "-CAfile", bundle, "-verify"); !strings.Contains(out, "verify OK") {
				t.Fatalf("the list is not signed by who should: %s", out)
			}
			return openssl(t, "verify", "-x509_strict", "-crl_check", "-CAfile", bundle, "-CRLfile", list, filepath.Join(identity, "cert.pem"))
		}
		for _, each := range []string{identity, good} {
			if out := verify(each); !strings.Contains(out, ": OK") {
				t.Fatalf("before anything is revoked: %s", out)
			}
		}
		began := time.Now()
		s.Do("certificates", "revoke", id, "--reason", "key-compromise")
		rig.Await(t, "the list to name it", func() string {
			out := verify(identity)
			return unless(strings.Contains(out, "certificate revoked"), out)
		})
		took := time.Since(began)
		t.Logf("the list named it %s after the call began", took.Round(time.Millisecond))
		if took > listTime {
			t.Errorf("that is more than %s", listTime)
		}
		if out := verify(good); !strings.Contains(out, ": OK") {
			t.Errorf("of the other one openssl says: %s", out)
		}
		if out := openssl(t, "crl", "-in", list, "-noout", "-text"); !strings.Contains(out, "Key Compromise") || !strings.Contains(out, "Only User Certificates") {
			t.Errorf("the list says: %s", out)
		}
	})
}

// distributionPoint is where the leaf of an identity says that its list is.
func distributionPoint(t *testing.T, identity string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(identity, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || len(leaf.CRLDistributionPoints) != 1 {
		t.Fatalf("the certificate names %v, %v", leaf.CRLDistributionPoints, err)
	}
	return leaf.CRLDistributionPoints[0]
}

// download keeps what an address answers with in a file, and returns its name.
func download(t *testing.T, s *rig.Server, url string) string {
	t.Helper()
	response, err := http.Get(url) //nolint:gosec // of the test's own servers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, response.Status, err)
	}
	name := filepath.Join(s.Dir, filepath.Base(url))
	if err := os.WriteFile(name, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// openssl says what it says; whether that is good is for the caller to judge.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatalf("openssl %v: %v", args, err)
	}
	return string(out)
}

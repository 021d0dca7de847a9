// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
)

// TestOCSP: openssl asks where the certificate says, and is told at once when it is revoked.
func TestOCSP(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		identity, id := s.Enrol("revoked")
		bundle := download(t, s, "http://"+s.PKI+"/pki/trust-bundle.pem")
		leaf, issuer := chain(t, s, identity)
		ask := func(args ...string) string {
			t.Helper()
			return openssl(t, append([]string{"ocsp", "-issuer", issuer, "-CAfile", bundle, "-url", leaf.OCSPServer[0]}, args...)...)
		}
		certificate := filepath.Join(identity, "cert.pem")
		rig.Await(t, "the responder", func() string {
			out := ask("-cert", certificate)
			return unless(strings.Contains(out, "Response verify OK") && strings.Contains(out, ": good"), out)
		})
		// By its serial number, named by the other digest, on the path without a key.
		serial := "0x" + leaf.SerialNumber.Text(16)
		if out := openssl(t, "ocsp", "-sha256", "-no_nonce", "-issuer", issuer, "-CAfile", bundle, "-url", "http://"+s.PKI+"/pki/ocsp", "-serial", serial); !strings.Contains(out, ": good") {
			t.Errorf("named by SHA-256: %s", out)
		}
		if out := ask("-serial", "0x1234"); !strings.Contains(out, "unauthorized") {
			t.Errorf("a serial number that nobody issued: %s", out)
		}

		began := time.Now()
		s.Do("certificates", "revoke", id, "--reason", "key-compromise")
		rig.Await(t, "the responder to say so", func() string {
			out := ask("-cert", certificate)
			return unless(strings.Contains(out, ": revoked"), out)
		})
		took := time.Since(began)
		t.Logf("it is said to be revoked %s after the call began", took.Round(time.Millisecond))
		if took > cutTime {
			t.Errorf("that is more than %s", cutTime)
		}
		if out := ask("-cert", certificate); !strings.Contains(out, "Response verify OK") || !strings.Contains(out, "keyCompromise") {
			t.Errorf("the answer is: %s", out)
		}
	})
}

// chain reads the leaf of an identity, and writes its issuer to a file.
func chain(t *testing.T, s *rig.Server, identity string) (leaf *x509.Certificate, issuer string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(identity, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	first, rest := pem.Decode(text)
	second, _ := pem.Decode(rest)
	if second == nil {
		t.Fatal("the issuer is not in the chain")
	}
	if leaf, err = x509.ParseCertificate(first.Bytes); err != nil || len(leaf.OCSPServer) != 1 {
		t.Fatalf("the certificate names %v, %v", leaf.OCSPServer, err)
	}
	issuer = filepath.Join(s.Dir, "issuer.pem")
	put(t, issuer, string(pem.EncodeToMemory(second)))
	return leaf, issuer
}

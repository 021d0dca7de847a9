// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
)

// TestOpenSSLReadsWhatWeSign lets a second implementation judge: whether the chain
// verifies for a client, and what the leaf says.
func TestOpenSSLReadsWhatWeSign(t *testing.T) {
	for _, algorithm := range []pki.Algorithm{pki.ECDSAP256, pki.RSA3072} {
		t.Run(string(algorithm), func(t *testing.T) {
			config := policy
			config.Algorithm = algorithm
			store := &memory{}
			authority := open(t, store, config, acme)
			r := request(t, acme, start)
			leaf, _ := issue(t, authority, r)

			dir := t.TempDir()
			root := write(t, dir, "root.pem", encode("CERTIFICATE", store.key(t, acme, fleet.SigningKeyRoot).CertificateDER))
			chain := write(t, dir, "chain.pem", leaf.ChainPEM)
			out := openssl(t, "verify", "-x509_strict", "-purpose", "sslclient", "-attime", strconv.FormatInt(start.Unix(), 10),
				"-CAfile", root, "-untrusted", chain, chain)
			if !strings.HasSuffix(strings.TrimSpace(out), ": OK") {
				t.Errorf("openssl verify: %s", out)
			}
			says(t, openssl(t, "x509", "-in", chain, "-noout", "-text"), r.Agent, leaf)
		})
	}
}

// says checks the text form of a leaf, extension by extension.
func says(t *testing.T, text string, agent fleet.AgentID, leaf pki.Leaf) {
	t.Helper()
	base := "URI:http://pki.example:8081/pki/" + string(leaf.KeyID)
	for name, want := range map[string]string{
		"X509v3 Subject Alternative Name":    "URI:spiffe://fleet.example/tenant/acme/agent/" + string(agent),
		"X509v3 Extended Key Usage":          "TLS Web Client Authentication",
		"X509v3 Key Usage: critical":         "Digital Signature",
		"X509v3 Basic Constraints: critical": "CA:FALSE",
		"X509v3 CRL Distribution Points":     "Full Name: " + base + "/crl.der",
		"Authority Information Access":       "OCSP - " + base + "/ocsp",
	} {
		if got := extension(text, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if !strings.Contains(text, "Subject: CN = "+string(agent)+"\n") {
		t.Errorf("the subject is another:\n%s", text)
	}
}

var heading = regexp.MustCompile(`(?m)^ {12}\S.*$`)

// extension returns the value under a heading of `openssl x509 -text`, on one line.
func extension(text, name string) string {
	headings := heading.FindAllStringIndex(text, -1)
	i := slices.IndexFunc(headings, func(at []int) bool {
		return strings.TrimRight(strings.TrimSpace(text[at[0]:at[1]]), ": ") == name
	})
	if i < 0 {
		return "missing"
	}
	value := text[headings[i][1]:]
	if i+1 < len(headings) {
		value = text[headings[i][1]:headings[i+1][0]]
	}
	value, _, _ = strings.Cut(value, "    Signature Algorithm")
	return strings.Join(strings.Fields(value), " ")
}

func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// opensslAnyway returns what it says, whether it is content or not.
func opensslAnyway(t *testing.T, args ...string) string {
	t.Helper()
	out, _ := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
	return string(out)
}

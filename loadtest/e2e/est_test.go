// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
	"gitlab.com/ampora/ampora/loadtest/rig"
)

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```")

// TestESTGuide: what the guide says to type, typed as it stands there, ends with the files of an agent that is let in. Over
// both versions of HTTP, because the guide does not say which.
func TestESTGuide(t *testing.T) {
	guide := read(t, filepath.Join(rig.Root(t), "docs", "guides", "est.md"))
	var typed strings.Builder
	for _, block := range shellBlock.FindAllStringSubmatch(guide, -1) {
		typed.WriteString(block[1])
	}
	flavours(t, func(t *testing.T, s *rig.Server) {
		for _, version := range []string{"http1.1", "http2"} {
			t.Run(version, func(t *testing.T) {
				dir := t.TempDir() // which is HOME, too: there curl finds its own
				issued := s.Issue()
				put(t, filepath.Join(dir, ".curlrc"), version+"\n")
				put(t, filepath.Join(dir, "token"), issued.GetSecret()+"\n")
				put(t, filepath.Join(dir, "server-ca.pem"), read(t, s.CAFile))
				script := filepath.Join(dir, "guide.sh")
				put(t, script, strings.ReplaceAll(typed.String(), "gateway.example.com:4320", s.OpAMP))
				got := rig.Run(t, rig.Command{Name: "guide", Path: "/bin/sh", Args: []string{"-eux", script}, Dir: dir}, "")
				if got.Code != 0 {
					t.Fatalf("exit code %d\n%s%s", got.Code, got.Stdout, got.Stderr)
				}
				if strings.Contains(got.Stderr, issued.GetSecret()) { // sh -x writes every command line
					t.Error("the token stood on a command line")
				}
				if n := strings.Count(got.Stdout, ": OK"); n != 2 {
					t.Errorf("openssl verified %d chains:\n%s", n, got.Stdout)
				}
				id := s.AwaitAgent(issued.GetToken().GetId())
				if !strings.Contains(got.Stdout, "/tenant/default/agent/"+id) {
					t.Errorf("the certificate of %s says:\n%s", id, got.Stdout)
				}
				comesUp(t, s, id, dir)
			})
		}
	})
}

// comesUp opens a session with the files in a folder.
func comesUp(t *testing.T, s *rig.Server, id, dir string) {
	t.Helper()
	identity, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := s.Stranger().With(&identity).Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if answer, err := conn.Exchange(rawopamp.Hello(rawopamp.NewUID(), "curl"), answerTime); err != nil || answer.GetErrorResponse() != nil {
		t.Fatalf("its first message is answered %v, %v", answer, err)
	}
	if serial := s.AwaitOnline(id).GetCredential().GetSerial(); serial != identity.Leaf.SerialNumber.Text(16) {
		t.Errorf("the agent shows the certificate %s", serial)
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil { //nolint:gosec // a file of the test
		t.Fatal(err)
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
)

func TestSecretIntoAFile(t *testing.T) {
	for _, command := range []string{
		"tokens issue", "tokens issue -o json", "api-tokens create ci --role viewer", "api-tokens create x --role admin -o yaml",
		"join-tokens issue edge-4",
	} {
		inWorld(t, func(t *testing.T, w *world) {
			file := filepath.Join(t.TempDir(), "secret")
			got := w.run(append(strings.Fields(command), "--out", file)...)
			if got.code != int(ExitOK) || strings.Contains(got.out+got.errOut, theSecret) {
				t.Errorf("%s: exit %d:\n%s%s", command, got.code, got.out, got.errOut)
			}
			kept, err := os.ReadFile(file)
			info, statErr := os.Stat(file)
			if err != nil || statErr != nil || !strings.HasSuffix(string(kept), theSecret+"\n") || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: kept %q, %v, %v", command, kept, info.Mode(), errors.Join(err, statErr))
			}
		})
	}
}

// A secret that could not be kept is not asked for, and a file without one is not left behind.
func TestSecretFileIsMadeFirst(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		taken := filepath.Join(t.TempDir(), "taken")
		if err := os.WriteFile(taken, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := len(w.state.tokens)
		if got := w.run("tokens", "issue", "--out", taken); got.code != int(ExitUsage) || len(w.state.tokens) != before {
			t.Errorf("exit %d, %d tokens: %s", got.code, len(w.state.tokens), got.errOut)
		}
		if kept, _ := os.ReadFile(taken); string(kept) != "precious" {
			t.Errorf("the file now holds %q", kept)
		}
		file := filepath.Join(t.TempDir(), "secret")
		w.state.failNext = refuse(connect.CodePermissionDenied, "ROLE_TOO_LOW", "no", nil)
		if got := w.run("tokens", "issue", "--out", file); got.code != int(ExitDenied) {
			t.Errorf("exit %d: %s", got.code, got.errOut)
		}
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the empty file was left behind: %v", err)
		}
	})
}

func TestControlPlanesAuthorityIntoAFile(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		secret, ca := filepath.Join(dir, "token"), filepath.Join(dir, "ca")
		issue := []string{"join-tokens", "issue", "edge-4", "--out", secret, "--ca-out", ca}
		w.state.failNext = refuse(connect.CodePermissionDenied, "GATEWAY_SHARED", "no", nil)
		if got := w.run(issue...); got.code != int(ExitDenied) {
			t.Errorf("exit %d: %s", got.code, got.errOut)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left behind are %v, %v", left, err)
		}
		if got := w.run(issue...); got.code != int(ExitOK) || got.out != "" {
			t.Errorf("exit %d: %s%s", got.code, got.out, got.errOut)
		}
		for file, want := range map[string]string{secret: "amp-gw." + theSecret + "\n", ca: "PEM\n"} {
			if kept, err := os.ReadFile(file); err != nil || string(kept) != want {
				t.Errorf("%s holds %q, %v", file, kept, err)
			}
		}
		// It is the same for the next gateway. What is something else is left alone.
		if got := w.run("join-tokens", "issue", "edge-5", "--ca-out", ca); got.code != int(ExitOK) {
			t.Errorf("exit %d: %s", got.code, got.errOut)
		}
		if err := os.WriteFile(ca, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := w.run("join-tokens", "issue", "edge-5", "--ca-out", ca); got.code != int(ExitUsage) {
			t.Errorf("exit %d: %s", got.code, got.errOut)
		}
		if kept, _ := os.ReadFile(ca); string(kept) != "precious" {
			t.Errorf("the file now holds %q", kept)
		}
	})
}

func TestLifetime(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"15m": 15 * time.Minute, "24h": 24 * time.Hour, "7d": 168 * time.Hour, "1h30m": 90 * time.Minute,
		"": 0, "d": 0, "0d": 0, "-1h": 0, "1.5d": 0, "soon": 0, "99999d": 0,
	} {
		var got lifetime
		err := got.Set(text)
		if got.duration() != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %v, %v; want %v", text, got.duration(), err, want)
		}
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNew(t *testing.T) {
	for _, url := range []string{"", "127.0.0.1:8080", "ftp://127.0.0.1", "http://"} {
		if _, err := New(Access{URL: url}); err == nil {
			t.Errorf("%q is taken for the API", url)
		}
	}
	if _, err := New(Access{URL: "https://fleet.example.com"}); err != nil {
		t.Error(err)
	}
}

// TestTokenFrom: what is named comes first, then the file of the environment, then its token.
func TestTokenFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("in a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AMPORA_TOKEN", "in the environment")
	if token, err := TokenFrom(""); token != "in the environment" || err != nil {
		t.Errorf("%q, %v", token, err)
	}
	if token, err := TokenFrom(file); token != "in a file" || err != nil {
		t.Errorf("%q, %v", token, err)
	}
	t.Setenv("AMPORA_TOKEN_FILE", file)
	if token, err := TokenFrom(""); token != "in a file" || err != nil {
		t.Errorf("%q, %v", token, err)
	}
	if _, err := TokenFrom(file + "x"); err == nil {
		t.Error("a file that is not there has a token")
	}
}

func TestRootsFrom(t *testing.T) {
	if roots, err := RootsFrom(""); roots != nil || err != nil {
		t.Errorf("no file means %v, %v", roots, err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, empty + "x"} {
		if _, err := RootsFrom(file); err == nil {
			t.Errorf("%s has roots", file)
		}
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/agent"
)

// TestRunRefuses: what cannot work is refused before anything is sent.
func TestRunRefuses(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("one\n\n two \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no tokens":         {nil, "-token-file or -token-env"},
		"two ways to them":  {[]string{"-token-file", tokens, "-token-env", "X"}, "-token-file or -token-env"},
		"too few":           {[]string{"-token-file", tokens, "-n", "3"}, "there are 2"},
		"none at all":       {[]string{"-token-file", tokens, "-n", "0"}, "at least 1"},
		"no file":           {[]string{"-token-file", tokens + "x", "-n", "2"}, "no such file"},
		"no authorities":    {[]string{"-token-file", tokens, "-n", "2", "-ca-file", tokens}, "no certificates"},
		"not encrypted":     {[]string{"-token-file", tokens, "-n", "2", "-endpoint", "ws://127.0.0.1"}, "wss://"},
		"further arguments": {[]string{"-token-file", tokens, "-n", "2", "more"}, "no further arguments"},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), test.args, &out); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %v, want one with %q", name, err, test.want)
		}
	}
}

func TestRespond(t *testing.T) {
	o := options{failOn: "missing"}
	if verdict := o.respond(agent.Offer{Body: []byte("exporters: [missing]")}); verdict.Failure == "" {
		t.Error("it applies what it shall fail on")
	}
	if verdict := o.respond(agent.Offer{Body: []byte("exporters: [debug]")}); verdict.Failure != "" {
		t.Errorf("it fails with %q", verdict.Failure)
	}
}

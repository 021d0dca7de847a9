// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/swarm"
)

// TestUsage: what cannot work is refused before anything is sent.
func TestUsage(t *testing.T) {
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"no command":      {},
		"unknown command": {"swim"},
		"unknown flag":    {"run", "--speed", "9"},
		"an argument":     {"run", "now"},
		"no agents":       {"enrol", "--count", "0", "--identities", dir},
		"unknown way":     {"enrol", "--enrol", "post", "--identities", dir},
		"no address":      {"run", "--server", "localhost"},
		"transport":       {"run", "--transport", "udp"},
		"fault":           {"run", "--fault", "flood=1/s"},
		"how often":       {"run", "--fault", "drop=often"},
		"apply delay":     {"run", "--apply-delay", "3s,1s"},
		"no state":        {"verify"},
		"too many":        {"run", "--count", "100000000"},
		"no authorities":  {"run", "--ca-file", filepath.Join(dir, "missing")},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), args, &out, &out); !errors.Is(err, errUsage) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"verify", "--state", filepath.Join(dir, "missing")}, &out, &out); err == nil {
		t.Error("a state that is not there is verified")
	}
}

// TestHelp: help names every command, flag and kind of fault.
func TestHelp(t *testing.T) {
	for _, arg := range []string{"--help", "-h", "help"} {
		var out bytes.Buffer
		if err := run(t.Context(), []string{arg}, &out, &out); err != nil {
			t.Errorf("%s: %v", arg, err)
		}
		for _, c := range commands {
			o := &options{flags: flag.NewFlagSet(c.name, flag.ContinueOnError)}
			c.options(o)
			o.flags.VisitAll(func(f *flag.Flag) {
				if !strings.Contains(out.String(), "--"+f.Name+" ") || f.Usage == "" {
					t.Errorf("%s: help does not explain --%s", arg, f.Name)
				}
			})
		}
		for kind := range swarm.FaultKinds() {
			if !strings.Contains(out.String(), kind+" ") {
				t.Errorf("%s: help does not explain the fault %s", arg, kind)
			}
		}
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"verify", "--help"}, &out, &out); err != nil || strings.Contains(out.String(), "swarm run:") {
		t.Errorf("help for one command: %v, %s", err, out.String())
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	unitsDir  = "../../../infra/systemd"
	installed = "/usr/local/bin/amporactl"
)

// units are the systemd units that are shipped, by name.
func units(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(unitsDir, "*.*"))
	if err != nil || len(paths) < 6 {
		t.Fatalf("the units are %v, %v", paths, err)
	}
	found := make(map[string]string, len(paths))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(path)] = string(text)
	}
	return found
}

// TestUnitsRunWhatThereIs: each command line of ours in a unit is one that this program takes.
func TestUnitsRunWhatThereIs(t *testing.T) {
	ours := 0
	for name, text := range units(t) {
		for line := range strings.Lines(text) {
			words := strings.Fields(line)
			if len(words) == 0 || !strings.HasPrefix(words[0], "ExecStart="+installed) {
				continue
			}
			ours++
			cmd, rest, err := newProgram(Streams{}, nil).root().Find(words[1:])
			if err != nil || cmd.Name() != "renew" {
				t.Errorf("%s: %q is no command: %v", name, words, err)
				continue
			}
			if err := cmd.ParseFlags(rest); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := cmd.ValidateRequiredFlags(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if ours != 2 {
		t.Errorf("%d units run amporactl", ours)
	}
}

// TestUnitsAreUnits asks systemd, where it is.
func TestUnitsAreUnits(t *testing.T) {
	known := map[string]string{".service": "[Service]", ".timer": "[Timer]", ".path": "[Path]"}
	dir := t.TempDir()
	stand, err := os.Executable() // for a program that is not installed here
	if err != nil {
		t.Fatal(err)
	}
	var instances []string
	for name, text := range units(t) {
		if section := known[filepath.Ext(name)]; !strings.Contains(text, "\n[Unit]\n") || !strings.Contains(text, "\n"+section+"\n") {
			t.Errorf("%s has no section %s", name, section)
		}
		path := filepath.Join(dir, strings.Replace(name, "@.", "@otelcol.", 1))
		if err := os.WriteFile(path, []byte(strings.NewReplacer(installed, stand, filepath.Dir(installed)+"/ampora-validator", stand).Replace(text)), 0o600); err != nil {
			t.Fatal(err)
		}
		instances = append(instances, path)
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("there is no systemd here to ask; the sections and the command lines are checked")
		return
	}
	verify := exec.CommandContext(t.Context(), analyze, append([]string{"verify", "--recursive-errors=no", "--man=no"}, instances...)...)
	verify.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	if said, err := verify.CombinedOutput(); err != nil || strings.Contains(string(said), dir) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, said)
	}
}

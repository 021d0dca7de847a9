// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestReferenceNamesEveryCommandAndFlag(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.extra = []string{"AMPORA_SERVER=https://somewhere"} // which the reference must not depend on
		got := w.run("docs", "markdown")
		if got.code != 0 || strings.Contains(got.out, "somewhere") {
			t.Fatalf("exit %d: %s", got.code, got.errOut)
		}
		var visit func(cmd *cobra.Command)
		visit = func(cmd *cobra.Command) {
			if cmd.Hidden || cmd.Name() == "help" {
				return
			}
			if cmd.IsAvailableCommand() && cmd.HasParent() && !strings.Contains(got.out, "# "+cmd.CommandPath()+"\n\n") {
				t.Errorf("the reference lacks %s", cmd.CommandPath())
			}
			for _, below := range cmd.Commands() {
				visit(below)
			}
		}
		root := newProgram(Streams{}, nil).root()
		root.InitDefaultCompletionCmd()
		visit(root)
		for _, flag := range []string{"--allow-plaintext", "--out-dir", "--wait", "--revision"} {
			if !strings.Contains(got.out, flag+" ") {
				t.Errorf("the reference lacks %s", flag)
			}
		}
		if again := w.run("docs", "markdown"); again != got {
			t.Error("the reference differs from run to run")
		}
	})
}

func TestCompletionAndVersion(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if got := w.run("completion", "bash"); got.code != 0 || !strings.Contains(got.out, "__start_amporactl") {
			t.Errorf("completion: exit %d: %s", got.code, got.errOut)
		}
		if got := w.run("version"); got.code != 0 || !strings.HasPrefix(got.out, "amporactl ") {
			t.Errorf("version: exit %d: %q", got.code, got.out)
		}
		if got := w.run("agents", "list", "--help"); got.code != 0 || !strings.Contains(got.out, "--presence") {
			t.Errorf("help: exit %d: %q", got.code, got.out)
		}
	})
}

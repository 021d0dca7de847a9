// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGolden reads configurations as they are in the world, good and bad, and compares what is understood and found with
// the golden file beside each.
func TestGolden(t *testing.T) {
	bodies, err := filepath.Glob("testdata/configs/*.yaml")
	if err != nil || len(bodies) < 40 {
		t.Fatalf("%d configurations, %v", len(bodies), err)
	}
	for _, name := range bodies {
		t.Run(filepath.Base(name), func(t *testing.T) {
			got := told([]byte(file(t, name)))
			golden := strings.TrimSuffix(name, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := file(t, golden); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// told is all that can be said of a body.
func told(body []byte) string {
	var b strings.Builder
	c, found := Check(body)
	if c != nil {
		fmt.Fprintf(&b, "hash %s\n", c.SemanticHash())
		for _, s := range c.sections() {
			fmt.Fprintf(&b, "%s:", s.Kind.section())
			for _, component := range s.Components {
				fmt.Fprintf(&b, " %q", component.ID)
			}
			fmt.Fprintln(&b, elsewhere(s.Elsewhere))
		}
		fmt.Fprintf(&b, "enabled:%s%s\n", listed(c.Service.Extensions), elsewhere(c.Service.Elsewhere))
		for _, p := range c.Service.Pipelines {
			fmt.Fprintf(&b, "pipeline %q:%s |%s |%s%s\n", p.ID, listed(p.Receivers), listed(p.Processors), listed(p.Exporters), elsewhere(p.Elsewhere))
		}
	}
	for _, f := range found {
		fmt.Fprintf(&b, "%d:%d %s %s %s: %s\n", f.Line, f.Column, f.Severity, f.Rule, f.Path, f.Message)
	}
	return b.String()
}

func listed(m Members) string {
	var b strings.Builder
	for _, r := range m.Refs {
		fmt.Fprintf(&b, " %q", r.ID)
	}
	return b.String() + elsewhere(m.Elsewhere)
}

func elsewhere(is bool) string {
	if is {
		return " …"
	}
	return ""
}

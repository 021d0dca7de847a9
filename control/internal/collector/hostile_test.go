// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/fault"
)

// looked does everything with a body that can be done with it, and fails if what comes of it has no bound.
func looked(t *testing.T, body []byte) []Finding {
	t.Helper()
	c, found := Check(body)
	if len(found) > MaxFindings {
		t.Fatalf("%d findings", len(found))
	}
	for _, f := range found {
		if ruleOf(f.Rule).ID == "" || f.Message == "" || len(f.Message)+len(f.Path) > 4000 {
			t.Fatalf("an odd finding: %.500s", fmt.Sprintf("%+v", f))
		}
	}
	if c == nil {
		return found
	}
	if h := c.SemanticHash(); h != c.SemanticHash() || h.IsZero() {
		t.Fatal("the hash is not the same twice")
	}
	empty := parsed(t, []byte("{}"))
	for _, changes := range [][]Change{Diff(c, c), Diff(c, empty), Diff(empty, c), Drift(c, c), Drift(c, empty)} {
		if len(changes) > MaxChanges {
			t.Fatalf("%d changes", len(changes))
		}
	}
	if d := Diff(c, c); len(d) > 0 {
		t.Fatalf("it differs from itself: %+v", d)
	}
	if missing := c.Missing(build); len(missing) > MaxFindings {
		t.Fatalf("%d missing", len(missing))
	}
	return found
}

// TestHostileBodies are near the bounds of what is read, or beyond. Nothing takes long.
func TestHostileBodies(t *testing.T) {
	deep := strings.Repeat("a: {", 9000) + strings.Repeat("}", 9000)
	wide := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	pipelines := func(n int, receivers, exporters string) string {
		var b strings.Builder
		b.WriteString("receivers: {nop: }\nexporters: {nop: }\nconnectors: {forward: , forward/a: }\nservice:\n  pipelines:\n")
		for i := range n {
			fmt.Fprintf(&b, "    traces/%d: {receivers: [%s], exporters: [%s]}\n", i, receivers, exporters)
		}
		return b.String()
	}
	chain := "receivers: {nop: }\nexporters: {nop: }\nconnectors:\n" + wide(1500, "  forward/%d:\n") + "service:\n  pipelines:\n"
	for i := range 1500 {
		chain += fmt.Sprintf("    traces/%d: {receivers: [forward/%d], exporters: [forward/%d]}\n", i, i, (i+1)%1500)
	}
	for name, body := range map[string]string{
		"10 MB":                          "a: " + strings.Repeat("b", 10<<20),
		"bomb":                           bomb(9, 10),
		"half a bomb":                    "receivers:\n" + indented(bomb(5, 10)),
		"cycle":                          "a: &a [*a]\n",
		"deep":                           deep,
		"deep settings":                  "receivers: {nop: {" + strings.Repeat("a: {", 9000) + strings.Repeat("}", 9000) + "}}",
		"deep list":                      "receivers: {nop: {a: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}}",
		"wide":                           wide(3000, "k%d: v\n"),
		"wide splits":                    wide(3000, "receivers::k%d::a: v\n"),
		"one long split":                 strings.Repeat("a::", 300_000) + ": v\n",
		"many splits":                    wide(3000, strings.Repeat("a::", 30)+"k%d: v\n"),
		"components":                     "receivers:\n" + wide(3000, "  nop/%d:\n") + "exporters: {nop: }\n",
		"open references":                "receivers: {nop: {a: '" + strings.Repeat("${", 100_000) + "'}}",
		"nested references":              "receivers: {nop: {a: '" + strings.Repeat("${", 300_000) + strings.Repeat("}", 300_000) + "'}}",
		"secrets":                        "receivers: {nop: {password: '" + strings.Repeat("$ ", 300_000) + "'}}",
		"urls":                           "receivers: {nop: {a: '" + strings.Repeat("://a:b@", 100_000) + "'}}",
		"everything to one":              pipelines(1500, "forward, nop", "forward, forward/a"),
		"everything from one":            pipelines(1500, "forward, forward/a", "nop"),
		"a chain":                        chain,
		"one list":                       "receivers: {nop: }\nservice: {pipelines: {traces: {receivers: [" + strings.Repeat("nop, ", 20_000) + "], processors: [" + strings.Repeat("nop, ", 20_000) + "]}}}",
		"a long key":                     "receivers:\n  ? " + strings.Repeat("x", 1<<20) + "\n  : {b: c}\nservice:\n  extensions: [" + strings.Repeat("y", 1<<20) + "]\n",
		"odd members of a long pipeline": "service:\n  pipelines:\n    ? traces/" + strings.Repeat("x", 1<<20) + "\n    : {receivers: [" + strings.Repeat("1,", 30_000) + "], exporters: [" + strings.Repeat("a,", 30_000) + "]}\n",
		"long members behind an alias":   "x: &x " + strings.Repeat("y", 1<<20) + "\nservice: {pipelines: {traces: {receivers: [" + strings.Repeat("*x,", 200_000) + "]}}}\n",
		"some members behind an alias":   "x: &x " + strings.Repeat("y", 1<<20) + "\nservice: {pipelines: {traces: {receivers: [" + strings.Repeat("*x,", 40) + "]}}}\n",
		"connectors of a long pipeline":  "connectors: {forward: }\nservice:\n  pipelines:\n    ? traces/" + strings.Repeat("x", 1<<20) + "\n    : {receivers: [" + strings.Repeat("forward,", 20_000) + "], exporters: [" + strings.Repeat("forward,", 20_000) + "]}\n",
		"merges of merges":               merges(400),
		"not UTF-8":                      "a: \xff\n",
		"NUL":                            "a: \x00\n",
		"numbers":                        "a: [1e999999999, 0x" + strings.Repeat("f", 100_000) + ", 1:2:3, 190:20:30.15]\n",
		"pattern of a duration":          "a: " + strings.Repeat("1h", 300_000) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			looked(t, []byte(body))
			if took := time.Since(begun); took > time.Minute { // seconds at most; but other work runs beside, and races are looked for
				t.Errorf("took %s", took)
			}
		})
	}
}

func indented(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
}

// merges has mappings each of which merges the one before and adds a key.
func merges(n int) string {
	var b strings.Builder
	b.WriteString("receivers:\n  m0: &m0 {k0: v}\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "  m%d: &m%d {<<: *m%d, k%d: v}\n", i, i, i-1, i)
	}
	return b.String()
}

// TestSyntaxIsAFinding has a finding in place of each reason for which a body is refused.
func TestSyntaxIsAFinding(t *testing.T) {
	for body, rule := range map[string]string{
		"a: " + strings.Repeat("b", MaxBytes): "config-too-large",
		"a: [":                                "config-not-yaml",
		"[]":                                  "config-not-a-mapping",
	} {
		c, found := Check([]byte(body))
		if c != nil || len(found) != 1 || found[0].Rule != rule || found[0].Severity != Error {
			t.Errorf("got %+v, want %s", found, rule)
		}
		if _, err := Parse([]byte(body)); err == nil || fault.From(err).Kind != fault.Invalid {
			t.Errorf("parsed with %v", err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	seeds, err := filepath.Glob("testdata/configs/*.yaml")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("%d seeds, %v", len(seeds), err)
	}
	for _, name := range seeds {
		body, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		looked(t, body)
	})
}

// FuzzModel holds what we read to what the parser reads, and the differences of two bodies to their story.
func FuzzModel(f *testing.F) {
	f.Add([]byte(pipeline), []byte(before))
	f.Add([]byte("a: &a {b: 1}\nc: {<<: *a}\n"), []byte("receivers: {<<: {nop: }}"))
	f.Fuzz(func(t *testing.T, one, other []byte) {
		a, err := Parse(one)
		if err != nil {
			return
		}
		b, err := Parse(other)
		if err != nil {
			return
		}
		edits := compare(a.normal, b.normal)
		if got := apply(a.normal, edits); !equal(got, b.normal) {
			t.Fatalf("%+v does not lead from\n%s\nto\n%s", edits, one, other)
		}
	})
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"
)

// Every instrument is declared, once, with what the rule of package instrument asks for (which wire fails for), and has
// a section of the page; and the page is current.
func TestMetricsAreDeclared(t *testing.T) {
	catalogue, err := wire(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range catalogue.Undeclared() {
		t.Errorf("%s is made without a declaration: package instrument makes instruments", name)
	}
	declared := catalogue.Declared()
	written := page(declared)
	for i, d := range declared {
		if i > 0 && declared[i-1].Shown() == d.Shown() {
			t.Errorf("%s is declared twice", d.Shown())
		}
		if strings.Count(written, "| `"+d.Shown()+"` |") != 1 {
			t.Errorf("%s is not on the page", d.Shown())
		}
	}
	current, err := os.ReadFile("../../../../docs/reference/metrics.md")
	if err != nil || string(current) != written {
		t.Errorf("docs/reference/metrics.md is not current: make generate (%v)", err)
	}
}

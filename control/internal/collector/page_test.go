// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"strings"
	"testing"
)

// TestExpressionsOfThePage holds the page to what compiles.
func TestExpressionsOfThePage(t *testing.T) {
	_, rest, _ := strings.Cut(Reference(), "```text\n")
	text, _, _ := strings.Cut(rest, "```")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) < 2 {
		t.Fatalf("the page has the expressions %q", lines)
	}
	for _, line := range lines {
		compiled(t, line)
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"gitlab.com/ampora/ampora/shared/fault"
)

// Text is a body under the name it has in a diff.
type Text struct {
	Name string
	Body []byte
}

// longestDiff bounds what [TextDiff] returns, in bytes.
const longestDiff = 1 << 20

// TextDiff returns the unified diff of two bodies, of any kind, empty if they are the same. The search for the shortest
// one is given up after some hundred differences: the diff is right then as well, but longer. A diff of more than 1 MiB
// is cut at the end of a line and says so. Bodies longer than MaxBytes are refused with ReasonTooLarge. Secrets in the
// bodies are in the diff.
func TextDiff(from, to Text) (string, error) {
	for _, t := range []Text{from, to} {
		if len(t.Body) > MaxBytes {
			return "", fault.New(fault.Invalid, ReasonTooLarge, "%s has %d bytes, more than the %d allowed", t.Name, len(t.Body), MaxBytes)
		}
	}
	before := string(from.Body)
	diff, err := udiff.ToUnified(from.Name, to.Name, before, udiff.Lines(before, string(to.Body)), udiff.DefaultContextLines)
	if err != nil {
		return "", fmt.Errorf("collector: unified diff: %w", err)
	}
	if len(diff) > longestDiff {
		diff = diff[:strings.LastIndexByte(diff[:longestDiff], '\n')+1] + "\\ The rest of the difference is not shown\n"
	}
	return strings.ToValidUTF8(diff, "\uFFFD"), nil
}

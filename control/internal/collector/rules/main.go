// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command rules writes the reference page of the rules for configurations to the file named by its argument.
package main

import (
	"fmt"
	"os"

	"gitlab.com/ampora/ampora/control/internal/collector"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: rules FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], []byte(collector.Reference()), 0o644); err != nil { //nolint:gosec // a page for everybody
		fmt.Fprintln(os.Stderr, "rules:", err)
		os.Exit(1)
	}
}

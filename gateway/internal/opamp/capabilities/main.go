// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command capabilities writes the reference page of OpAMP capabilities to the file named by its argument.
package main

import (
	"fmt"
	"os"

	"gitlab.com/ampora/ampora/gateway/internal/opamp"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: capabilities FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], []byte(opamp.Reference()), 0o644); err != nil { //nolint:gosec // a page for everybody
		fmt.Fprintln(os.Stderr, "capabilities:", err)
		os.Exit(1)
	}
}

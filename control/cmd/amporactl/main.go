// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command amporactl is the command line of Ampora. "amporactl --help" lists what it can do; package cli tells what it
// guarantees.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"gitlab.com/ampora/ampora/control/internal/cli"
)

//go:generate sh -c "go run . docs markdown > ../../../docs/reference/cli.md"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default action is back: a second one ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Environ()))
}

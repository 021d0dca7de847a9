// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command swarm runs thousands of simulated OpAMP agents against a server, lets things go
// wrong, and compares what every agent knows of itself with what the server says of it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

//go:generate sh -c "{ echo '# swarm'; echo; echo 'Generated from `swarm --help` by `make generate`; do not edit. How to use it: [load-tests.md](../guides/load-tests.md).'; echo; echo '```text'; go run . --help; echo '```'; } > ../../../docs/reference/swarm.md"

// Exit codes.
const (
	exitFailed = 1 // something did not hold
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "swarm:", err)
	if errors.Is(err, errUsage) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailed)
}

var errUsage = errors.New("see swarm --help")

// command is one of the things that swarm can do.
type command struct {
	name, words string
	// options registers the flags of the command on o.
	options func(o *options)
	run     func(ctx context.Context, o *options) error
}

var commands = []command{
	{"enrol", "get identities for agents and keep them in a folder", (*options).enrolFlags, enrol},
	{"run", "run agents, disturb them, and tell what happened; enrols those that are missing", (*options).runFlags, runSwarm},
	{"verify", "compare what agents knew at the end of a run with what the API shows now", (*options).verifyFlags, verifyState},
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	if len(args) == 0 {
		help(progress)
		return fmt.Errorf("a command is missing: %w", errUsage)
	}
	if strings.TrimLeft(args[0], "-") == "help" || args[0] == "-h" {
		help(out)
		return nil
	}
	for _, c := range commands {
		if c.name != args[0] {
			continue
		}
		o, err := c.parse(args[1:], out, progress)
		if err != nil || o == nil {
			return err
		}
		return c.run(ctx, o)
	}
	return fmt.Errorf("there is no command %q: %w", args[0], errUsage)
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command bench measures servers of OpAMP by turns under the same load, and prints ratios.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"gitlab.com/ampora/ampora/loadtest/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	command := run
	args := os.Args[1:]
	if len(args) > 0 {
		switch args[0] {
		case "launch":
			command, args = launch, args[1:]
		case "launch-split":
			command, args = launchSplit, args[1:]
		}
	}
	if err := command(ctx, args, os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const overview = `bench measures servers of OpAMP by turns under the same load, and prints ratios.

Usage: bench --target NAME=COMMAND --target NAME=COMMAND... [--flag value]...
       bench launch --bin FILE --database URL
       bench launch-split --programs FOLDER --redis FILE --database URL

A target's COMMAND starts a server in the foreground, prints one line of JSON that says
where it is (loadtest/place), and stops on SIGTERM. It is started many times and keeps
its state in the folder that BENCH_DIR names. bin/yardstick is one; bench launch makes
one of the all-in-one program on a database of its own, bench launch-split one of a
gateway, around a Redis and a control plane. The first target is what the others are
compared with.

`

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	b := bench.Bench{Progress: os.Stderr}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), overview)
		flags.PrintDefaults()
	}
	flags.Func("target", "`NAME=COMMAND` to measure, several times", func(text string) error {
		target, err := bench.ParseTarget(text)
		b.Targets = append(b.Targets, target)
		return err
	})
	flags.IntVar(&b.Runs, "runs", 5, "how often each is measured")
	flags.IntVar(&b.Agents, "agents", 5000, "agents that are connected while memory and fan-out are measured")
	flags.IntVar(&b.FloodAgents, "flood-agents", 1000, "agents that flood; at most --agents")
	flags.DurationVar(&b.FloodTime, "flood-time", 10*time.Second, "how long a flood lasts")
	flags.DurationVar(&b.IdleTime, "idle-time", 20*time.Second, "how long connections are left alone before memory is measured")
	flags.DurationVar(&b.GCTime, "gc-time", 30*time.Second, "how long a runtime has at most to return memory after a collection")
	flags.IntVar(&b.Pushes, "pushes", 3, "how often a configuration is sent to all in each run")
	flags.IntVar(&b.PushBytes, "push-bytes", 4096, "size of that configuration")
	flags.DurationVar(&b.ApplyDelay, "apply-delay", 0, "how long agents take to apply it")
	flags.IntVar(&b.GroupSize, "group-size", 1_000_000, "how many agents one rollout is for")
	gogc := flags.String("gogc", "100", "GOGC of all targets")
	memlimit := flags.String("gomemlimit", "off", "GOMEMLIMIT of all targets")
	report := flags.String("report", "", "`file` to write everything to, in JSON")
	table := flags.String("table", "", "`file` to write a table to, in Markdown")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b.FloodAgents = min(b.FloodAgents, b.Agents)
	b.Env = []string{"GOGC=" + *gogc, "GOMEMLIMIT=" + *memlimit}
	if b.Dir, err = os.MkdirTemp("", "ampora-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.Dir)) }()
	result, err := b.Run(ctx)
	if err != nil {
		return err
	}
	text := result.Markdown(b.Targets)
	fmt.Fprint(out, text)
	return errors.Join(write(*table, []byte(text)), writeJSON(*report, result))
}

func writeJSON(path string, result *bench.Result) error {
	text, err := json.MarshalIndent(result, "", "  ")
	return errors.Join(err, write(path, append(text, '\n')))
}

func write(path string, text []byte) error {
	if path == "" {
		return nil
	}
	return os.WriteFile(path, text, 0o644) //nolint:gosec // figures, for anybody to read
}

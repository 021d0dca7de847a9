// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command ampora is the whole of Ampora in one process: gateway, control plane and certificate authority around an
// in-process bus. With SQLite it is for trying and developing; with PostgreSQL it is a production shape for a single
// instance.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/ops"
)

const about = `ampora is the whole of Ampora in one process.

Usage: ampora [--help | --version]

It takes no arguments; it is configured by these variables, of which none is
required in development:

`

//go:generate sh -c "{ echo '# Configuration of ampora'; echo; echo 'Generated from `ampora --help` by `make generate`; do not edit.'; echo; echo '```text'; go run . --help; echo '```'; } > ../../../docs/reference/config-ampora.md"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default action is back: a second one ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(start(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// start is the program: its exit code is 0 after an orderly stop, 2 for a wrong configuration, 1 for anything else.
func start(ctx context.Context, args, environ []string, out, errs io.Writer) int {
	switch {
	case len(args) == 1 && (args[0] == "--help" || args[0] == "-h" || args[0] == "help"):
		fmt.Fprint(out, about, conf.Usage[Config]())
		return 0
	case len(args) == 1 && (args[0] == "--version" || args[0] == "version"):
		fmt.Fprintln(out, ops.Version())
		return 0
	case len(args) > 0:
		fmt.Fprintf(errs, "ampora: it takes no arguments, but got %q; see ampora --help\n", args)
		return 2
	}
	config, notes, err := conf.Load[Config](environ)
	if err != nil {
		fmt.Fprintln(errs, "ampora:", err)
		return 2
	}
	if err := errors.Join(config.prepare(), config.Control.Check(config.Mode, config.sharedPort())); err != nil {
		fmt.Fprintln(errs, "ampora:", err)
		return 2
	}
	telemetry, err := ops.Open(config.Ops, ops.Program{Name: "ampora", Instance: config.Gateway.GatewayID}, errs)
	if err != nil {
		fmt.Fprintln(errs, "ampora:", err)
		return 2
	}
	defer telemetry.Close()
	log := telemetry.Log
	for _, note := range notes {
		log.WarnContext(ctx, "configuration", slog.String("note", note))
	}
	if err := serve(ctx, config, telemetry); err != nil {
		log.ErrorContext(ctx, "ampora stopped", slog.Any("error", err))
		fmt.Fprintln(errs, "ampora:", err)
		return 1
	}
	log.InfoContext(ctx, "ampora stopped in order")
	return 0
}

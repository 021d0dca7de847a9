// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command ampora-gateway is a gateway of its own, apart from the control plane: agents
// connect to it, and it reaches the control plane over the internal service and the bus.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"gitlab.com/ampora/ampora/gateway"
	"gitlab.com/ampora/ampora/shared/backplane"
	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/ops"
	"gitlab.com/ampora/ampora/shared/run"
)

// config is the configuration of the program.
type config struct {
	Gateway gateway.Config
	Joining gateway.Joining
	Bus     backplane.Config
	Ops     ops.Config
}

// Validate says what is wrong or contradictory.
func (c *config) Validate() error {
	return errors.Join(c.Gateway.Validate(), c.Joining.Validate(), c.Bus.Validate())
}

//go:generate sh -c "{ echo '# Configuration of ampora-gateway'; echo; echo 'Generated from `ampora-gateway --help` by `make generate`; do not edit.'; echo; echo '```text'; go run . --help; echo '```'; } > ../../../docs/reference/config-ampora-gateway.md"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := start(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ampora-gateway:", err)
		os.Exit(1)
	}
}

// start is the program as a value: what it is given is all it uses.
func start(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		return inform(args, stdout)
	}
	c, notes, err := conf.Load[config](environ)
	if err != nil {
		return err
	}
	log := ops.NewLogger(stderr, c.Ops.LogLevel, c.Ops.LogFormat)
	for _, note := range notes {
		log.WarnContext(ctx, "about the configuration", "note", note)
	}
	return serve(ctx, c, log)
}

func inform(args []string, stdout io.Writer) error {
	switch args[0] {
	case "--version":
		_, err := fmt.Fprintln(stdout, "ampora-gateway", ops.Version())
		return err
	case "--help", "-h":
		_, err := fmt.Fprintf(stdout, "ampora-gateway terminates OpAMP for agents. It is configured by its environment:\n\n%s", conf.Usage[config]())
		return err
	default:
		return fmt.Errorf("%q is not an option; there are --help and --version, all else is in the environment", args[0])
	}
}

// serve joins, wires the parts and runs them until ctx is done: agents are let go first, what was published on their
// behalf is flushed, and the operations listener goes last.
func serve(ctx context.Context, c config, log *slog.Logger) error {
	registry := ops.NewRegistry()
	meters, err := ops.NewMeterProvider(registry)
	if err != nil {
		return err
	}
	defer func() { _ = meters.Shutdown(context.WithoutCancel(ctx)) }()
	member, err := gateway.Join(ctx, c.Joining, log, time.Now)
	if err != nil {
		return err
	}
	c.Gateway.GatewayID = string(member.ID())
	messages, err := c.Bus.Open(ctx, member.ID(), conf.Secret{}, log)
	if err != nil {
		return err
	}
	defer func() { _ = messages.Close() }()
	g, err := gateway.New(c.Gateway, gateway.Deps{
		Control: member.Control(), Bus: messages, Log: log,
		Meter: meters.Meter("gitlab.com/ampora/ampora/gateway"), Clock: time.Now, Version: ops.Version().Version,
	})
	if err != nil {
		return err
	}
	operations, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Ops.Addr)
	if err != nil {
		return fmt.Errorf("AMPORA_OPS_ADDR: %w", err)
	}
	log.InfoContext(ctx, "serving agents", "gateway", member.ID(), "address", g.Addr().String(), "operations", operations.Addr().String())
	options := ops.Options{Registry: registry, Log: log, Checks: []ops.Check{{Name: "gateway", Probe: g.Ready}}}
	return run.Phases(ctx,
		[]run.Task{{Name: "gateway", Run: g.Run}},
		[]run.Task{
			{Name: "identity", Run: member.Run},
			{Name: "operations", Run: func(ctx context.Context) error { return ops.Serve(ctx, operations, options) }},
		},
	)
}

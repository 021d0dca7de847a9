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
	"os"
	"os/signal"
	"syscall"
	"time"

	"gitlab.com/ampora/ampora/gateway"
	"gitlab.com/ampora/ampora/shared/backplane"
	"gitlab.com/ampora/ampora/shared/bus/measured"
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
	return errors.Join(c.Gateway.Validate(), c.Joining.Validate(), c.Bus.Validate(), c.Ops.Validate())
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
	// Joining gives the gateway the name under which it tells of itself; until then it has a log alone.
	member, err := gateway.Join(ctx, c.Joining, log, time.Now)
	if err != nil {
		return err
	}
	c.Gateway.GatewayID = string(member.ID())
	telemetry, err := ops.Open(c.Ops, ops.Program{Name: "ampora-gateway", Instance: c.Gateway.GatewayID}, stderr)
	if err != nil {
		return err
	}
	defer telemetry.Close()
	return serve(ctx, c, member, telemetry)
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

// serve wires the parts and runs them until ctx is done: agents are let go first, what was published on their behalf is
// flushed, and the operations listener goes last.
func serve(ctx context.Context, c config, member *gateway.Member, telemetry *ops.Telemetry) error {
	log := telemetry.Log
	calls, err := gateway.ObserveCalls(telemetry.Tracer, telemetry.Meter)
	if err != nil {
		return err
	}
	member.Observe(log, calls)
	opened, err := c.Bus.Open(ctx, member.ID(), conf.Secret{}, log)
	if err != nil {
		return err
	}
	defer func() { _ = opened.Close() }()
	messages, err := measured.New(opened, telemetry.Meter)
	if err != nil {
		return err
	}
	g, err := gateway.New(c.Gateway, gateway.Deps{
		Control: member.Control(), Bus: messages, Log: log, Meter: telemetry.Meter, Tracer: telemetry.Tracer, Clock: time.Now,
		Version: ops.Version().Version,
	})
	if err != nil {
		return err
	}
	addr, operations, err := telemetry.Listen(ctx, ops.Check{Name: "gateway", Probe: g.Ready})
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "serving agents", "gateway", member.ID(), "address", g.Addr().String(), "operations", addr.String())
	return run.Phases(ctx,
		[]run.Task{{Name: "gateway", Run: g.Run}},
		[]run.Task{{Name: "identity", Run: member.Run}, operations},
	)
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/ampora/ampora/control"
	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/ops"
	"gitlab.com/ampora/ampora/shared/run"
)

// serve reads the configuration and runs the control plane until it is told to stop.
func serve(c *cobra.Command, environ []string) error {
	config, notes, err := conf.Load[Config](environ)
	if err != nil {
		return fmt.Errorf("%w%w", errConfig, err)
	}
	if err := errors.Join(config.Control.Check(config.Mode, false), config.checkServing()); err != nil {
		return fmt.Errorf("%w%w", errConfig, err)
	}
	log := ops.NewLogger(c.ErrOrStderr(), config.Ops.LogLevel, config.Ops.LogFormat)
	for _, note := range notes {
		log.WarnContext(c.Context(), "configuration", slog.String("note", note))
	}
	if err := serveControl(c.Context(), config, log); err != nil {
		log.ErrorContext(c.Context(), "ampora-control stopped", slog.Any("error", err))
		return err
	}
	log.InfoContext(c.Context(), "ampora-control stopped in order")
	return nil
}

// checkServing refuses what serving needs and the other commands do not.
func (c *Config) checkServing() error {
	var problems []error
	if c.Bus.URL.IsZero() {
		problems = append(problems, errors.New("AMPORA_BUS_URL is required: redis://, rediss:// or postgres"))
	}
	if c.Control.Internal.Addr == "" {
		problems = append(problems, errors.New("AMPORA_INTERNAL_ADDR is required: gateways call the control plane there"))
	}
	return errors.Join(problems...)
}

// serveControl wires the parts and runs them until ctx is done: the API stops first, then what records, decides and
// sends, then what gateways call, and last the operations listener and the database.
func serveControl(ctx context.Context, config Config, log *slog.Logger) (err error) {
	registry := ops.NewRegistry()
	meters, err := ops.NewMeterProvider(registry)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	defer func() { _ = meters.Shutdown(context.WithoutCancel(ctx)) }()
	bus, err := config.Bus.Open(ctx, "", config.Control.Database.URL, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bus.Close()) }()
	plane, err := control.Open(ctx, config.Control, control.Deps{
		Mode: config.Mode, Bus: bus, Log: log, Meter: meters.Meter("ampora-control"), Now: time.Now,
		Version: ops.Version().Version, OpAMPURL: config.OpAMPURL,
	})
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the operator already
	}
	defer func() { err = errors.Join(err, plane.Close()) }()
	operations, err := new(net.ListenConfig).Listen(ctx, "tcp", config.Ops.Addr)
	if err != nil {
		return fmt.Errorf("AMPORA_OPS_ADDR: %w", err)
	}
	options := ops.Options{Registry: registry, Log: log, Checks: []ops.Check{{Name: "database", Probe: plane.Ready}, {Name: "bus", Probe: bus.Check}}}
	log.InfoContext(ctx, "ampora-control starts", "mode", string(config.Mode), "version", ops.Version().Version, "ops", operations.Addr().String())
	return run.Phases(ctx, //nolint:wrapcheck // names what failed
		plane.Intake(),
		plane.Loops(),
		[]run.Task{plane.Service()},
		[]run.Task{{Name: "operations", Run: func(ctx context.Context) error { return ops.Serve(ctx, operations, options) }}},
	)
}

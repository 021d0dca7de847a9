// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/ampora/ampora/control"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/drivers"
	"gitlab.com/ampora/ampora/shared/bus/measured"
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
	if err := errors.Join(config.Control.Check(config.Mode, false), config.Control.PKI.CheckKeyServices(drivers.All()), config.checkServing()); err != nil {
		return fmt.Errorf("%w%w", errConfig, err)
	}
	process := control.ProcessName()
	telemetry, err := ops.Open(config.Ops, ops.Program{Name: "ampora-control", Instance: process}, c.ErrOrStderr())
	if err != nil {
		return fmt.Errorf("%w%w", errConfig, err)
	}
	defer telemetry.Close()
	log := telemetry.Log
	for _, note := range notes {
		log.WarnContext(c.Context(), "configuration", slog.String("note", note))
	}
	if err := serveControl(c.Context(), config, process, telemetry); err != nil {
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
func serveControl(ctx context.Context, config Config, process string, telemetry *ops.Telemetry) (err error) {
	log := telemetry.Log
	opened, err := config.Bus.Open(ctx, "", config.Control.Database.URL, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	bus, err := measured.New(opened, telemetry.Meter)
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	plane, err := control.Open(ctx, config.Control, control.Deps{
		Mode: config.Mode, Process: process, Bus: bus, Log: log, Meter: telemetry.Meter, Tracer: telemetry.Tracer, Now: time.Now,
		Version: ops.Version().Version, OpAMPURL: config.OpAMPURL, KeyServices: drivers.All(),
	})
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the operator already
	}
	defer func() { err = errors.Join(err, plane.Close()) }()
	addr, operations, err := telemetry.Listen(ctx, ops.Check{Name: "database", Probe: plane.Ready}, ops.Check{Name: "bus", Probe: opened.Check})
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the operator already
	}
	log.InfoContext(ctx, "ampora-control starts", "mode", string(config.Mode), "version", ops.Version().Version, "ops", addr.String())
	return run.Phases(ctx, //nolint:wrapcheck // names what failed
		plane.Intake(),
		plane.Loops(),
		[]run.Task{plane.Service()},
		[]run.Task{operations},
	)
}

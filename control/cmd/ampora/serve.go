// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gitlab.com/ampora/ampora/control"
	"gitlab.com/ampora/ampora/gateway"
	"gitlab.com/ampora/ampora/shared/bus/inproc"
	"gitlab.com/ampora/ampora/shared/bus/measured"
	"gitlab.com/ampora/ampora/shared/ops"
	"gitlab.com/ampora/ampora/shared/run"
)

// serve wires the parts and runs them until ctx is done: agents and API stop first, then what records, decides and
// sends, and last the operations listener and the database.
func serve(ctx context.Context, config Config, telemetry *ops.Telemetry) (err error) {
	log := telemetry.Log
	if config.Migrate {
		done, err := control.Migrate(ctx, config.Control.Database, log)
		for _, m := range done {
			log.InfoContext(ctx, "migrated the database", "migration", m.Name)
		}
		if err != nil {
			return err //nolint:wrapcheck // a sentence for the operator already
		}
	}
	bus, err := measured.New(inproc.New(inproc.Options{}), telemetry.Meter)
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	defer func() { _ = bus.Close() }()

	plane, err := control.Open(ctx, config.Control, control.Deps{
		Mode: config.Mode, Bus: bus, Log: log, Meter: telemetry.Meter, Tracer: telemetry.Tracer, Now: time.Now, Version: ops.Version().Version,
		OpAMPURL: config.Gateway.Endpoint(), SharedPort: config.sharedPort(),
		DevelopmentLogin: config.Mode == control.Development,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Close()) }()

	calls, err := gateway.ObserveCalls(telemetry.Tracer, telemetry.Meter)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	deps := gateway.Deps{
		Control: plane.Gateways(calls), Bus: bus, Log: log, Meter: telemetry.Meter, Tracer: telemetry.Tracer, Clock: time.Now, Version: ops.Version().Version,
	}
	if config.sharedPort() {
		deps.Other = plane.Handler()
	}
	if config.Mode == control.Development && config.Gateway.TLSCertFile == "" {
		if err := ownCertificate(ctx, config, plane, &deps); err != nil {
			return err
		}
	}
	agents, err := gateway.New(config.Gateway, deps)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	addr, operations, err := telemetry.Listen(ctx, ops.Check{Name: "database", Probe: plane.Ready}, ops.Check{Name: "gateway", Probe: agents.Ready})
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the operator already
	}
	log.InfoContext(ctx, "ampora starts", "mode", string(config.Mode), "version", ops.Version().Version, "opamp", agents.Addr().String(), "ops", addr.String())
	return run.Phases(ctx,
		append(plane.Intake(), run.Task{Name: "gateway", Run: agents.Run}),
		plane.Loops(),
		[]run.Task{operations},
	)
}

// ownCertificate gives the development listener a certificate of its own root, and puts that root where agents can be
// pointed at it.
func ownCertificate(ctx context.Context, config Config, plane *control.Control, deps *gateway.Deps) error {
	dns, ips := config.names()
	certificate, ca, err := plane.DevelopmentCertificate(ctx, dns, ips)
	if err != nil {
		return err
	}
	path := filepath.Join(config.DataDir, "server-ca.pem")
	if err := os.WriteFile(path, ca, 0o644); err != nil { //nolint:gosec // a public certificate
		return fmt.Errorf("the server's CA in AMPORA_DATA_DIR: %w", err)
	}
	deps.Certificate, deps.ServerCA = certificate, ca
	return nil
}

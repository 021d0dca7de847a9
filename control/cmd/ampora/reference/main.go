// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command reference writes the reference page of metrics to the file named by its argument. It wires the whole of ampora
// as ampora does, on a meter that keeps what is declared and measures nothing, so that no instrument can be forgotten.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"gitlab.com/ampora/ampora/control"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/gateway"
	"gitlab.com/ampora/ampora/shared/bus/inproc"
	"gitlab.com/ampora/ampora/shared/bus/measured"
	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/instrument"
	"gitlab.com/ampora/ampora/shared/ops/otlp"
)

//go:generate go run . ../../../../docs/reference/metrics.md

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: reference FILE")
		os.Exit(2)
	}
	if err := write(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func write(ctx context.Context, file string) error {
	dir, err := os.MkdirTemp("", "ampora-reference-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	catalogue, err := wire(ctx, dir)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(page(catalogue.Declared())), 0o644) //nolint:gosec // a page for everybody
}

// config is what the wiring is configured by, read as programs read theirs.
type config struct {
	Control control.Config
	Gateway gateway.Config
}

// wire makes both halves with what connects them, and returns what they declared. Nothing of it runs.
func wire(ctx context.Context, dir string) (*instrument.Catalogue, error) {
	catalogue, log, tracer := &instrument.Catalogue{}, slog.New(slog.DiscardHandler), noop.Tracer{}
	c, _, err := conf.Load[config]([]string{
		"AMPORA_DATABASE_URL=sqlite:" + filepath.Join(dir, "ampora.db"), "AMPORA_MASTER_KEY=" + seal.NewMasterKey().Base64(),
		"AMPORA_TRUST_DOMAIN=example.org", "AMPORA_OPAMP_ADDR=127.0.0.1:0", "AMPORA_OPAMP_PUBLIC_URL=wss://example.org/v1/opamp",
	})
	if err != nil {
		return nil, err
	}
	if err := otlp.Declare(catalogue, func(instrument.Observe) {}); err != nil {
		return nil, err
	}
	bus, err := measured.New(inproc.New(inproc.Options{}), catalogue)
	if err != nil {
		return nil, err
	}
	if _, err := control.Migrate(ctx, c.Control.Database, log); err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	plane, err := control.Open(ctx, c.Control, control.Deps{
		Mode: control.Development, Bus: bus, Log: log, Meter: catalogue, Tracer: tracer, Now: time.Now,
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = plane.Close() }()
	calls, err := gateway.ObserveCalls(tracer, catalogue)
	if err != nil {
		return nil, err
	}
	_, err = gateway.New(c.Gateway, gateway.Deps{
		Control: plane.Gateways(calls), Bus: bus, Log: log, Meter: catalogue, Clock: time.Now,
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil },
	})
	return catalogue, err
}

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
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"gitlab.com/ampora/ampora/gateway"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/bus/measured"
	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/ops"
	"gitlab.com/ampora/ampora/shared/run"
)

// maxResponse bounds what control may answer in bytes: a configuration of 8 MiB and what surrounds it.
const maxResponse = 16 << 20

// config is the configuration of the program.
type config struct {
	gateway.Config
	ControlURL string      `env:"AMPORA_CONTROL_URL,required" help:"Address of the control plane's internal service, https://host:port."`
	BusURL     conf.Secret `env:"AMPORA_BUS_URL,required" help:"The bus, redis://, rediss:// or postgres, the same as the control plane's."`
	Ops        ops.Config
}

// Validate says what is wrong or contradictory.
func (c config) Validate() error {
	errs := []error{c.Config.Validate(), c.Ops.Validate()}
	if u, err := url.Parse(c.ControlURL); err != nil || u.Host == "" || u.Scheme != "https" {
		errs = append(errs, errors.New("AMPORA_CONTROL_URL must be an https:// address"))
	}
	return errors.Join(errs...)
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
	telemetry, err := ops.Open(c.Ops, ops.Program{Name: "ampora-gateway", Instance: c.GatewayID}, stderr)
	if err != nil {
		return err
	}
	defer telemetry.Close()
	for _, note := range notes {
		telemetry.Log.WarnContext(ctx, "about the configuration", "note", note)
	}
	messages, err := openBus(c.BusURL)
	if err != nil {
		return err
	}
	defer func() { _ = messages.Close() }()
	return serve(ctx, c, messages, telemetry)
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

// openBus opens the bus of the address.
func openBus(address conf.Secret) (bus.Bus, error) { //nolint:unparam // until one of them is built
	scheme, _, _ := strings.Cut(address.Reveal(), ":")
	switch scheme {
	case "redis", "rediss", "postgres":
		return nil, fmt.Errorf("AMPORA_BUS_URL: the %s bus is not built yet; run `ampora`, which has gateway and control plane in one process", scheme)
	case "inproc":
		return nil, errors.New("AMPORA_BUS_URL: inproc reaches no other process; it is for `ampora` alone")
	default:
		return nil, errors.New("AMPORA_BUS_URL must be redis://, rediss:// or postgres")
	}
}

func serve(ctx context.Context, c config, messages bus.Bus, telemetry *ops.Telemetry) error {
	log := telemetry.Log
	observed, err := measured.New(messages, telemetry.Meter)
	if err != nil {
		return err
	}
	calls, err := gateway.ObserveCalls(telemetry.Tracer, telemetry.Meter)
	if err != nil {
		return err
	}
	transport := connecthttp.NewTransport(http.DefaultClient, c.ControlURL, connecthttp.WithReadMaxBytes(maxResponse))
	g, err := gateway.New(c.Config, gateway.Deps{
		Control: internalv1connect.NewGatewayServiceClient(connect.NewClient(transport, calls)),
		Bus:     observed, Log: log, Meter: telemetry.Meter, Tracer: telemetry.Tracer, Clock: time.Now,
		Version: ops.Version().Version,
	})
	if err != nil {
		return err
	}
	operations, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Ops.Addr)
	if err != nil {
		return fmt.Errorf("AMPORA_OPS_ADDR: %w", err)
	}
	log.InfoContext(ctx, "serving agents", "address", g.Addr().String(), "operations", operations.Addr().String())
	options := ops.Options{Registry: telemetry.Registry, Log: log, Checks: []ops.Check{{Name: "gateway", Probe: g.Ready}}}
	return run.Phases(ctx,
		[]run.Task{{Name: "gateway", Run: g.Run}},
		[]run.Task{{Name: "operations", Run: func(ctx context.Context) error { return ops.Serve(ctx, operations, options) }}},
	)
}

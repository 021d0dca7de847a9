// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/shared/ops/otlp"
	"gitlab.com/ampora/ampora/shared/run"
)

// Program says who tells.
type Program struct {
	Name string // ampora-gateway
	// Instance tells this process from others of the program; no two share one.
	Instance string
}

// Telemetry is what a program tells of itself: a log, metrics and traces. Make one with [Open].
type Telemetry struct {
	Log      *slog.Logger
	Registry *prometheus.Registry // of /metrics
	Meter    metric.Meter
	Tracer   trace.Tracer

	addr string
	ends []func(context.Context)
}

// scope is what metrics and traces are said to come from.
const scope = "gitlab.com/ampora/ampora"

// flushTime is how long a program waits at its end for the receiver to take what it told last.
const flushTime = 3 * time.Second

// Open makes the telemetry of a program: the log goes to w and metrics to the registry in any case, and all of it to
// the OTLP receiver if there is one. Whether that is there, and how fast it is, never matters to the program.
func Open(config Config, program Program, w io.Writer) (*Telemetry, error) {
	t := &Telemetry{Log: NewLogger(w, config.LogLevel, config.LogFormat), Registry: NewRegistry(), addr: config.Addr}
	about, err := describe(program)
	if err != nil {
		return nil, err
	}
	var processors []sdktrace.SpanProcessor
	meters := []sdkmetric.Option{sdkmetric.WithResource(about)}
	var client *otlp.Client
	if config.OTLP.On() {
		if client, err = otlp.New(config.OTLP, about, t.Log); err != nil {
			return nil, err
		}
		processors = append(processors, client.Spans())
		meters = append(meters, sdkmetric.WithReader(client.Metrics()))
		logs := client.Logs(config.LogLevel)
		t.Log = slog.New(slog.NewMultiHandler(t.Log.Handler(), logs))
		t.ends = append(t.ends, logs.Close)
	}
	tracers := newTracerProvider(about, config.TraceRatio, processors...)
	provider, err := NewMeterProvider(t.Registry, meters...)
	if err != nil {
		return nil, err
	}
	t.ends = append(t.ends,
		func(ctx context.Context) { _ = tracers.Shutdown(ctx) }, // what it could not send is counted
		func(ctx context.Context) { _ = provider.Shutdown(ctx) })
	t.Tracer, t.Meter = tracers.Tracer(scope), provider.Meter(scope)
	if client != nil {
		err = client.Measure(t.Meter)
	}
	return t, err
}

// describe is the resource of a program (semantic conventions, "Service"). What OTEL_RESOURCE_ATTRIBUTES says is part
// of it: whoever starts the program may know more of where it runs.
func describe(program Program) (*resource.Resource, error) {
	build := Version()
	ours := resource.NewSchemaless(
		attribute.String(string(semconv.ServiceNamespaceKey), "ampora"), semconv.ServiceName(program.Name),
		semconv.ServiceInstanceID(program.Instance), semconv.ServiceVersion(build.Version),
	)
	about, err := resource.Merge(resource.Environment(), ours)
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return about, nil
}

// Listen opens the operations listener and returns the task that serves it. The checks are those of /health/ready.
func (t *Telemetry) Listen(ctx context.Context, checks ...Check) (net.Addr, run.Task, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", t.addr)
	if err != nil {
		return nil, run.Task{}, fmt.Errorf("AMPORA_OPS_ADDR: %w", err)
	}
	options := Options{Registry: t.Registry, Log: t.Log, Checks: checks}
	return listener.Addr(), run.Task{Name: "operations", Run: func(ctx context.Context) error { return Serve(ctx, listener, options) }}, nil
}

// Close sends what was told and is not sent yet, within a few seconds. It comes after everything else: what is told
// later goes nowhere but to the log's writer.
func (t *Telemetry) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	var ending sync.WaitGroup
	for _, end := range t.ends {
		ending.Go(func() { end(ctx) })
	}
	ending.Wait()
}

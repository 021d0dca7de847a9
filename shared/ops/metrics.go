// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// NewRegistry makes a registry that has what every program of ours shows: the Go
// runtime, the process, and ampora_build_info, which is always 1 and carries the
// build in its labels.
func NewRegistry() *prometheus.Registry {
	build := Version()
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "ampora_build_info",
			Help:        "The build of this program, in labels; always 1.",
			ConstLabels: prometheus.Labels{"version": build.Version, "revision": build.Revision, "goversion": build.Go},
		}, func() float64 { return 1 }),
	)
	return registry
}

// NewMeterProvider makes the provider whose instruments show in the registry.
// Parts of a program get a metric.Meter of it and never a global one. More readers,
// such as one that pushes by OTLP, may be given as options. The owner calls
// Shutdown.
//
// Metric names are the instruments' in Prometheus' form, without a prefix and
// without labels for the scope.
func NewMeterProvider(registry *prometheus.Registry, options ...sdkmetric.Option) (*sdkmetric.MeterProvider, error) {
	exporter, err := otelprometheus.New(
		otelprometheus.WithRegisterer(registry),
		otelprometheus.WithoutScopeInfo(),
		otelprometheus.WithoutTargetInfo(),
	)
	if err != nil {
		return nil, fmt.Errorf("export metrics to the registry: %w", err)
	}
	return sdkmetric.NewMeterProvider(append([]sdkmetric.Option{sdkmetric.WithReader(exporter)}, options...)...), nil
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package instrument

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// Seconds are the buckets of durations: from what a call in memory takes to what nobody waits for.
var Seconds = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// Sizes are the buckets of how many there were at once.
var Sizes = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}

// Counter only grows. Make one with [Set.Counter].
type Counter struct {
	counter metric.Int64Counter
	series  *series
}

// Counter declares and makes a counter.
func (s *Set) Counter(name, unit, help string, labels ...Label) Counter {
	s.declare(Declaration{Kind: KindCounter, Name: name, Unit: unit, Help: help, Labels: labels})
	counter, err := s.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(help))
	s.note(err)
	return Counter{counter: counter, series: newSeries(labels)}
}

// Add counts n under the values of the labels, in the order in which they were declared.
func (c Counter) Add(ctx context.Context, n int64, values ...string) {
	c.counter.Add(ctx, n, c.series.of(values).add...)
}

// Histogram keeps how often values fell into its buckets. Make one with [Set.Histogram].
type Histogram struct {
	histogram metric.Float64Histogram
	series    *series
}

// Histogram declares and makes a histogram.
func (s *Set) Histogram(name, unit, help string, buckets []float64, labels ...Label) Histogram {
	s.declare(Declaration{Kind: KindHistogram, Name: name, Unit: unit, Help: help, Labels: labels, Buckets: buckets})
	histogram, err := s.meter.Float64Histogram(name,
		metric.WithUnit(unit), metric.WithDescription(help), metric.WithExplicitBucketBoundaries(buckets...))
	s.note(err)
	return Histogram{histogram: histogram, series: newSeries(labels)}
}

// Record keeps a value under the values of the labels, in the order in which they were declared.
func (h Histogram) Record(ctx context.Context, value float64, values ...string) {
	h.histogram.Record(ctx, value, h.series.of(values).record...)
}

// Took records a duration in seconds; none that is negative because a clock was set meanwhile.
func (h Histogram) Took(ctx context.Context, d time.Duration, values ...string) {
	h.Record(ctx, max(0, d).Seconds(), values...)
}

// Observe tells what an observed instrument is now, under the values of its labels.
type Observe func(value float64, values ...string)

// Gauge declares a value that goes up and down. read is called whenever somebody looks, at any time and from any
// goroutine, and must return at once; what it does not observe is not shown.
func (s *Set) Gauge(name, unit, help string, read func(Observe), labels ...Label) {
	s.declare(Declaration{Kind: KindGauge, Name: name, Unit: unit, Help: help, Labels: labels})
	_, err := s.meter.Float64ObservableGauge(name,
		metric.WithUnit(unit), metric.WithDescription(help), metric.WithFloat64Callback(observing(newSeries(labels), read)))
	s.note(err)
}

// Total declares a counter that somebody else counts; read is as for [Set.Gauge].
func (s *Set) Total(name, unit, help string, read func(Observe), labels ...Label) {
	s.declare(Declaration{Kind: KindCounter, Name: name, Unit: unit, Help: help, Labels: labels})
	_, err := s.meter.Float64ObservableCounter(name,
		metric.WithUnit(unit), metric.WithDescription(help), metric.WithFloat64Callback(observing(newSeries(labels), read)))
	s.note(err)
}

func observing(series *series, read func(Observe)) metric.Float64Callback {
	return func(_ context.Context, o metric.Float64Observer) error {
		read(func(value float64, values ...string) { o.Observe(value, series.of(values).observe...) })
		return nil
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package instrument

import (
	"cmp"
	"slices"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Catalogue is a meter that measures nothing and keeps what was declared on it. Parts of a program are given one in
// place of their meter to learn what they measure. It is for one goroutine.
type Catalogue struct {
	noop.Meter
	declared []Declaration
	made     []string
}

// Declared returns the declarations by name.
func (c *Catalogue) Declared() []Declaration {
	return slices.SortedFunc(slices.Values(c.declared), func(a, b Declaration) int { return cmp.Compare(a.Shown(), b.Shown()) })
}

// Undeclared returns the names of instruments that were made without a declaration, past this package.
func (c *Catalogue) Undeclared() []string {
	return slices.DeleteFunc(slices.Sorted(slices.Values(c.made)), func(name string) bool {
		return slices.ContainsFunc(c.declared, func(d Declaration) bool { return d.Name == name })
	})
}

func (c *Catalogue) declare(d Declaration) { c.declared = append(c.declared, d) }

func (c *Catalogue) note(name string) { c.made = append(c.made, name) }

// The methods of [metric.Meter] note the instrument's name.

// Int64Counter implements [metric.Meter].
func (c *Catalogue) Int64Counter(name string, o ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	c.note(name)
	return c.Meter.Int64Counter(name, o...)
}

// Int64UpDownCounter implements [metric.Meter].
func (c *Catalogue) Int64UpDownCounter(name string, o ...metric.Int64UpDownCounterOption) (metric.Int64UpDownCounter, error) {
	c.note(name)
	return c.Meter.Int64UpDownCounter(name, o...)
}

// Int64Histogram implements [metric.Meter].
func (c *Catalogue) Int64Histogram(name string, o ...metric.Int64HistogramOption) (metric.Int64Histogram, error) {
	c.note(name)
	return c.Meter.Int64Histogram(name, o...)
}

// Int64Gauge implements [metric.Meter].
func (c *Catalogue) Int64Gauge(name string, o ...metric.Int64GaugeOption) (metric.Int64Gauge, error) {
	c.note(name)
	return c.Meter.Int64Gauge(name, o...)
}

// Int64ObservableCounter implements [metric.Meter].
func (c *Catalogue) Int64ObservableCounter(name string, o ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	c.note(name)
	return c.Meter.Int64ObservableCounter(name, o...)
}

// Int64ObservableUpDownCounter implements [metric.Meter].
func (c *Catalogue) Int64ObservableUpDownCounter(name string, o ...metric.Int64ObservableUpDownCounterOption) (metric.Int64ObservableUpDownCounter, error) {
	c.note(name)
	return c.Meter.Int64ObservableUpDownCounter(name, o...)
}

// Int64ObservableGauge implements [metric.Meter].
func (c *Catalogue) Int64ObservableGauge(name string, o ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	c.note(name)
	return c.Meter.Int64ObservableGauge(name, o...)
}

// Float64Counter implements [metric.Meter].
func (c *Catalogue) Float64Counter(name string, o ...metric.Float64CounterOption) (metric.Float64Counter, error) {
	c.note(name)
	return c.Meter.Float64Counter(name, o...)
}

// Float64UpDownCounter implements [metric.Meter].
func (c *Catalogue) Float64UpDownCounter(name string, o ...metric.Float64UpDownCounterOption) (metric.Float64UpDownCounter, error) {
	c.note(name)
	return c.Meter.Float64UpDownCounter(name, o...)
}

// Float64Histogram implements [metric.Meter].
func (c *Catalogue) Float64Histogram(name string, o ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	c.note(name)
	return c.Meter.Float64Histogram(name, o...)
}

// Float64Gauge implements [metric.Meter].
func (c *Catalogue) Float64Gauge(name string, o ...metric.Float64GaugeOption) (metric.Float64Gauge, error) {
	c.note(name)
	return c.Meter.Float64Gauge(name, o...)
}

// Float64ObservableCounter implements [metric.Meter].
func (c *Catalogue) Float64ObservableCounter(name string, o ...metric.Float64ObservableCounterOption) (metric.Float64ObservableCounter, error) {
	c.note(name)
	return c.Meter.Float64ObservableCounter(name, o...)
}

// Float64ObservableUpDownCounter implements [metric.Meter].
func (c *Catalogue) Float64ObservableUpDownCounter(name string, o ...metric.Float64ObservableUpDownCounterOption) (metric.Float64ObservableUpDownCounter, error) {
	c.note(name)
	return c.Meter.Float64ObservableUpDownCounter(name, o...)
}

// Float64ObservableGauge implements [metric.Meter].
func (c *Catalogue) Float64ObservableGauge(name string, o ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	c.note(name)
	return c.Meter.Float64ObservableGauge(name, o...)
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package measured_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/bus/bustest"
	"gitlab.com/ampora/ampora/shared/bus/inproc"
	"gitlab.com/ampora/ampora/shared/bus/measured"
)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A measured bus is a bus.
func TestConformance(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Harness {
		clock := &clock{now: time.Unix(1_800_000_000, 0)}
		b, err := measured.New(inproc.New(inproc.Options{MaxMessages: 100, Now: clock.Now}), noop.Meter{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return bustest.Harness{Bus: b, Capacity: 100, Advance: clock.Advance}
	})
}

func TestWhatIsMeasured(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	b, err := measured.New(inproc.New(inproc.Options{MaxMessages: 2}), sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	first, err := b.Read(ctx, 0, "", 10) // no position, so no loss
	if err != nil {
		t.Fatal(err)
	}
	one := bus.Outgoing{Payload: []byte("x")}
	_ = b.Publish(ctx, one, one)
	_ = b.Publish(ctx, one) // full
	batch, err := b.Read(ctx, 0, first.Next, 10)
	if err != nil {
		t.Fatal(err)
	}
	_ = b.Trim(ctx, 0, batch.Next)
	_, _ = b.Read(ctx, 0, first.Next, 10) // trimmed: lost
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, _ = b.Receive(canceled, "gw-1", "", 1)
	_ = b.Send(ctx, "gw-1", time.Minute, []byte("x"))
	_ = b.Set(ctx, bus.Polls, time.Minute, bus.Register{Name: "a", Value: []byte("x")})
	_, _ = b.Get(ctx, bus.Polls, "a")

	var all metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, m := range all.ScopeMetrics[0].Metrics {
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				got[name(m.Name, p.Attributes.ToSlice())] += p.Value
			}
		case metricdata.Histogram[float64]:
			for _, p := range data.DataPoints {
				got[name(m.Name, p.Attributes.ToSlice())] += int64(p.Count)
			}
		}
	}
	for name, want := range map[string]int64{
		"ampora_bus_call_duration publish ok": 1, "ampora_bus_call_duration publish full": 1, "ampora_bus_call_duration trim ok": 1,
		"ampora_bus_call_duration send ok": 1, "ampora_bus_call_duration set ok": 1, "ampora_bus_call_duration get ok": 1,
		"ampora_bus_reads read ok": 2, "ampora_bus_reads read lost": 1, "ampora_bus_reads receive ended": 1,
		"ampora_bus_messages publish": 2, "ampora_bus_messages read": 2, "ampora_bus_messages send": 1,
	} {
		if got[name] != want {
			t.Errorf("%s is %d, want %d", name, got[name], want)
		}
		delete(got, name)
	}
	if len(got) != 0 {
		t.Errorf("besides: %v", got)
	}
}

// name joins a name and the values of its labels, in the order of their keys: operation, outcome.
func name(of string, labels []attribute.KeyValue) string {
	for _, l := range labels {
		of += " " + l.Value.AsString()
	}
	return of
}

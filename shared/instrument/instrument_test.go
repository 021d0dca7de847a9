// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package instrument_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"gitlab.com/ampora/ampora/shared/instrument"
)

// collected is what a reader of the instruments sees, by name.
func collected(t *testing.T, use func(*instrument.Set)) map[string]metricdata.Metrics {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	made := instrument.On(provider.Meter("test"))
	use(made)
	if err := made.Err(); err != nil {
		t.Fatal(err)
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	seen := map[string]metricdata.Metrics{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			seen[m.Name] = m
		}
	}
	return seen
}

func TestTheLabelsOfAnInstrumentAreClosed(t *testing.T) {
	seen := collected(t, func(made *instrument.Set) {
		c := made.Counter("ampora_gateway_messages", "{message}", "Messages.", instrument.By("transport", "http", "websocket"), instrument.By("outcome", "ok"))
		c.Add(t.Context(), 1, "http", "ok")
		c.Add(t.Context(), 1, "http", "ok")
		c.Add(t.Context(), 5, "carrier pigeon", "ok")
		c.Add(t.Context(), 7, "http")
	})
	sums := map[string]int64{}
	for _, point := range seen["ampora_gateway_messages"].Data.(metricdata.Sum[int64]).DataPoints {
		transport, _ := point.Attributes.Value("transport")
		outcome, _ := point.Attributes.Value("outcome")
		sums[transport.AsString()+" "+outcome.AsString()] = point.Value
	}
	if len(sums) != 3 || sums["http ok"] != 2 || sums["other ok"] != 5 || sums["http other"] != 7 {
		t.Errorf("counted %v", sums)
	}
}

func TestObservedInstrumentsShowWhatIsKnown(t *testing.T) {
	seen := collected(t, func(made *instrument.Set) {
		made.Gauge("ampora_gateway_trust_age", "s", "Age.", func(instrument.Observe) {})
		made.Gauge("ampora_control_lag", "s", "Lag.", func(observe instrument.Observe) { observe(2.5, "1") }, instrument.By("partition", "0", "1"))
		made.Total("ampora_control_waits", "{wait}", "Waits.", func(observe instrument.Observe) { observe(9) })
	})
	if _, shown := seen["ampora_gateway_trust_age"]; shown {
		t.Error("an age that is not known is shown")
	}
	lag := seen["ampora_control_lag"].Data.(metricdata.Gauge[float64]).DataPoints
	if len(lag) != 1 || lag[0].Value != 2.5 || !lag[0].Attributes.HasValue("partition") {
		t.Errorf("the lag is %+v", lag)
	}
	waits := seen["ampora_control_waits"].Data.(metricdata.Sum[float64])
	if !waits.IsMonotonic || waits.DataPoints[0].Value != 9 {
		t.Errorf("the waits are %+v", waits)
	}
}

func TestHistogramsHaveTheirBuckets(t *testing.T) {
	seen := collected(t, func(made *instrument.Set) {
		made.Histogram("ampora_bus_call_duration", "s", "Calls.", instrument.Seconds, instrument.By("operation", "send")).
			Took(t.Context(), 20*time.Millisecond, "send")
	})
	point := seen["ampora_bus_call_duration"].Data.(metricdata.Histogram[float64]).DataPoints[0]
	if !slices.Equal(point.Bounds, instrument.Seconds) || point.Sum != 0.02 {
		t.Errorf("recorded %+v", point)
	}
	if value, _ := point.Attributes.Value(attribute.Key("operation")); value.AsString() != "send" {
		t.Errorf("under %v", point.Attributes)
	}
}

func TestWhatBreaksTheRuleIsNotMade(t *testing.T) {
	const name, unit, help = "ampora_gateway_messages", "{message}", "Messages."
	for why, make := range map[string]func(*instrument.Set){
		"another product": func(s *instrument.Set) { s.Counter("gateway_messages", unit, help) },
		"no part of ours": func(s *instrument.Set) { s.Counter("ampora_kitchen_messages", unit, help) },
		"no name":         func(s *instrument.Set) { s.Counter("ampora_gateway", unit, help) },
		"capitals":        func(s *instrument.Set) { s.Counter("ampora_gateway_Messages", unit, help) },
		"a total":         func(s *instrument.Set) { s.Counter(name+"_total", unit, help) },
		"a unit":          func(s *instrument.Set) { s.Histogram("ampora_gateway_message_seconds", "s", help, instrument.Seconds) },
		"milliseconds": func(s *instrument.Set) {
			s.Histogram("ampora_gateway_message_duration", "ms", help, instrument.Seconds)
		},
		"no unit":           func(s *instrument.Set) { s.Counter(name, "", help) },
		"no description":    func(s *instrument.Set) { s.Counter(name, unit, "") },
		"no sentence":       func(s *instrument.Set) { s.Gauge(name, unit, "messages", func(instrument.Observe) {}) },
		"an open label":     func(s *instrument.Set) { s.Counter(name, unit, help, instrument.By("agent")) },
		"a label's form":    func(s *instrument.Set) { s.Counter(name, unit, help, instrument.By("Agent", "a")) },
		"too many labels":   func(s *instrument.Set) { l := instrument.By("k", "v"); s.Counter(name, unit, help, l, l, l, l) },
		"an observed total": func(s *instrument.Set) { s.Total(name+"_total", unit, help, func(instrument.Observe) {}) },
	} {
		made := instrument.On(noop.Meter{})
		make(made)
		if made.Err() == nil {
			t.Errorf("%s: it was made", why)
		}
	}
}

func TestCatalogue(t *testing.T) {
	catalogue := &instrument.Catalogue{}
	made := instrument.On(catalogue)
	made.Histogram("ampora_gateway_handshake_duration", "s", "Handshakes.", instrument.Seconds)
	made.Counter("ampora_gateway_messages", "{message}", "Messages.")
	made.Gauge("ampora_gateway_queue_size", "By", "Bytes.", func(instrument.Observe) {})
	if _, err := catalogue.Int64Counter("ampora_gateway_secret_passage"); err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, d := range catalogue.Declared() {
		shown = append(shown, string(d.Kind)+" "+d.Shown())
	}
	want := []string{
		"histogram ampora_gateway_handshake_duration_seconds", "counter ampora_gateway_messages_total",
		"gauge ampora_gateway_queue_size_bytes",
	}
	if !slices.Equal(shown, want) {
		t.Errorf("declared %s", strings.Join(shown, ", "))
	}
	if found := catalogue.Undeclared(); !slices.Equal(found, []string{"ampora_gateway_secret_passage"}) {
		t.Errorf("undeclared %v", found)
	}
}

// Agents' messages are counted one by one: that must cost nothing.
func TestMeasuringAllocatesNothing(t *testing.T) {
	made := instrument.On(noop.Meter{})
	c := made.Counter("ampora_gateway_messages", "{message}", "Messages.", instrument.By("transport", "http", "websocket"))
	h := made.Histogram("ampora_gateway_message_duration", "s", "Messages.", instrument.Seconds, instrument.By("transport", "http"))
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() { c.Add(ctx, 1, "http"); h.Took(ctx, time.Second, "http") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

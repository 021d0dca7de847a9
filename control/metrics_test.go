// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// series reads what instruments show, each series under its name and the values of its labels; of a histogram, how
// often it was recorded to.
func series(t *testing.T, reader *sdkmetric.ManualReader) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	shown := map[string]float64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					shown[fmt.Sprint(m.Name, labels(p.Attributes.ToSlice()))] += float64(p.Value)
				}
			case metricdata.Sum[float64]:
				for _, p := range data.DataPoints {
					shown[fmt.Sprint(m.Name, labels(p.Attributes.ToSlice()))] += p.Value
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					shown[fmt.Sprint(m.Name, labels(p.Attributes.ToSlice()))] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					shown[fmt.Sprint(m.Name, labels(p.Attributes.ToSlice()))] += float64(p.Count)
				}
			}
		}
	}
	return shown
}

// TestMetrics: what an operator sees of an agent that is assigned a configuration and applies it.
func TestMetrics(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		reader := sdkmetric.NewManualReader()
		b := newBus(t)
		p := startAt(t, db, b, newMasterKey(), time.Now, func(d *Deps) {
			d.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
		})
		c := newCrowd(t, p, b, 1)
		a := c.only()
		p.assignTo(t, p.published(t, "edge", bodyOne), a.id)
		p.deliveryOf(t, a.id, amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
		var shown map[string]float64
		eventually(t, "what was recorded is counted, and nothing waits", func() error {
			shown = series(t, reader)
			if _, known := shown["ampora_control_engine_backlog"]; !known || shown["ampora_control_uplinks applied"] < 4 {
				return fmt.Errorf("shown is %v", shown)
			}
			return nil
		})
		for name, least := range map[string]float64{
			"ampora_control_api_request_duration ok ampora.v1.AssignmentService/Assign":                   1,
			"ampora_control_internal_request_duration ok ampora.internal.v1.GatewayService/ClaimSessions": 1,
			"ampora_control_inbox_partitions":          64,
			"ampora_control_inbox_batch_size":          2,
			"ampora_control_inbox_batch_duration":      2,
			"ampora_control_engine_steps applied":      2,
			"ampora_control_engine_step_duration":      2,
			"ampora_control_downlinks config sent":     1,
			"ampora_control_database_connections_max":  2,
			"ampora_control_database_connections used": 0,
			"ampora_control_outbox_backlog_age":        0,
			"ampora_control_inbox_lag 0":               0,
			"ampora_control_inbox_lag 63":              0,
		} {
			if got, known := shown[name]; !known || got < least || got > least+1000 {
				t.Errorf("%s shows %v (%v), want %v at least", name, got, known, least)
			}
		}
	})
}

// labels are the values of labels, in the order of their keys.
func labels(of []attribute.KeyValue) (text string) {
	for _, l := range of {
		text += " " + l.Value.AsString()
	}
	return text
}

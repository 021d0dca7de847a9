// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
)

// metricInterval is how often metrics are sent.
const metricInterval = 30 * time.Second

// Metrics makes a reader that sends all metrics once in a while, and a last time when it is shut down.
func (c *Client) Metrics() sdkmetric.Reader {
	return sdkmetric.NewPeriodicReader(exporter{c}, sdkmetric.WithInterval(metricInterval), sdkmetric.WithTimeout(sendTime))
}

// exporter sends what the SDK has aggregated: cumulative, in buckets with explicit bounds.
type exporter struct{ client *Client }

// Temporality implements [sdkmetric.Exporter].
func (exporter) Temporality(sdkmetric.InstrumentKind) metricdata.Temporality {
	return metricdata.CumulativeTemporality
}

// Aggregation implements [sdkmetric.Exporter].
func (exporter) Aggregation(kind sdkmetric.InstrumentKind) sdkmetric.Aggregation {
	return sdkmetric.DefaultAggregationSelector(kind)
}

// Export implements [sdkmetric.Exporter]. A MetricsData is on the wire what the service's request is.
func (e exporter) Export(ctx context.Context, all *metricdata.ResourceMetrics) error {
	items := 0
	message := &metricspb.ResourceMetrics{Resource: resourceOf(all.Resource), SchemaUrl: all.Resource.SchemaURL()}
	for _, scope := range all.ScopeMetrics {
		list := make([]*metricspb.Metric, len(scope.Metrics))
		for i, m := range scope.Metrics {
			list[i] = metricOf(m)
		}
		items += len(list)
		message.ScopeMetrics = append(message.ScopeMetrics, &metricspb.ScopeMetrics{Scope: scopeOf(scope.Scope.Name, scope.Scope.Version), Metrics: list})
	}
	if items > 0 {
		e.client.send(ctx, metrics, items, &metricspb.MetricsData{ResourceMetrics: []*metricspb.ResourceMetrics{message}})
	}
	return nil
}

// ForceFlush implements [sdkmetric.Exporter]: nothing waits here.
func (exporter) ForceFlush(ctx context.Context) error { return ctx.Err() }

// Shutdown implements [sdkmetric.Exporter].
func (exporter) Shutdown(ctx context.Context) error { return ctx.Err() }

// metricOf covers the kinds of instruments there are in package instrument.
func metricOf(m metricdata.Metrics) *metricspb.Metric {
	sent := &metricspb.Metric{Name: m.Name, Description: m.Description, Unit: m.Unit}
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		sent.Data = sumOf(data.IsMonotonic, points(data.DataPoints))
	case metricdata.Sum[float64]:
		sent.Data = sumOf(data.IsMonotonic, points(data.DataPoints))
	case metricdata.Gauge[int64]:
		sent.Data = &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{DataPoints: points(data.DataPoints)}}
	case metricdata.Gauge[float64]:
		sent.Data = &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{DataPoints: points(data.DataPoints)}}
	case metricdata.Histogram[float64]:
		sent.Data = histogramOf(data)
	}
	return sent
}

const cumulative = metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE

func sumOf(monotonic bool, points []*metricspb.NumberDataPoint) *metricspb.Metric_Sum {
	return &metricspb.Metric_Sum{Sum: &metricspb.Sum{AggregationTemporality: cumulative, IsMonotonic: monotonic, DataPoints: points}}
}

func points[N int64 | float64](list []metricdata.DataPoint[N]) []*metricspb.NumberDataPoint {
	sent := make([]*metricspb.NumberDataPoint, len(list))
	for i, p := range list {
		sent[i] = &metricspb.NumberDataPoint{Attributes: attributesOf(p.Attributes), StartTimeUnixNano: nanos(p.StartTime), TimeUnixNano: nanos(p.Time)}
		switch value := any(p.Value).(type) {
		case int64:
			sent[i].Value = &metricspb.NumberDataPoint_AsInt{AsInt: value}
		case float64:
			sent[i].Value = &metricspb.NumberDataPoint_AsDouble{AsDouble: value}
		}
	}
	return sent
}

func histogramOf(data metricdata.Histogram[float64]) *metricspb.Metric_Histogram {
	sent := &metricspb.Histogram{AggregationTemporality: cumulative}
	for _, p := range data.DataPoints {
		point := &metricspb.HistogramDataPoint{
			Attributes: attributesOf(p.Attributes), StartTimeUnixNano: nanos(p.StartTime), TimeUnixNano: nanos(p.Time),
			Count: p.Count, Sum: &p.Sum, BucketCounts: p.BucketCounts, ExplicitBounds: p.Bounds,
		}
		for _, e := range p.Exemplars {
			point.Exemplars = append(point.Exemplars, &metricspb.Exemplar{
				TimeUnixNano: nanos(e.Time), TraceId: e.TraceID, SpanId: e.SpanID, Value: &metricspb.Exemplar_AsDouble{AsDouble: e.Value},
			})
		}
		sent.DataPoints = append(sent.DataPoints, point)
	}
	return &metricspb.Metric_Histogram{Histogram: sent}
}

func nanos(t time.Time) uint64 { return uint64(max(0, t.UnixNano())) }

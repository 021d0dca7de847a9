// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// spans sends spans once they have ended.
type spans struct{ queue *queue[sdktrace.ReadOnlySpan] }

// Spans makes a processor that sends sampled spans. Its Shutdown sends what waits, for as long as the context lasts.
func (c *Client) Spans() sdktrace.SpanProcessor {
	exporter := otlptrace.NewUnstarted(uploader{c})
	return spans{newQueue(&c.tallies[traces].dropped, func(ctx context.Context, batch []sdktrace.ReadOnlySpan) {
		_ = exporter.ExportSpans(ctx, batch) // the uploader has no errors
	})}
}

// OnStart implements [sdktrace.SpanProcessor].
func (s spans) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements [sdktrace.SpanProcessor].
func (s spans) OnEnd(span sdktrace.ReadOnlySpan) {
	if span.SpanContext().IsSampled() {
		s.queue.put(span)
	}
}

// ForceFlush implements [sdktrace.SpanProcessor].
func (s spans) ForceFlush(ctx context.Context) error {
	s.queue.flush(ctx)
	return ctx.Err()
}

// Shutdown implements [sdktrace.SpanProcessor].
func (s spans) Shutdown(ctx context.Context) error {
	s.queue.close(ctx)
	return ctx.Err()
}

// uploader is what package otlptrace, which makes messages of spans, gives them to.
type uploader struct{ client *Client }

// Start implements [otlptrace.Client].
func (uploader) Start(context.Context) error { return nil }

// Stop implements [otlptrace.Client].
func (uploader) Stop(context.Context) error { return nil }

// UploadTraces implements [otlptrace.Client]. A TracesData is on the wire what the service's request is.
func (u uploader) UploadTraces(ctx context.Context, resources []*tracepb.ResourceSpans) error {
	items := 0
	for _, resource := range resources {
		for _, scope := range resource.GetScopeSpans() {
			items += len(scope.GetSpans())
		}
	}
	u.client.send(ctx, traces, items, &tracepb.TracesData{ResourceSpans: resources})
	return nil
}

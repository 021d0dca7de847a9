// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/tracing"
)

// maxLinks bounds how many of a batch its span is linked to.
const maxLinks = 32

// traceOf is the trace that a dispatch belongs to, none if it is not recorded. Batches keep to one trace, so that each
// agent's story stays whole.
func traceOf(d fleet.Dispatch) trace.TraceID {
	if parent, recorded := tracing.Parse(string(d.Trace)); recorded {
		return parent.TraceID()
	}
	return trace.TraceID{}
}

// begin begins to send a batch under the step that decided on its first dispatch, with links to those of the others.
func (o *Outbox) begin(ctx context.Context, batch []fleet.Dispatch) (context.Context, trace.Span) {
	first := batch[0]
	var links []trace.Link
	for _, d := range batch[1:min(len(batch), 1+maxLinks)] {
		if step, recorded := tracing.Parse(string(d.Trace)); recorded {
			links = append(links, trace.Link{SpanContext: step})
		}
	}
	ctx, span := tracing.Continue(ctx, o.d.Tracer, string(first.Trace), "outbox send",
		trace.WithSpanKind(trace.SpanKindProducer), tracing.Sending(tracing.Downlinks), trace.WithLinks(links...),
		trace.WithAttributes(tracing.Tenant(first.Tenant), tracing.Messages(len(batch))))
	if !polls(first) {
		span.SetAttributes(tracing.Gateway(first.Gateway))
	}
	if len(batch) == 1 {
		span.SetAttributes(tracing.Agent(first.Agent))
	}
	return ctx, span
}

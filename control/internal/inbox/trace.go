// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"context"
	"strconv"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/tracing"
)

// traced begins to record the uplinks that were said within a trace, and puts the record in the place of what the
// gateway named: whoever is woken goes on from there. What comes of all is told to end.
func (r *reader) traced(ctx context.Context, uplinks []fleet.Uplink) (end func(error)) {
	var spans []trace.Span
	for i := range uplinks {
		within, span := tracing.Continue(ctx, r.in.d.Tracer, string(uplinks[i].Trace), "inbox record",
			trace.WithSpanKind(trace.SpanKindConsumer), tracing.Processing(tracing.Uplinks),
			trace.WithAttributes(tracing.Agent(agentOf(uplinks[i])), tracing.Partition(strconv.Itoa(r.partition)), tracing.Messages(len(uplinks))))
		if uplinks[i].Trace = fleet.Traceparent(tracing.Text(within)); uplinks[i].Trace != "" {
			spans = append(spans, span)
		}
	}
	return func(err error) {
		for _, span := range spans {
			if err != nil {
				span.SetStatus(codes.Error, "") // the batch is read again
			}
			span.End()
		}
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/tracing"
)

// begin begins the step of an item in the trace in which it was woken, and puts the step in its place into the item:
// what the step sends goes on from there. An item that was woken in none has no span.
func (e *Engine) begin(ctx context.Context, item *store.WorkItem) (context.Context, trace.Span) {
	ctx, span := tracing.Continue(ctx, e.d.Tracer, string(item.Trace), "engine step",
		trace.WithAttributes(tracing.Tenant(item.Tenant), tracing.Agent(item.Agent)))
	item.Trace = fleet.Traceparent(tracing.Text(ctx))
	return ctx, span
}

// end ends the step with what became of it.
func end(span trace.Span, outcome string, step fleet.Step) {
	span.SetAttributes(tracing.Outcome(outcome))
	if step.Grant != nil {
		span.SetAttributes(attribute.String("ampora.grant.state", string(step.Grant.State)), attribute.Int64("ampora.grant.generation", int64(step.Grant.Generation)))
	}
	span.End()
}

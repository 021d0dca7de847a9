// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/tracing"
)

// spans are those of the steps of a lot, by agent. An item that was woken in no trace has none.
type spans map[fleet.AgentID]trace.Span

// begin begins the step of each item in the trace in which it was woken, and puts the step in its place into the item:
// what the step sends goes on from there.
func (e *Engine) begin(ctx context.Context, items []store.WorkItem) spans {
	begun := spans{}
	for i := range items {
		item := &items[i]
		if item.Trace == "" {
			continue
		}
		of, span := tracing.Continue(ctx, e.d.Tracer, string(item.Trace), "engine step",
			trace.WithAttributes(tracing.Tenant(item.Tenant), tracing.Agent(item.Agent)))
		item.Trace, begun[item.Agent] = fleet.Traceparent(tracing.Text(of)), span
	}
	return begun
}

// outcome notes what became of an item.
func (s spans) outcome(of store.WorkItem, outcome string) {
	if span := s[of.Agent]; span != nil {
		span.SetAttributes(tracing.Outcome(outcome))
	}
}

// tell notes what became of a step.
func (s spans) tell(of store.Decision, outcome string) {
	s.outcome(of.Item, outcome)
	if span, grant := s[of.Item.Agent], of.Step.Grant; span != nil && grant != nil {
		span.SetAttributes(attribute.String("ampora.grant.state", string(grant.State)), attribute.Int64("ampora.grant.generation", int64(grant.Generation)))
	}
}

// end ends the steps of a lot, all of which failed if there is an error.
func (s spans) end(err error) {
	for _, span := range s {
		if err != nil {
			span.SetAttributes(tracing.Outcome("failed"))
			span.SetStatus(codes.Error, "") // the log has the words
		}
		span.End()
	}
}

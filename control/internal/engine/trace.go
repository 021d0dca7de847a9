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

// tell notes what became of a step.
func (s spans) tell(of store.Decision, outcome string) {
	span := s[of.Item.Agent]
	if span == nil {
		return
	}
	span.SetAttributes(tracing.Outcome(outcome))
	if grant := of.Step.Grant; grant != nil {
		span.SetAttributes(attribute.String("ampora.grant.state", string(grant.State)), attribute.Int64("ampora.grant.generation", int64(grant.Generation)))
	}
}

func (s spans) end() {
	for _, span := range s {
		span.End()
	}
}

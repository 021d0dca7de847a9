// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"context"

	"github.com/open-telemetry/opamp-go/protobufs"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/gateway/internal/session"
	"gitlab.com/ampora/ampora/shared/tracing"
)

// reporting begins to pass a message on: in the trace of the offer that it answers, or
// in a trace of its own. Heartbeats are not passed on, so they have none.
func (s *Server) reporting(ctx context.Context, current *session.Session, message *protobufs.AgentToServer) (context.Context, trace.Span) {
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindProducer), tracing.Sending(tracing.Uplinks), about(current),
	}
	if status := message.GetRemoteConfigStatus(); status != nil {
		last := status.GetStatus() != protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING
		options = append(options, trace.WithAttributes(attribute.String("ampora.config.status", status.GetStatus().String())))
		if offer := current.Answers(status.GetLastRemoteConfigHash(), last); offer != "" {
			return tracing.Continue(ctx, s.Tracer, offer, "gateway report", options...)
		}
	}
	return s.Tracer.Start(ctx, "gateway report", options...) //nolint:spancheck // the caller ends it
}

// offering begins to write an offer, in its trace and from when it came. What follows
// from it goes on from here; its End is when it is written.
func (s *Server) offering(to *session.Session, offer *session.ConfigOffer) {
	ctx, span := tracing.Continue(context.Background(), s.Tracer, offer.Trace, "gateway deliver config",
		trace.WithTimestamp(offer.At), about(to))
	offer.Trace = tracing.Text(ctx)
	offer.End = func() { span.End(trace.WithTimestamp(s.Clock())) }
	to.Offering(offer)
}

func about(s *session.Session) trace.SpanStartEventOption {
	return trace.WithAttributes(tracing.Tenant(s.Key.Tenant), tracing.Agent(s.Key.Agent))
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package tracing carries traces where no context goes: over rows of the database, messages on the bus and calls of
// other processes.
//
// Whether a trace is recorded is decided once, where it begins, and travels with it: the text of a trace that is not
// recorded is empty, and an empty text, like any that is no traceparent, is continued by nothing.
package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Always marks the first span of a trace that is to be recorded whatever the share of traces that are.
var Always = attribute.Bool("ampora.always", true)

// OrNone returns the tracer, or one that makes no spans if it is nil.
func OrNone(tracer trace.Tracer) trace.Tracer {
	if tracer == nil {
		return noop.Tracer{}
	}
	return tracer
}

// key is that of the header in which a traceparent travels (W3C Trace Context, section 3.2).
const key = "traceparent"

// carrier is a text in the form of headers. Trace state is left out: nobody of ours writes any.
type carrier struct{ text string }

// Get implements [propagation.TextMapCarrier].
func (c *carrier) Get(k string) string {
	if k == key {
		return c.text
	}
	return ""
}

// Set implements [propagation.TextMapCarrier].
func (c *carrier) Set(k, value string) {
	if k == key {
		c.text = value
	}
}

// Keys implements [propagation.TextMapCarrier].
func (*carrier) Keys() []string { return []string{key} }

// Text is the traceparent of the span that ctx is in, or "" if there is none or it is not recorded.
func Text(ctx context.Context) string {
	var c carrier
	if trace.SpanContextFromContext(ctx).IsSampled() {
		propagation.TraceContext{}.Inject(ctx, &c)
	}
	return c.text
}

// length is that of a traceparent of version 00 (section 3.2.2). Others are longer.
const length = 55

// Parse returns the span that a traceparent names, and whether it names one that is recorded.
func Parse(text string) (trace.SpanContext, bool) {
	if len(text) != length {
		return trace.SpanContext{}, false
	}
	named := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), &carrier{text}))
	return named, named.IsValid() && named.IsSampled()
}

// Continue begins a span under the one that text names. If it names none, ctx comes back as it is, with a span that
// does nothing.
func Continue(ctx context.Context, tracer trace.Tracer, text, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	parent, recorded := Parse(text)
	if !recorded {
		return ctx, trace.SpanFromContext(context.Background())
	}
	return OrNone(tracer).Start(trace.ContextWithRemoteSpanContext(ctx, parent), name, options...) //nolint:spancheck // the caller ends it
}

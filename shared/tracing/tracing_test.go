// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package tracing_test

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/shared/tracing"
)

func tracer(t *testing.T, sampler sdktrace.Sampler) trace.Tracer {
	t.Helper()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	return provider.Tracer("test")
}

func TestARecordedTraceGoesOn(t *testing.T) {
	tr := tracer(t, sdktrace.ParentBased(sdktrace.AlwaysSample()))
	ctx, first := tr.Start(t.Context(), "first")
	text := tracing.Text(ctx)
	next, second := tracing.Continue(t.Context(), tr, text, "second")
	if second.SpanContext().TraceID() != first.SpanContext().TraceID() || !second.IsRecording() {
		t.Errorf("%q is continued by %v", text, second.SpanContext())
	}
	if named, recorded := tracing.Parse(text); !recorded || named.SpanID() != first.SpanContext().SpanID() {
		t.Errorf("%q names %v, %v", text, named, recorded)
	}
	if tracing.Text(next) == text {
		t.Error("the second span has the text of the first")
	}
	second.End()
	first.End()
}

func TestWhatIsNotRecordedHasNoText(t *testing.T) {
	tr := tracer(t, sdktrace.NeverSample())
	ctx, span := tr.Start(t.Context(), "first")
	defer span.End()
	if text := tracing.Text(ctx); text != "" {
		t.Errorf("the text is %q", text)
	}
	if text := tracing.Text(t.Context()); text != "" {
		t.Errorf("without a span the text is %q", text)
	}
}

func TestNothingContinuesWhatIsNoTrace(t *testing.T) {
	tr := tracer(t, sdktrace.AlwaysSample())
	for _, text := range []string{
		"", "x", "00-00000000000000000000000000000000-0000000000000000-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
	} {
		ctx, span := tracing.Continue(t.Context(), tr, text, "next")
		if span.IsRecording() || span.SpanContext().IsValid() || ctx != t.Context() {
			t.Errorf("%q is continued by %v", text, span.SpanContext())
		}
		span.End()
	}
}

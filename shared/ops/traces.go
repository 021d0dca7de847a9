// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"slices"

	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"gitlab.com/ampora/ampora/shared/tracing"
)

// spanLimits bound a span: what is in it may come from a peer.
var spanLimits = sdktrace.SpanLimits{
	AttributeValueLengthLimit: 1024, AttributeCountLimit: 64, EventCountLimit: 32, LinkCountLimit: 128,
	AttributePerEventCountLimit: 16, AttributePerLinkCountLimit: 16,
}

// newTracerProvider makes the provider of the program's spans. Without processors none is recorded; they have ids all
// the same, which logs and the audit log carry.
func newTracerProvider(about *resource.Resource, ratio float64, processors ...sdktrace.SpanProcessor) *sdktrace.TracerProvider {
	root := sdktrace.NeverSample()
	if len(processors) > 0 {
		root = share{sdktrace.TraceIDRatioBased(ratio)}
	}
	options := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(about), sdktrace.WithSampler(sdktrace.ParentBased(root)), sdktrace.WithRawSpanLimits(spanLimits),
	}
	for _, p := range processors {
		options = append(options, sdktrace.WithSpanProcessor(p))
	}
	return sdktrace.NewTracerProvider(options...)
}

// share records a share of the traces, and all of those whose first span says [tracing.Always].
type share struct{ sdktrace.Sampler }

// ShouldSample implements [sdktrace.Sampler].
func (s share) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if slices.Contains(p.Attributes, tracing.Always) {
		return sdktrace.AlwaysSample().ShouldSample(p)
	}
	return s.Sampler.ShouldSample(p)
}

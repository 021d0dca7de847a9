// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Attributes of our own. Spans name tenants and agents, which no metric does.

// Tenant is whom a span is about.
func Tenant[T ~string](id T) attribute.KeyValue { return attribute.String("ampora.tenant", string(id)) }

// Agent is whom a span is about.
func Agent[T ~string](id T) attribute.KeyValue {
	return attribute.String("ampora.agent.id", string(id))
}

// Gateway is whom a span is about.
func Gateway[T ~string](id T) attribute.KeyValue {
	return attribute.String("ampora.gateway.id", string(id))
}

// Outcome is what became of what a span is about, in the words of the metric that counts it.
func Outcome[T ~string](what T) attribute.KeyValue {
	return attribute.String("ampora.outcome", string(what))
}

// The streams of the bus.
const (
	Uplinks   = "uplinks"
	Downlinks = "downlinks"
)

// Sending says that a span sends messages to a stream of the bus (semantic conventions, "Messaging Spans").
func Sending(stream string) trace.SpanStartEventOption {
	return messaging(stream, "send", semconv.MessagingOperationTypeSend)
}

// Processing says that a span processes messages of a stream of the bus.
func Processing(stream string) trace.SpanStartEventOption {
	return messaging(stream, "process", semconv.MessagingOperationTypeProcess)
}

func messaging(stream, operation string, kind attribute.KeyValue) trace.SpanStartEventOption {
	return trace.WithAttributes(semconv.MessagingSystemKey.String("ampora"), semconv.MessagingDestinationName(stream),
		semconv.MessagingOperationName(operation), kind)
}

// Messages is how many messages a span sends or processes at once.
func Messages(n int) attribute.KeyValue { return semconv.MessagingBatchMessageCount(n) }

// Partition is the partition of the stream.
func Partition(id string) attribute.KeyValue { return semconv.MessagingDestinationPartitionID(id) }

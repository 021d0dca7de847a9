// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
)

// Logs is a slog.Handler that sends records. Make one with [Client.Logs].
type Logs struct {
	queue *queue[*logspb.LogRecord]
	level slog.Leveler

	attrs []*commonpb.KeyValue // of WithAttrs
	group string               // the open groups, each with a dot after it
}

// scope is what log records are said to come from.
const scope = "gitlab.com/ampora/ampora"

// Logs makes a handler that sends records from level on. A record within a trace says in which. Attributes in groups
// have the groups' names before their own, with dots between.
func (c *Client) Logs(level slog.Leveler) *Logs {
	about := resourceOf(c.resource)
	send := func(ctx context.Context, records []*logspb.LogRecord) {
		c.send(ctx, logs, len(records), &logspb.LogsData{ResourceLogs: []*logspb.ResourceLogs{{
			Resource: about, ScopeLogs: []*logspb.ScopeLogs{{Scope: scopeOf(scope, ""), LogRecords: records}},
		}}})
	}
	return &Logs{queue: newQueue(&c.tallies[logs].dropped, send), level: level}
}

// Close sends what waits for as long as ctx lasts.
func (l *Logs) Close(ctx context.Context) { l.queue.close(ctx) }

// Enabled implements [slog.Handler].
func (l *Logs) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level.Level() }

// Handle implements [slog.Handler].
func (l *Logs) Handle(ctx context.Context, record slog.Record) error {
	sent := &logspb.LogRecord{
		ObservedTimeUnixNano: nanos(time.Now()), SeverityNumber: severity(record.Level), SeverityText: record.Level.String(),
		Body: textOf(record.Message),
	}
	if !record.Time.IsZero() {
		sent.TimeUnixNano = nanos(record.Time)
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		trace, id := span.TraceID(), span.SpanID()
		sent.TraceId, sent.SpanId, sent.Flags = trace[:], id[:], uint32(span.TraceFlags())
	}
	attrs := slices.Clone(l.attrs)
	record.Attrs(func(attr slog.Attr) bool {
		attrs = appendAttr(attrs, l.group, attr)
		return true
	})
	sent.Attributes = attrs
	l.queue.put(sent)
	return nil
}

// WithAttrs implements [slog.Handler].
func (l *Logs) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *l
	with.attrs = slices.Clone(l.attrs)
	for _, attr := range attrs {
		with.attrs = appendAttr(with.attrs, l.group, attr)
	}
	return &with
}

// WithGroup implements [slog.Handler].
func (l *Logs) WithGroup(name string) slog.Handler {
	if name == "" {
		return l
	}
	with := *l
	with.group += name + "."
	return &with
}

func appendAttr(list []*commonpb.KeyValue, group string, attr slog.Attr) []*commonpb.KeyValue {
	value := attr.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if attr.Key != "" {
			group += attr.Key + "."
		}
		for _, inner := range value.Group() {
			list = appendAttr(list, group, inner)
		}
		return list
	}
	if attr.Equal(slog.Attr{}) {
		return list
	}
	return append(list, &commonpb.KeyValue{Key: group + attr.Key, Value: valueOf(value)})
}

// severity puts slog's levels, four apart, where OTLP has them: INFO is 9 ("Log Data Model", SeverityNumber).
func severity(level slog.Level) logspb.SeverityNumber {
	return logspb.SeverityNumber(min(max(int32(level)+9, 1), 24)) //nolint:gosec // a small number
}

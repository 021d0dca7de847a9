// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// LogFormat is the form of log records. The zero LogFormat is JSON.
type LogFormat string

// The formats.
const (
	LogJSON LogFormat = "json" // one object per line, for machines
	LogText LogFormat = "text" // key=value, for people
)

// UnmarshalText accepts "json" and "text".
func (f *LogFormat) UnmarshalText(text []byte) error {
	switch format := LogFormat(text); format {
	case LogJSON, LogText:
		*f = format
		return nil
	}
	return errors.New("the log format is json or text")
}

// NewLogger makes a logger that writes records from level on to w, one Write per
// record. Records logged with a context that is inside a trace get trace_id and
// span_id, whatever group is open.
func NewLogger(w io.Writer, level slog.Leveler, format LogFormat) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if format == LogText {
		handler = slog.NewTextHandler(w, options)
	}
	return slog.New(traced{Handler: handler, root: handler})
}

// traced adds the trace to records. Attributes that are added to a record land in
// the open group; so where one is open, the trace is added before it: at the last
// handler without a group, whose descent is then repeated.
type traced struct {
	slog.Handler
	root    slog.Handler
	descent []func(slog.Handler) slog.Handler // from root to Handler; begins with a group
}

// Handle implements [slog.Handler].
func (h traced) Handle(ctx context.Context, record slog.Record) error {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return h.Handler.Handle(ctx, record)
	}
	handler := h.root.WithAttrs([]slog.Attr{
		slog.String("trace_id", span.TraceID().String()),
		slog.String("span_id", span.SpanID().String()),
	})
	for _, step := range h.descent {
		handler = step(handler)
	}
	return handler.Handle(ctx, record)
}

// WithAttrs implements [slog.Handler].
func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(h.descent) == 0 {
		handler := h.Handler.WithAttrs(attrs)
		return traced{Handler: handler, root: handler}
	}
	return h.step(func(handler slog.Handler) slog.Handler { return handler.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (h traced) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.step(func(handler slog.Handler) slog.Handler { return handler.WithGroup(name) })
}

func (h traced) step(step func(slog.Handler) slog.Handler) traced {
	descent := append(h.descent[:len(h.descent):len(h.descent)], step)
	return traced{Handler: step(h.Handler), root: h.root, descent: descent}
}

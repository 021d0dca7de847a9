// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package calls observes remote calls, at either end: each gets a span and counts in a histogram, by procedure and by
// what became of it.
//
// Its guarantees: neither has anything of a request, an answer or the words of an error; calls of our own programs go on
// in the trace they were made in, whether it is recorded or not; calls of anybody else begin a trace, so that no stranger
// decides what is recorded, and are linked to the one they name.
package calls

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect/v2"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"gitlab.com/ampora/ampora/shared/instrument"
	"gitlab.com/ampora/ampora/shared/tracing"
)

// OK is the code of a call that did not fail.
const OK = "ok"

// Codes are what can become of a call: [OK], and what Connect calls the rest.
var Codes = func() []string {
	list := []string{OK}
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		list = append(list, code.String())
	}
	return list
}()

// Procedures are the procedures of all services of a protobuf package that is linked, as "package.Service/Method".
func Procedures(of protoreflect.FullName) []string {
	list := map[string]struct{}{}
	protoregistry.GlobalFiles.RangeFilesByPackage(of, func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				list[string(service.FullName())+"/"+string(service.Methods().Get(j).Name())] = struct{}{}
			}
		}
		return true
	})
	return slices.Sorted(maps.Keys(list))
}

// Duration declares the histogram of a service's calls.
func Duration(made *instrument.Set, name, help string, of protoreflect.FullName) instrument.Histogram {
	return made.Histogram(name, "s", help, instrument.Seconds,
		instrument.By("procedure", Procedures(of)...), instrument.By("code", Codes...))
}

func procedure(spec connect.Spec) string { return strings.TrimPrefix(spec.Procedure, "/") }

// codeOf is what became of a call.
func codeOf(err error) string {
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return OK
	case errors.Is(err, context.Canceled):
		return connect.CodeCanceled.String()
	case errors.Is(err, context.DeadlineExceeded):
		return connect.CodeDeadlineExceeded.String()
	default:
		return connect.CodeOf(err).String()
	}
}

// headers carries a trace in the headers of a call.
type headers struct{ *connect.Header }

// Keys implements [propagation.TextMapCarrier].
func (h headers) Keys() []string {
	var keys []string
	for key := range h.All() {
		keys = append(keys, key)
	}
	return keys
}

// Origin says whose a call is.
type Origin int

// The origins.
const (
	Anybody   Origin = iota // callers of the public API
	Ours                    // programs of this installation
	Strangers               // callers of a service for our programs that have not shown to be one
)

// All says of all calls that they are of the origin.
func (o Origin) All(context.Context) Origin { return o }

// Server observes the calls of a server. It goes before every other interceptor: what it sees is what the caller gets.
func Server(tracer trace.Tracer, took instrument.Histogram, from func(context.Context) Origin) connect.ServerInterceptor {
	return func(next connect.ServerFunc) connect.ServerFunc {
		return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
			began := time.Now()
			ctx, span := serving(ctx, tracer, spec, from(ctx))
			defer span.End()
			err := next(ctx, spec, stream)
			ended(span, err, atFault(connect.CodeOf(err)))
			took.Took(ctx, time.Since(began), procedure(spec), codeOf(err))
			return err
		}
	}
}

func serving(ctx context.Context, tracer trace.Tracer, spec connect.Spec, from Origin) (context.Context, trace.Span) {
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(semconv.RPCSystemNameConnectrpc, semconv.RPCMethod(procedure(spec))),
	}
	parent := ctx
	if info, ok := connect.CallInfoForServerContext(ctx); ok && !trace.SpanContextFromContext(ctx).IsValid() {
		parent = propagation.TraceContext{}.Extract(ctx, headers{info.RequestHeader()})
	}
	if from == Ours {
		return tracer.Start(parent, procedure(spec), options...) //nolint:spancheck // the caller ends it
	}
	options = append(options, trace.WithNewRoot())
	if link := trace.LinkFromContext(parent); link.SpanContext.IsValid() {
		options = append(options, trace.WithLinks(link))
	}
	if from == Anybody && spec.IdempotencyLevel != connect.IdempotencyNoSideEffects {
		// Changes are rare, and each is worth knowing what became of it.
		options = append(options, trace.WithAttributes(tracing.Always))
	}
	return tracer.Start(ctx, procedure(spec), options...) //nolint:spancheck // the caller ends it
}

func ended(span trace.Span, err error, failed bool) {
	span.SetAttributes(semconv.RPCResponseStatusCode(codeOf(err)))
	if err != nil && failed {
		span.SetStatus(codes.Error, "") // the words of an error may repeat what a caller sent
	}
}

// atFault says whether a code is the server's failure and not an answer to the caller.
func atFault(code connect.Code) bool {
	switch code {
	case connect.CodeUnknown, connect.CodeDeadlineExceeded, connect.CodeUnimplemented, connect.CodeInternal, connect.CodeUnavailable, connect.CodeDataLoss:
		return true
	default:
		return false
	}
}

// Client observes the calls of a client.
func Client(tracer trace.Tracer, took instrument.Histogram) connect.ClientInterceptor {
	return func(next connect.ClientFunc) connect.ClientFunc {
		return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
			c := &call{spec: spec, took: took, began: time.Now()}
			c.ctx, c.span = tracer.Start(ctx, procedure(spec), trace.WithSpanKind(trace.SpanKindClient), //nolint:spancheck // end ends it
				trace.WithAttributes(semconv.RPCSystemNameConnectrpc, semconv.RPCMethod(procedure(spec))))
			if info, ok := connect.CallInfoForClientContext(c.ctx); ok {
				propagation.TraceContext{}.Inject(c.ctx, headers{info.RequestHeader()})
			}
			stream, err := next(c.ctx, spec)
			if err != nil {
				c.end(err)
				return nil, err
			}
			c.ClientStream = stream
			return c, nil
		}
	}
}

// call is a call under way at the client's end. It is over with its first failure, with the end of its answers or when
// it is closed.
type call struct {
	connect.ClientStream
	ctx   context.Context
	span  trace.Span
	spec  connect.Spec
	took  instrument.Histogram
	began time.Time
	once  sync.Once
}

// Send sends a request.
func (c *call) Send(request any) error {
	err := c.ClientStream.Send(request)
	if err != nil && !errors.Is(err, io.EOF) { // whose reason Receive gives
		c.end(err)
	}
	return err
}

// Receive receives an answer.
func (c *call) Receive(answer any) error {
	err := c.ClientStream.Receive(answer)
	if err != nil {
		c.end(err)
	}
	return err
}

// Close ends the call.
func (c *call) Close() error {
	err := c.ClientStream.Close()
	c.end(nil)
	return err
}

func (c *call) end(err error) {
	c.once.Do(func() {
		ended(c.span, err, codeOf(err) != OK)
		c.span.End()
		c.took.Took(c.ctx, time.Since(c.began), procedure(c.spec), codeOf(err))
	})
}

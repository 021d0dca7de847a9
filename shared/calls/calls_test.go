// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectinprocess"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"gitlab.com/ampora/ampora/shared/calls"
	"gitlab.com/ampora/ampora/shared/instrument"
	"gitlab.com/ampora/ampora/shared/tracing"
)

// echo answers what it is sent, or fails with the code that it names.
func echo(_ context.Context, _ connect.Spec, stream connect.ServerStream) error {
	var request wrapperspb.StringValue
	if err := stream.Receive(&request); err != nil {
		return err
	}
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		if code.String() == request.GetValue() {
			return connect.NewError(code, "hunter2")
		}
	}
	return stream.Send(&request)
}

var spec = connect.Spec{Procedure: "/test.v1.Echo/Say", StreamType: connect.StreamTypeUnary}

// world is a client and a server that are observed.
type world struct {
	recorder *tracetest.SpanRecorder
	reader   *sdkmetric.ManualReader
	tracer   trace.Tracer
	histo    instrument.Histogram
	client   *connect.Client
}

// newWorld makes one over HTTP, or in this process.
func newWorld(t *testing.T, from calls.Origin, inProcess bool) *world {
	t.Helper()
	w := &world{recorder: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(w.recorder), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())))
	w.tracer = provider.Tracer("test")
	made := instrument.On(sdkmetric.NewMeterProvider(sdkmetric.WithReader(w.reader)).Meter("test"))
	w.histo = made.Histogram("ampora_control_call_duration", "s", "Calls.", instrument.Seconds,
		instrument.By("procedure", "test.v1.Echo/Say"), instrument.By("code", calls.Codes...))
	if made.Err() != nil {
		t.Fatal(made.Err())
	}
	server := connect.NewServer(calls.Server(w.tracer, w.histo, from.All))
	server.Register(connect.Method{Spec: spec, Handler: echo})
	w.client = connect.NewClient(transport(t, server, inProcess), calls.Client(w.tracer, w.histo))
	return w
}

func transport(t *testing.T, server *connect.Server, inProcess bool) connect.Transport {
	t.Helper()
	if inProcess {
		return connectinprocess.New(server)
	}
	mux := http.NewServeMux()
	connecthttp.Mount(mux, server)
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	return connecthttp.NewTransport(web.Client(), web.URL)
}

// say calls, and returns the client's span and the server's.
func (w *world) say(ctx context.Context, t *testing.T, text string) (client, server sdktrace.ReadOnlySpan) {
	t.Helper()
	var answer wrapperspb.StringValue
	_ = w.client.CallUnary(ctx, spec, wrapperspb.String(text), &answer)
	deadline := time.Now().Add(20 * time.Second)
	for {
		for _, span := range w.recorder.Ended() {
			if span.SpanKind() == trace.SpanKindClient {
				client = span
			} else {
				server = span
			}
		}
		if client != nil && server != nil {
			return client, server
		}
		if time.Now().After(deadline) {
			t.Fatalf("spans: %v", w.recorder.Ended())
		}
		time.Sleep(time.Millisecond)
	}
}

func TestACallOfOursGoesOnInItsTrace(t *testing.T) {
	for _, inProcess := range []bool{false, true} {
		w := newWorld(t, calls.Ours, inProcess)
		client, server := w.say(t.Context(), t, "hello")
		if server.Parent().SpanID() != client.SpanContext().SpanID() || server.SpanContext().TraceID() != client.SpanContext().TraceID() {
			t.Errorf("in process %v: %v is under %v", inProcess, server.SpanContext(), client.SpanContext())
		}
		if client.Name() != "test.v1.Echo/Say" || server.Name() != client.Name() || server.Status().Code != codes.Unset || client.Status().Code != codes.Unset {
			t.Errorf("in process %v: %v, %v", inProcess, client, server)
		}
	}
}

// That a trace is not recorded is decided as well, once.
func TestWhatIsNotRecordedStaysSo(t *testing.T) {
	w := newWorld(t, calls.Ours, false)
	unrecorded := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}})
	var answer wrapperspb.StringValue
	if err := w.client.CallUnary(trace.ContextWithSpanContext(t.Context(), unrecorded), spec, wrapperspb.String("hello"), &answer); err != nil {
		t.Fatal(err)
	}
	if n := len(w.recorder.Ended()); n != 0 {
		t.Errorf("%d spans are recorded", n)
	}
}

func TestACallOfAnybodyBeginsATrace(t *testing.T) {
	w := newWorld(t, calls.Anybody, false)
	client, server := w.say(t.Context(), t, "hello")
	if server.Parent().IsValid() || server.SpanContext().TraceID() == client.SpanContext().TraceID() {
		t.Errorf("the server's span is under %v", server.Parent())
	}
	if len(server.Links()) != 1 || server.Links()[0].SpanContext.SpanID() != client.SpanContext().SpanID() {
		t.Errorf("it is linked to %v", server.Links())
	}
	if !slices.Contains(server.Attributes(), tracing.Always) {
		t.Error("a call that may change something is recorded by chance")
	}
}

// Whoever has not shown to be one of ours decides neither what is recorded nor that it is.
func TestACallOfAStrangerIsRecordedByChanceAlone(t *testing.T) {
	w := newWorld(t, calls.Strangers, false)
	client, server := w.say(t.Context(), t, "hello")
	if server.Parent().IsValid() || server.SpanContext().TraceID() == client.SpanContext().TraceID() {
		t.Errorf("the server's span is under %v", server.Parent())
	}
	if slices.Contains(server.Attributes(), tracing.Always) {
		t.Error("a stranger's call is recorded in any case")
	}
}

func TestWhatBecameOfCalls(t *testing.T) {
	for code, failed := range map[string]bool{"hello": false, "not_found": false, "permission_denied": false, "internal": true, "unavailable": true} {
		w := newWorld(t, calls.Ours, false)
		client, server := w.say(t.Context(), t, code)
		if got := server.Status(); (got.Code == codes.Error) != failed || got.Description != "" {
			t.Errorf("%s: the server's span is %v", code, got)
		}
		if got := client.Status(); (got.Code == codes.Error) != (code != "hello") || got.Description != "" {
			t.Errorf("%s: the client's span is %v", code, got)
		}
		var all metricdata.ResourceMetrics
		if err := w.reader.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		points := all.ScopeMetrics[0].Metrics[0].Data.(metricdata.Histogram[float64]).DataPoints
		want := code
		if code == "hello" {
			want = calls.OK
		}
		if got, _ := points[0].Attributes.Value("code"); len(points) != 1 || points[0].Count != 2 || got.AsString() != want {
			t.Errorf("%s: counted %+v", code, points)
		}
	}
}

func TestCodes(t *testing.T) {
	if len(calls.Codes) != 17 || calls.Codes[0] != calls.OK || calls.Codes[16] != "unauthenticated" {
		t.Errorf("codes are %v", calls.Codes)
	}
}

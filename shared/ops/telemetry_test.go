// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package ops_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"

	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/instrument"
	"gitlab.com/ampora/ampora/shared/ops"
	"gitlab.com/ampora/ampora/shared/ops/otlp"
	"gitlab.com/ampora/ampora/shared/ops/otlp/otlptest"
	"gitlab.com/ampora/ampora/shared/tracing"
)

var program = ops.Program{Name: "ampora-gateway", Instance: "gw-1"}

// open opens the telemetry of a program with a receiver.
func open(t *testing.T, endpoint string, w io.Writer) *ops.Telemetry {
	t.Helper()
	config := ops.Config{LogFormat: ops.LogJSON, TraceRatio: 1, OTLP: otlp.Config{Endpoint: endpoint, Headers: conf.NewSecret("Authorization=Bearer hunter2")}}
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	telemetry, err := ops.Open(config, program, w)
	if err != nil {
		t.Fatal(err)
	}
	return telemetry
}

func TestTracesMetricsAndLogsAreExported(t *testing.T) {
	receiver := otlptest.Start(t)
	var written bytes.Buffer
	telemetry := open(t, receiver.URL, &written)
	made := instrument.On(telemetry.Meter)
	made.Counter("ampora_gateway_messages", "{message}", "Messages.").Add(t.Context(), 3)
	made.Histogram("ampora_gateway_message_duration", "s", "Messages.", instrument.Seconds).Took(t.Context(), time.Second)
	made.Gauge("ampora_gateway_queue_size", "By", "Bytes.", func(observe instrument.Observe) { observe(1.5) })

	ctx, span := telemetry.Tracer.Start(t.Context(), "gateway report")
	telemetry.Log.WarnContext(ctx, "hello", "agent", "a-1", slog.Group("g", "n", 7), "key", conf.NewSecret("hunter2"))
	span.End()
	telemetry.Close()

	spans, logs := receiver.Spans(), receiver.Logs()
	if len(spans) != 1 || spans[0].GetName() != "gateway report" || spans[0].Service != "ampora-gateway" {
		t.Errorf("spans: %v", spans)
	}
	if len(logs) != 1 || !bytes.Equal(logs[0].GetTraceId(), spans[0].GetTraceId()) || !bytes.Equal(logs[0].GetSpanId(), spans[0].GetSpanId()) {
		t.Fatalf("logs: %v", logs)
	}
	if logs[0].GetBody().GetStringValue() != "hello" || logs[0].GetSeverityText() != "WARN" || logs[0].GetSeverityNumber() != 13 ||
		otlptest.Attribute(logs[0].GetAttributes(), "agent").GetStringValue() != "a-1" || otlptest.Attribute(logs[0].GetAttributes(), "g.n").GetIntValue() != 7 ||
		otlptest.Attribute(logs[0].GetAttributes(), "key").GetStringValue() != "[redacted]" {
		t.Errorf("the record is %v", logs[0])
	}
	if !strings.Contains(written.String(), `"trace_id":"`+hex.EncodeToString(spans[0].GetTraceId())) {
		t.Errorf("the log is %s", written.String())
	}
	checkMetrics(t, receiver.Metrics())
	checkResources(t, receiver)
	if got := receiver.Header().Get("Authorization"); got != "Bearer hunter2" {
		t.Errorf("the request is authorized by %q", got)
	}
}

func checkMetrics(t *testing.T, metrics []*metricspb.Metric) {
	t.Helper()
	find := func(name string) *metricspb.Metric {
		i := slices.IndexFunc(metrics, func(m *metricspb.Metric) bool { return m.GetName() == name })
		if i < 0 {
			t.Fatalf("%s was not sent", name)
		}
		return metrics[i]
	}
	if sum := find("ampora_gateway_messages").GetSum(); !sum.GetIsMonotonic() || sum.GetDataPoints()[0].GetAsInt() != 3 {
		t.Errorf("the counter is %v", sum)
	}
	if h := find("ampora_gateway_message_duration").GetHistogram().GetDataPoints()[0]; h.GetCount() != 1 || h.GetSum() != 1 ||
		!slices.Equal(h.GetExplicitBounds(), instrument.Seconds) || len(h.GetBucketCounts()) != len(instrument.Seconds)+1 {
		t.Errorf("the histogram is %v", h)
	}
	if m := find("ampora_gateway_queue_size"); m.GetUnit() != "By" || m.GetDescription() != "Bytes." || m.GetGauge().GetDataPoints()[0].GetAsDouble() != 1.5 {
		t.Errorf("the gauge is %v", m)
	}
}

func checkResources(t *testing.T, receiver *otlptest.Receiver) {
	t.Helper()
	if n := len(receiver.Resources()); n != 3 {
		t.Errorf("%d messages came", n)
	}
	for _, about := range receiver.Resources() {
		for key, want := range map[string]string{
			"service.name": "ampora-gateway", "service.namespace": "ampora", "service.instance.id": "gw-1", "service.version": "dev",
		} {
			if got := otlptest.Attribute(about.GetAttributes(), key).GetStringValue(); got != want {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
		}
	}
}

// Without a receiver nothing leaves the program, and what it logs carries trace ids all the same.
func TestWithoutAReceiver(t *testing.T) {
	var written bytes.Buffer
	telemetry, err := ops.Open(ops.Config{LogFormat: ops.LogJSON, TraceRatio: 1}, program, &written)
	if err != nil {
		t.Fatal(err)
	}
	defer telemetry.Close()
	ctx, span := telemetry.Tracer.Start(t.Context(), "gateway report")
	defer span.End()
	telemetry.Log.InfoContext(ctx, "hello")
	if span.IsRecording() || !strings.Contains(written.String(), span.SpanContext().TraceID().String()) {
		t.Errorf("recording: %v, the log is %s", span.IsRecording(), written.String())
	}
}

// The operations listener shows the program's metrics and checks until it is told to stop.
func TestListen(t *testing.T) {
	telemetry, err := ops.Open(ops.Config{Addr: "127.0.0.1:0", LogFormat: ops.LogJSON}, program, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer telemetry.Close()
	addr, task, err := telemetry.Listen(t.Context(), ops.Check{Name: "gateway", Probe: func(context.Context) error { return errors.New("not yet") }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- task.Run(ctx) }()
	for path, want := range map[string]int{"/health/live": http.StatusOK, "/health/ready": http.StatusServiceUnavailable, "/metrics": http.StatusOK} {
		response, err := http.Get("http://" + addr.String() + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s answers %s", path, response.Status)
		}
	}
	taken, err := ops.Open(ops.Config{Addr: addr.String(), LogFormat: ops.LogJSON}, program, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, _, err := taken.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "AMPORA_OPS_ADDR") {
		t.Errorf("an address that is taken gives %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// A receiver that is away costs bounded queues, one line in the log and a moment at the end.
func TestAReceiverThatIsAway(t *testing.T) {
	receiver := otlptest.Start(t)
	receiver.Close()
	var written bytes.Buffer
	telemetry := open(t, receiver.URL, &written)
	began := time.Now()
	const told = 10_000 // more than the queues hold
	for range told {
		ctx, span := telemetry.Tracer.Start(t.Context(), "gateway report")
		telemetry.Log.DebugContext(ctx, "not logged")
		span.End()
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("telling took %v", took)
	}
	began = time.Now()
	telemetry.Close()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end took %v", took)
	}
	if n := strings.Count(written.String(), "telemetry could not be exported"); n != 1 || strings.Contains(written.String(), "hunter2") {
		t.Errorf("it complained %d times: %s", n, written.String())
	}
	shown := get(t, ops.Handler(ops.Options{Registry: telemetry.Registry, Log: slog.New(slog.DiscardHandler)}), "/metrics").Body.String()
	for _, outcome := range []string{"dropped", "failed"} {
		if strings.Contains(shown, `ampora_otlp_items_total{outcome="`+outcome+`",signal="traces"} 0`) {
			t.Errorf("nothing %s is counted", outcome)
		}
	}
}

func TestTheShareOfTraces(t *testing.T) {
	receiver := otlptest.Start(t)
	config := ops.Config{LogFormat: ops.LogJSON, OTLP: otlp.Config{Endpoint: receiver.URL}} // none, of those that nobody marks
	telemetry, err := ops.Open(config, program, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, report := telemetry.Tracer.Start(t.Context(), "gateway report")
	if report.IsRecording() || tracing.Text(ctx) != "" {
		t.Error("a report is recorded")
	}
	report.End()
	ctx, call := telemetry.Tracer.Start(t.Context(), "Assign", trace.WithAttributes(tracing.Always))
	_, next := tracing.Continue(t.Context(), telemetry.Tracer, tracing.Text(ctx), "engine step")
	if !call.IsRecording() || !next.IsRecording() {
		t.Error("what is always to be recorded is not")
	}
	next.End()
	call.End()
	telemetry.Close()
	if n := len(receiver.Spans()); n != 2 {
		t.Errorf("%d spans came", n)
	}
}

func TestTelemetryConfiguration(t *testing.T) {
	for environ, problem := range map[string]string{
		"": "",
		"AMPORA_OTLP_ENDPOINT=https://collector:4318":                                                         "",
		"AMPORA_OTLP_ENDPOINT=http://collector:4318/base AMPORA_TRACE_RATIO=1":                                "",
		"AMPORA_OTLP_ENDPOINT=http://127.0.0.1:4318 AMPORA_OTLP_HEADERS=Authorization=hunter2==,x-scope=acme": "",
		"AMPORA_OTLP_ENDPOINT=collector:4318":                                                                 "AMPORA_OTLP_ENDPOINT",
		"AMPORA_OTLP_ENDPOINT=grpc://collector:4317":                                                          "AMPORA_OTLP_ENDPOINT",
		"AMPORA_OTLP_ENDPOINT=https://user:hunter2@collector":                                                 "AMPORA_OTLP_ENDPOINT",
		"AMPORA_OTLP_ENDPOINT=http://collector:4318 AMPORA_OTLP_HEADERS=Authorization=hunter2":                "in clear",
		"AMPORA_OTLP_ENDPOINT=https://collector AMPORA_OTLP_HEADERS=hunter2":                                  "AMPORA_OTLP_HEADERS",
		"AMPORA_OTLP_ENDPOINT=https://collector AMPORA_OTLP_HEADERS=a=b,=hunter2":                             "AMPORA_OTLP_HEADERS",
		"AMPORA_OTLP_ENDPOINT=https://collector AMPORA_OTLP_HEADERS=a=hunter2\x01b":                           "AMPORA_OTLP_HEADERS",
		"AMPORA_OTLP_HEADERS=Authorization=hunter2":                                                           "AMPORA_OTLP_ENDPOINT",
		"AMPORA_OTLP_CA_FILE=ca.pem":                                                                          "AMPORA_OTLP_ENDPOINT",
		"AMPORA_OTLP_ENDPOINT=http://collector AMPORA_OTLP_CA_FILE=ca.pem":                                    "AMPORA_OTLP_CA_FILE",
		"AMPORA_TRACE_RATIO=1.5":                                                                              "AMPORA_TRACE_RATIO",
		"AMPORA_TRACE_RATIO=NaN":                                                                              "AMPORA_TRACE_RATIO",
	} {
		config, _, err := conf.Load[ops.Config](strings.Split(environ, " "))
		switch {
		case problem == "" && err != nil:
			t.Errorf("%s: %v", environ, err)
		case problem != "" && (err == nil || !strings.Contains(err.Error(), problem) || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%s: %v, want %s", environ, err, problem)
		case config.OTLP.On() != (problem == "" && strings.Contains(environ, "ENDPOINT")):
			t.Errorf("%s: on is %v", environ, config.OTLP.On())
		}
	}
}

// What is shown on /metrics is called what package instrument says it is.
func TestMetricsAreShownUnderTheirNames(t *testing.T) {
	registry := ops.NewRegistry()
	provider, err := ops.NewMeterProvider(registry)
	if err != nil {
		t.Fatal(err)
	}
	catalogue := &instrument.Catalogue{}
	for _, made := range []*instrument.Set{instrument.On(catalogue), instrument.On(provider.Meter("test"))} {
		made.Counter("ampora_bus_messages", "{message}", "Messages.").Add(t.Context(), 1)
		made.Histogram("ampora_bus_call_duration", "s", "Calls.", instrument.Seconds).Record(t.Context(), 1)
		made.Gauge("ampora_bus_queue_size", "By", "Bytes.", func(o instrument.Observe) { o(1) })
		made.Gauge("ampora_bus_queue", "{message}", "Messages.", func(o instrument.Observe) { o(1) })
		made.Total("ampora_bus_wait", "s", "Waits.", func(o instrument.Observe) { o(1) })
		if made.Err() != nil {
			t.Fatal(made.Err())
		}
	}
	shown := get(t, ops.Handler(ops.Options{Registry: registry, Log: slog.New(slog.DiscardHandler)}), "/metrics").Body.String()
	for _, d := range catalogue.Declared() {
		if want := "\n# TYPE " + d.Shown() + " " + string(d.Kind) + "\n"; !strings.Contains(shown, want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
}

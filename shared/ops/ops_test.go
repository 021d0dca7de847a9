// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package ops_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/ops"
)

func options(log io.Writer, checks ...ops.Check) ops.Options {
	return ops.Options{Checks: checks, Registry: ops.NewRegistry(), Log: ops.NewLogger(log, slog.LevelInfo, ops.LogJSON)}
}

func get(t *testing.T, handler http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	response := httptest.NewRecorder()
	handler.ServeHTTP(response, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return response
}

type answer struct {
	OK     bool
	Build  ops.Build
	Checks []struct {
		Name  string
		OK    bool
		Error string
	}
}

func decode(t *testing.T, response *httptest.ResponseRecorder) (a answer) {
	t.Helper()
	if err := json.Unmarshal(response.Body.Bytes(), &a); err != nil {
		t.Fatalf("%q: %v", response.Body, err)
	}
	return a
}

func check(name string, err error) ops.Check {
	return ops.Check{Name: name, Probe: func(context.Context) error { return err }}
}

func TestHealth(t *testing.T) {
	var log bytes.Buffer
	secret := errors.New("dial postgres://user:hunter2@db")
	for name, c := range map[string]struct {
		checks []ops.Check
		status int
	}{
		"no checks": {nil, http.StatusOK},
		"all hold":  {[]ops.Check{check("database", nil), check("bus", nil)}, http.StatusOK},
		"one fails": {[]ops.Check{check("database", secret), check("bus", nil)}, http.StatusServiceUnavailable},
		"known":     {[]ops.Check{check("bus", fault.New(fault.Unavailable, "BUS_UNAVAILABLE", "the bus is away").WithCause(secret))}, http.StatusServiceUnavailable},
	} {
		handler := ops.Handler(options(&log, c.checks...))
		response := get(t, handler, "/health/ready")
		got := decode(t, response)
		if response.Code != c.status || got.OK != (c.status == http.StatusOK) || len(got.Checks) != len(c.checks) {
			t.Errorf("%s: ready = %d %s", name, response.Code, response.Body)
		}
		for i, check := range got.Checks {
			if check.Name != c.checks[i].Name || check.OK != (check.Error == "") {
				t.Errorf("%s: check %d is %+v", name, i, check)
			}
		}
		if strings.Contains(response.Body.String(), "hunter2") {
			t.Errorf("%s: the cause is told: %s", name, response.Body)
		}
		if response := get(t, handler, "/health/live"); response.Code != http.StatusOK || decode(t, response).Build != ops.Version() {
			t.Errorf("%s: live = %d %s", name, response.Code, response.Body)
		}
	}
	if !strings.Contains(log.String(), "hunter2") {
		t.Error("the log does not have the cause")
	}
}

func TestASlowCheckFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := ops.Check{Name: "hangs", Probe: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		started := time.Now()
		response := get(t, ops.Handler(options(io.Discard, hangs, hangs)), "/health/ready")
		if waited := time.Since(started); waited >= time.Second || response.Code != http.StatusServiceUnavailable {
			t.Errorf("ready = %d %s after %v", response.Code, response.Body, waited)
		}
	})
}

func TestMetrics(t *testing.T) {
	o := options(io.Discard)
	provider, err := ops.NewMeterProvider(o.Registry)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = provider.Shutdown(context.Background()) }()
	counter, err := provider.Meter("test").Int64Counter("ampora.sessions.opened", metric.WithUnit("{session}"))
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), 3)
	body := get(t, ops.Handler(o), "/metrics").Body.String()
	for _, want := range []string{"\nampora_sessions_opened_total 3\n", "\nampora_build_info{", "\ngo_goroutines ", "\nprocess_cpu_seconds_total "} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
}

func TestPaths(t *testing.T) {
	handler := ops.Handler(options(io.Discard))
	for path, want := range map[string]int{
		"/debug/pprof/": 200, "/debug/pprof/goroutine?debug=1": 200, "/debug/pprof/cmdline": 200, "/": 404, "/health": 404,
	} {
		if got := get(t, handler, path).Code; got != want {
			t.Errorf("GET %s = %d, want %d", path, got, want)
		}
	}
	response := httptest.NewRecorder()
	handler.ServeHTTP(response, httptest.NewRequest(http.MethodPost, "/health/live", nil))
	if response.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST = %d", response.Code)
	}
}

func TestServe(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ops.Serve(ctx, listener, options(io.Discard)) }()
	response, err := http.Get("http://" + listener.Addr().String() + "/health/live")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	stop()
	if err := <-ended; err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("Serve = %v after %d", err, response.StatusCode)
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
	if err := ops.Serve(t.Context(), listener, options(io.Discard)); err == nil {
		t.Error("a closed listener was served")
	}
}

func traced(t *testing.T) context.Context {
	t.Helper()
	return trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0xab, 15: 1}, SpanID: trace.SpanID{0xcd, 7: 1},
	}))
}

func TestLogRecordsCarryTheTrace(t *testing.T) {
	for name, c := range map[string]struct {
		log  func(*slog.Logger)
		want string
	}{
		"plain": {func(l *slog.Logger) { l.InfoContext(traced(t), "m", "k", "v") }, `"trace_id":"ab000000000000000000000000000001","span_id":"cd00000000000001","k":"v"}`},
		"attrs": {func(l *slog.Logger) { l.With("a", 1).InfoContext(traced(t), "m") }, `"a":1,"trace_id":"ab000000000000000000000000000001","span_id":"cd00000000000001"}`},
		"groups": {func(l *slog.Logger) {
			l.WithGroup("g").With("a", 1).WithGroup("h").InfoContext(traced(t), "m", "k", "v")
		}, `"trace_id":"ab000000000000000000000000000001","span_id":"cd00000000000001","g":{"a":1,"h":{"k":"v"}}}`},
		"outside": {func(l *slog.Logger) { l.WithGroup("g").InfoContext(t.Context(), "m", "k", "v") }, `"msg":"m","g":{"k":"v"}}`},
		"level":   {func(l *slog.Logger) { l.DebugContext(traced(t), "m") }, ""},
	} {
		var out bytes.Buffer
		c.log(ops.NewLogger(&out, slog.LevelInfo, ops.LogJSON))
		if got := strings.TrimSpace(out.String()); !strings.HasSuffix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %s, want …%s", name, got, c.want)
		}
	}
}

// Siblings of one logger do not see each other's groups and attributes.
func TestLoggersBranch(t *testing.T) {
	var out bytes.Buffer
	parent := ops.NewLogger(&out, slog.LevelInfo, ops.LogText).WithGroup("g").With("a", 1)
	left, right := parent.With("l", 1), parent.With("r", 1)
	left.InfoContext(traced(t), "left")
	right.InfoContext(traced(t), "right")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.HasSuffix(lines[0], "g.a=1 g.l=1") || !strings.HasSuffix(lines[1], "g.a=1 g.r=1") {
		t.Errorf("the log is %q", lines)
	}
}

func TestLoggerIsASlogHandler(t *testing.T) {
	var out bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		out.Reset()
		return ops.NewLogger(&out, slog.LevelInfo, ops.LogJSON).Handler()
	}, func(t *testing.T) (record map[string]any) {
		if err := json.Unmarshal(out.Bytes(), &record); err != nil {
			t.Fatal(err)
		}
		return record
	})
}

func TestLogFormat(t *testing.T) {
	var format ops.LogFormat
	for text, valid := range map[string]bool{"json": true, "text": true, "": false, "JSON": false, "xml": false} {
		if err := format.UnmarshalText([]byte(text)); (err == nil) != valid {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestVersion(t *testing.T) {
	build := ops.Version()
	if build.Version != "dev" || build.Revision == "" || !strings.HasPrefix(build.Go, "go") {
		t.Errorf("Version() = %+v", build)
	}
	if text := build.String(); !strings.Contains(text, "dev") || !strings.Contains(text, build.Go) {
		t.Errorf("String() = %q", text)
	}
}

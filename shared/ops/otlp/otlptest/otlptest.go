// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package otlptest is an OTLP/HTTP receiver for tests: a server that decodes what it is sent as any receiver would, and
// keeps it. It refuses what breaks the protocol, and fails the test for it.
package otlptest

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Receiver is a running receiver.
type Receiver struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex
	status  int
	header  http.Header
	refused int
	spans   []Span
	metrics []*metricspb.Metric
	logs    []*logspb.LogRecord
	about   []*resourcepb.Resource
}

// Span is a span and the service that made it.
type Span struct {
	*tracepb.Span
	Service string
}

// Start starts a receiver that lives as long as the test.
func Start(t *testing.T) *Receiver {
	t.Helper()
	r := &Receiver{t: t, status: http.StatusOK}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// Answer makes it answer with the status from now on; it keeps nothing unless that is 200.
func (r *Receiver) Answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// ServeHTTP takes one request.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := unpacked(request)
	if err != nil || request.Method != http.MethodPost || request.Header.Get("Content-Type") != "application/x-protobuf" {
		r.t.Errorf("%s %s is not OTLP/HTTP: %v, %v", request.Method, request.URL, request.Header, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.header = request.Header.Clone()
	if r.status != http.StatusOK {
		r.refused++
		w.WriteHeader(r.status)
		return
	}
	if err := r.keep(request.URL.Path, body); err != nil {
		r.t.Errorf("%s: %v", request.URL, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func unpacked(request *http.Request) ([]byte, error) {
	if request.Header.Get("Content-Encoding") != "gzip" {
		return io.ReadAll(request.Body)
	}
	unpack, err := gzip.NewReader(request.Body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(unpack)
}

func (r *Receiver) keep(path string, body []byte) error {
	switch path {
	case "/v1/traces":
		var data tracepb.TracesData
		if err := proto.Unmarshal(body, &data); err != nil {
			return err
		}
		r.keepSpans(&data)
	case "/v1/metrics":
		var data metricspb.MetricsData
		if err := proto.Unmarshal(body, &data); err != nil {
			return err
		}
		for _, resource := range data.GetResourceMetrics() {
			r.about = append(r.about, resource.GetResource())
			for _, scope := range resource.GetScopeMetrics() {
				r.metrics = append(r.metrics, scope.GetMetrics()...)
			}
		}
	case "/v1/logs":
		var data logspb.LogsData
		if err := proto.Unmarshal(body, &data); err != nil {
			return err
		}
		for _, resource := range data.GetResourceLogs() {
			r.about = append(r.about, resource.GetResource())
			for _, scope := range resource.GetScopeLogs() {
				r.logs = append(r.logs, scope.GetLogRecords()...)
			}
		}
	default:
		r.t.Errorf("nothing of OTLP/HTTP is at %s", path)
	}
	return nil
}

func (r *Receiver) keepSpans(data *tracepb.TracesData) {
	for _, resource := range data.GetResourceSpans() {
		r.about = append(r.about, resource.GetResource())
		service := Attribute(resource.GetResource().GetAttributes(), "service.name").GetStringValue()
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				r.spans = append(r.spans, Span{span, service})
			}
		}
	}
}

// Lineage returns a span and those above it among the spans, the first of them first.
func Lineage(spans []Span, of Span) []Span {
	byID := make(map[string]Span, len(spans))
	for _, s := range spans {
		byID[string(s.GetSpanId())] = s
	}
	lineage := []Span{of}
	for above, found := byID[string(of.GetParentSpanId())]; found; above, found = byID[string(above.GetParentSpanId())] {
		lineage = append(lineage, above)
	}
	slices.Reverse(lineage)
	return lineage
}

// Attribute returns the value of a key, or nil.
func Attribute(attributes []*commonpb.KeyValue, key string) *commonpb.AnyValue {
	for _, attribute := range attributes {
		if attribute.GetKey() == key {
			return attribute.GetValue()
		}
	}
	return nil
}

// Spans are the spans received so far.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// Metrics are the metrics received so far, each as often as it was sent.
func (r *Receiver) Metrics() []*metricspb.Metric {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.metrics)
}

// Logs are the log records received so far.
func (r *Receiver) Logs() []*logspb.LogRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.logs)
}

// Resources are who sent what was received, once for each message.
func (r *Receiver) Resources() []*resourcepb.Resource {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.about)
}

// Text is everything received so far, for looking for what must not be in it.
func (r *Receiver) Text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var text strings.Builder
	for _, s := range r.spans {
		fmt.Fprintln(&text, s.Span)
	}
	for _, m := range r.metrics {
		fmt.Fprintln(&text, m)
	}
	for _, l := range r.logs {
		fmt.Fprintln(&text, l)
	}
	for _, a := range r.about {
		fmt.Fprintln(&text, a)
	}
	return text.String()
}

// Header is that of the last request.
func (r *Receiver) Header() http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.header
}

// Refused is how many requests were answered with another status than 200.
func (r *Receiver) Refused() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/bus/inproc"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/tracing"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// step is the traceparent of a step in a trace.
func step(trace, span byte) fleet.Traceparent {
	return fleet.Traceparent(fmt.Sprintf("00-4bf92f3577b34da6a3ce929d0e0e47%02x-00f067aa0ba902%02x-01", trace, span))
}

// Batches keep to one trace, and all that nobody records share one.
func TestBatchesKeepToOneTrace(t *testing.T) {
	var due []fleet.Dispatch
	for i, trace := range []fleet.Traceparent{step(1, 1), "", step(2, 1), step(1, 2), "", "not a traceparent"} {
		due = append(due, fleet.Dispatch{Tenant: "acme", Gateway: "gw-1", Kind: fleet.DispatchConfig, Agent: fleet.AgentID(fmt.Sprint(i)), Trace: trace})
	}
	var got []string
	for _, batch := range grouped(due) {
		agents := ""
		for _, d := range batch {
			agents += string(d.Agent)
		}
		got = append(got, agents)
	}
	if !slices.Equal(got, []string{"03", "145", "2"}) {
		t.Errorf("the batches are %v", got)
	}
}

// A batch is sent under the first of its steps, with links to the others, as many as are worth it.
func TestTheSpanOfABatch(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	o := &Outbox{d: Deps{Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")}}
	var batch []fleet.Dispatch
	for i := range byte(100) {
		batch = append(batch, fleet.Dispatch{Trace: step(1, i+1)})
	}
	_, span := o.begin(t.Context(), batch)
	span.End()
	sent := recorder.Ended()[0]
	if parent := sent.Parent().SpanID().String(); parent != "00f067aa0ba90201" || len(sent.Links()) != maxLinks {
		t.Errorf("it is under %s with %d links", parent, len(sent.Links()))
	}
	_, none := o.begin(t.Context(), []fleet.Dispatch{{}})
	none.End()
	if n := len(recorder.Ended()); n != 1 {
		t.Errorf("%d spans are recorded", n)
	}
}

// Letters name the span that posted them, and none if nothing is recorded.
func TestLettersNameTheirTrace(t *testing.T) {
	recorder, shelves := tracetest.NewSpanRecorder(), inproc.New(inproc.Options{})
	o := &Outbox{d: Deps{
		Bus: shelves, Signer: NewSigner(make([]byte, 32)), Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test"),
	}}
	letters := func(trace fleet.Traceparent) (named []string) {
		t.Helper()
		var batch []fleet.Dispatch
		var names []string
		for _, agent := range []fleet.AgentID{"a", "b"} {
			batch = append(batch, fleet.Dispatch{Tenant: "acme", Agent: agent, Kind: fleet.DispatchFullState, Gateway: "gw-1", Transport: fleet.TransportHTTP, Trace: trace})
			names = append(names, uplink.MailRegister("acme", identity.AgentID(agent), relayv1.Downlink_KIND_FULL_STATE.String()))
		}
		if err := o.post(t.Context(), batch, time.Now()); err != nil {
			t.Fatal(err)
		}
		values, err := shelves.Get(t.Context(), bus.Mail, names...)
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range values {
			var signed relayv1.SignedDownlink
			var asked relayv1.Downlink
			if err := errors.Join(proto.Unmarshal(value, &signed), proto.Unmarshal(signed.GetDownlink(), &asked)); err != nil {
				t.Fatal(err)
			}
			named = append(named, asked.GetTraceparent())
		}
		return named
	}
	for _, named := range letters(step(1, 1)) {
		posted := recorder.Ended()[0].SpanContext()
		if got, recorded := tracing.Parse(named); !recorded || got.SpanID() != posted.SpanID() || got.TraceID() != posted.TraceID() {
			t.Errorf("a letter names %q, it was posted in %v", named, posted)
		}
	}
	if named := letters(""); !slices.Equal(named, []string{"", ""}) || len(recorder.Ended()) != 1 {
		t.Errorf("without a trace letters name %q", named)
	}
}

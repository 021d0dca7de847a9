// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"maps"
	"testing"

	"github.com/open-telemetry/opamp-go/protobufs"

	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	"gitlab.com/ampora/ampora/shared/tracing"
)

// traceOf is the trace that a traceparent names, "" if that is not recorded.
func traceOf(traceparent string) string {
	if named, recorded := tracing.Parse(traceparent); recorded {
		return named.TraceID().String()
	}
	return ""
}

const (
	asked   = "4bf92f3577b34da6a3ce929d0e0e4736"
	inAsked = "00-" + asked + "-00f067aa0ba902b7-01"

	applying = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING
	applied  = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED
)

// word is what an agent says of an offer.
func word(status protobufs.RemoteConfigStatuses, hash []byte) *protobufs.AgentToServer {
	return &protobufs.AgentToServer{
		Capabilities: uint64(remoteConfig), RemoteConfigStatus: &protobufs.RemoteConfigStatus{LastRemoteConfigHash: hash, Status: status},
	}
}

// spansIn counts the spans of a trace that have ended, by name.
func (w *world) spansIn(trace string) map[string]int {
	counts := map[string]int{}
	for _, span := range w.spans.Ended() {
		if span.SpanContext().TraceID().String() == trace {
			counts[span.Name()]++
		}
	}
	return counts
}

// What an agent says to an offer is said in the offer's trace, up to its last word; what it says by itself is not.
func TestTheTraceOfAnOffer(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(remoteConfig))
	if own := traceOf(w.uplink(w.agent.ID, isReport).GetTraceparent()); own == "" || own == asked {
		t.Errorf("the first report is in the trace %q", own)
	}
	offer := w.configDownlink(1, w.control.AddBody([]byte("receivers: {}")))
	offer.Traceparent = inAsked
	w.downlink(offer)
	hash := agent.Receive().GetRemoteConfig().GetConfigHash()
	if got := traceOf(w.uplink(w.agent.ID, isDelivery).GetTraceparent()); got != asked {
		t.Errorf("the delivery is in the trace %q", got)
	}
	say := func(status protobufs.RemoteConfigStatuses, hash []byte) string {
		agent.Exchange(word(status, hash))
		return traceOf(w.uplink(w.agent.ID, isReport).GetTraceparent())
	}
	for i, said := range []struct {
		status protobufs.RemoteConfigStatuses
		hash   []byte
		in     bool
	}{{applied, []byte("another"), false}, {applying, hash, true}, {applied, hash, true}, {applied, hash, false}} {
		if got := say(said.status, said.hash); (got == asked) != said.in || got == "" {
			t.Errorf("word %d is in the trace %q", i, got)
		}
	}
	w.eventually("the trace is whole", func() bool {
		return maps.Equal(w.spansIn(asked), map[string]int{"gateway downlink": 1, "gateway deliver config": 1, "gateway report": 2})
	})
}

// An offer in a letter has its trace as well, and its answer goes on in it at whichever gateway it comes to.
func TestTheTraceOfALetter(t *testing.T) {
	a, b, agent := pair(t)
	agent.at(a).poll(gatewaytest.Full(remoteConfig))
	a.uplink(a.agent.ID, isReport)
	letter := a.configDownlink(1, a.control.AddBody([]byte("receivers: {}")))
	letter.Traceparent = inAsked
	a.mail(letter)
	hash := agent.at(a).poll(beat()).GetRemoteConfig().GetConfigHash()
	if got := traceOf(a.uplink(a.agent.ID, isDelivery).GetTraceparent()); got != asked {
		t.Errorf("the delivery is in the trace %q", got)
	}
	for i, said := range []struct {
		at     *world
		status protobufs.RemoteConfigStatuses
		in     bool
	}{{b, applying, true}, {a, applied, true}, {a, applied, false}} {
		agent.at(said.at).poll(word(said.status, hash))
		if got := traceOf(a.uplink(a.agent.ID, isReport).GetTraceparent()); (got == asked) != said.in || got == "" {
			t.Errorf("word %d is in the trace %q", i, got)
		}
	}
	a.eventually("the trace is whole", func() bool {
		return maps.Equal(a.spansIn(asked), map[string]int{"gateway downlink": 1, "gateway deliver config": 1, "gateway report": 1}) &&
			maps.Equal(b.spansIn(asked), map[string]int{"gateway downlink": 1, "gateway report": 1})
	})
}

// Heartbeats end in the gateway, without a trace.
func TestHeartbeatsHaveNoTrace(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(remoteConfig))
	w.eventually("the report's span has ended", func() bool { return len(w.spans.Ended()) > 0 })
	before := len(w.spans.Started())
	for range 10 {
		agent.Exchange(&protobufs.AgentToServer{Capabilities: uint64(protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus | remoteConfig)})
	}
	if n := len(w.spans.Started()) - before; n != 0 {
		t.Errorf("10 heartbeats made %d spans", n)
	}
}

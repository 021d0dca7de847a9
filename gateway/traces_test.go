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

// What an agent says to an offer is said in the offer's trace, up to its last word; what it says by itself is not.
func TestTheTraceOfAnOffer(t *testing.T) {
	const asked = "4bf92f3577b34da6a3ce929d0e0e4736"
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(remoteConfig))
	if own := traceOf(w.uplink(w.agent.ID, isReport).GetTraceparent()); own == "" || own == asked {
		t.Errorf("the first report is in the trace %q", own)
	}
	offer := w.configDownlink(1, w.control.AddBody([]byte("receivers: {}")))
	offer.Traceparent = "00-" + asked + "-00f067aa0ba902b7-01"
	w.downlink(offer)
	hash := agent.Receive().GetRemoteConfig().GetConfigHash()
	if got := traceOf(w.uplink(w.agent.ID, isDelivery).GetTraceparent()); got != asked {
		t.Errorf("the delivery is in the trace %q", got)
	}
	say := func(status protobufs.RemoteConfigStatuses, hash []byte) string {
		agent.Exchange(&protobufs.AgentToServer{
			Capabilities: uint64(remoteConfig), RemoteConfigStatus: &protobufs.RemoteConfigStatus{LastRemoteConfigHash: hash, Status: status},
		})
		return traceOf(w.uplink(w.agent.ID, isReport).GetTraceparent())
	}
	const applying, applied = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING, protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED
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
		counts := map[string]int{}
		for _, span := range w.spans.Ended() {
			if span.SpanContext().TraceID().String() == asked {
				counts[span.Name()]++
			}
		}
		return maps.Equal(counts, map[string]int{"gateway downlink": 1, "gateway deliver config": 1, "gateway report": 2})
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

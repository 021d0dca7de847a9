// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"testing"

	"github.com/open-telemetry/opamp-go/protobufs"
	"go.opentelemetry.io/otel/attribute"

	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
)

// What an operator sees of one agent that comes, misses a message, is asked for something and goes.
func TestMetrics(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(remoteConfig))
	websocket := attribute.String("transport", "websocket")
	for name, want := range map[string]struct {
		value  float64
		labels []attribute.KeyValue
	}{
		"ampora_gateway_sessions":           {1, []attribute.KeyValue{websocket}},
		"ampora_gateway_sessions_started":   {1, []attribute.KeyValue{websocket}},
		"ampora_gateway_messages":           {1, []attribute.KeyValue{websocket}},
		"ampora_gateway_message_duration":   {1, []attribute.KeyValue{websocket}},
		"ampora_gateway_handshake_duration": {1, []attribute.KeyValue{attribute.String("outcome", "done")}},
		"ampora_gateway_connections":        {1, nil},
		"ampora_gateway_uplinks":            {1, []attribute.KeyValue{attribute.String("kind", "report"), attribute.String("outcome", "queued")}},
	} {
		if got := w.shows(name, want.labels...); got != want.value {
			t.Errorf("%s shows %v, want %v", name, got, want.value)
		}
	}
	if left := w.shows("ampora_gateway_lease_remaining"); left <= 0 {
		t.Errorf("the lease has %v s left", left)
	}
	if age := w.shows("ampora_gateway_trust_age"); age <= 0 || age > 60 {
		t.Errorf("the trust is %v s old", age)
	}

	agent.Skip(1)
	agent.Exchange(&protobufs.AgentToServer{Capabilities: uint64(remoteConfig), Health: &protobufs.ComponentHealth{Healthy: true}})
	w.downlink(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_FULL_STATE, Targets: w.target(w.agent, 0)})
	agent.Receive()
	for _, reason := range []string{"missed", "control"} {
		if n := w.count("ampora_gateway_full_state_requests", "reason", reason); n != 1 {
			t.Errorf("full state was asked for %d times because %s", n, reason)
		}
	}
	w.eventually("the downlink is counted", func() bool { return w.count("ampora_gateway_downlinks", "kind", "full_state") == 1 })
	agent.Exchange(&protobufs.AgentToServer{AgentDisconnect: &protobufs.AgentDisconnect{}})
	if n := w.count("ampora_gateway_sessions_ended", "reason", "AGENT_DISCONNECT"); n != 1 || w.sessions() != 0 {
		t.Errorf("%d ends are counted, %d sessions live", n, w.sessions())
	}
}

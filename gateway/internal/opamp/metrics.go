// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/shared/instrument"

	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
)

// metrics is what is measured of the talk with agents.
type metrics struct {
	received  instrument.Counter
	took      instrument.Histogram
	started   instrument.Counter
	drained   instrument.Counter
	fullState instrument.Counter
}

func newMetrics(meter metric.Meter) (metrics, error) {
	made := instrument.On(meter)
	transport := instrument.By("transport", "websocket", "http")
	return metrics{
		received: made.Counter("ampora_gateway_messages", "{message}", "Messages received from agents.", transport),
		took: made.Histogram("ampora_gateway_message_duration", "s",
			"Time from a message of an agent to its answer, with the claim of its session and the storing of its bodies.", instrument.Seconds, transport),
		started: made.Counter("ampora_gateway_sessions_started", "{session}", "Sessions of agents that began, without those of agents that poll which went on from another gateway.", transport),
		drained: made.Counter("ampora_gateway_drained", "{session}", "Connections ended and polling sessions let go because the gateway stopped."),
		fullState: made.Counter("ampora_gateway_full_state_requests", "{request}",
			"Agents asked for their full state: because a message of theirs was missed (or the control plane asked, if they poll), or because the control plane asked for it.",
			instrument.By("reason", missed, asked)),
	}, made.Err()
}

// The reasons to ask for the full state.
const (
	missed = "missed"
	asked  = "control"
)

// transportNames are the values of the label transport.
var transportNames = map[internalv1.Transport]string{
	internalv1.Transport_TRANSPORT_HTTP:      "http",
	internalv1.Transport_TRANSPORT_WEBSOCKET: "websocket",
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"

	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/gateway/internal/session"
	"gitlab.com/ampora/ampora/shared/instrument"
)

// countEnds counts the sessions that end, before end is told.
func countEnds(meter metric.Meter, end func(*session.Session, session.EndReason)) (func(*session.Session, session.EndReason), error) {
	made := instrument.On(meter)
	ended := made.Counter("ampora_gateway_sessions_ended", "{session}", "Sessions of agents that ended, by why.",
		instrument.By("reason", session.EndReasons()...))
	return func(s *session.Session, reason session.EndReason) {
		ended.Add(context.Background(), 1, string(reason))
		end(s, reason)
	}, made.Err()
}

// measure declares what the gateway shows of its parts.
func (g *Gateway) measure(meter metric.Meter, registry *session.Registry) error {
	made := instrument.On(meter)
	made.Gauge("ampora_gateway_sessions", "{session}", "Live sessions of agents. That of one that polls counts at each gateway that it came to lately.", func(observe instrument.Observe) {
		polling := registry.LenPolling()
		observe(float64(registry.Len()-polling), "websocket")
		observe(float64(polling), "http")
	}, instrument.By("transport", "websocket", "http"))
	made.Gauge("ampora_gateway_connections", "{connection}", "Open connections, whoever holds them.",
		func(observe instrument.Observe) { observe(float64(g.server.Open())) })
	made.Gauge("ampora_gateway_trust_age", "s", "Age of the trust snapshot. Past AMPORA_TRUST_MAX_AGE nobody is admitted.",
		func(observe instrument.Observe) {
			if age, known := g.trust.Age(); known {
				observe(age.Seconds())
			}
		})
	made.Gauge("ampora_gateway_ocsp_staple_remaining", "s", "For how long the OCSP staple of the server certificate is still good, if the certificate names a responder. It is replaced when half of its life is over.",
		func(observe instrument.Observe) {
			if left, wanted := g.stapler.Left(); wanted {
				observe(left.Seconds())
			}
		})
	made.Gauge("ampora_gateway_lease_remaining", "s", "What is left of the lease from the control plane. Without one nobody is admitted.",
		func(observe instrument.Observe) { observe(g.lease.Remaining().Seconds()) })
	return made.Err()
}

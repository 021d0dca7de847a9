// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"connectrpc.com/connect/v2"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/shared/calls"
	"gitlab.com/ampora/ampora/shared/instrument"
)

// ObserveCalls returns the interceptor to make [Deps.Control] with, or to give to [Member.Observe]: it measures the calls of the control plane and
// carries their traces there.
func ObserveCalls(tracer trace.Tracer, meter metric.Meter) (connect.ClientInterceptor, error) {
	made := instrument.On(meter)
	took := calls.Duration(made, "ampora_gateway_control_call_duration", "Calls of the control plane's internal service.", "ampora.internal.v1")
	return calls.Client(tracer, took), made.Err()
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"net/netip"

	"connectrpc.com/connect/v2"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/tracing"
)

type byKey struct{}

func withBy(ctx context.Context, by fleet.By) context.Context {
	return context.WithValue(ctx, byKey{}, by)
}

// By says on whose behalf a call runs: handlers take it at their first line and hand it on as an argument. Its time is
// that of the call's admission, in UTC. It panics outside a call that was admitted: nothing may be done for nobody.
func By(ctx context.Context) fleet.By {
	by, ok := ctx.Value(byKey{}).(fleet.By)
	if !ok {
		panic("auth: By outside a call that the interceptor admitted")
	}
	return by
}

// caller is what is known of a call before its principal is.
func (g *gate) caller(ctx context.Context) fleet.By {
	by := fleet.By{At: g.Now().UTC()}
	if info, ok := connect.CallInfoForServerContext(ctx); ok {
		if peer, err := netip.ParseAddrPort(info.PeerAddr); err == nil {
			by.Source = peer.Addr().Unmap().String()
		}
	}
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		by.TraceID = span.TraceID().String()
	}
	by.Trace = fleet.Traceparent(tracing.Text(ctx))
	return by
}

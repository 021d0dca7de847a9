// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/fault"
)

// NewInternalInterceptor returns the interceptor of the service that gateways call: the same checks of requests and the
// same one answer for every error. Who the caller is was decided by the transport, which is the process or, between
// processes, mutual TLS.
func NewInternalInterceptor(log *slog.Logger) (connect.ServerInterceptor, error) {
	rules, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("compile validation rules: %w", err)
	}
	g := &gate{Config: Config{Log: log}, rules: rules}
	return func(next connect.ServerFunc) connect.ServerFunc {
		return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
			err := guarded(func() error { return next(ctx, spec, &validatedStream{ServerStream: stream, rules: g.rules}) })
			return g.answer(ctx, spec, fleet.By{}, err)
		}
	}, nil
}

// guarded turns a panic of do into an error with its stack.
func guarded(do func() error) (err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			err = fault.From(fmt.Errorf("panic: %v\n%s", recovered, debug.Stack()))
		}
	}()
	return do()
}

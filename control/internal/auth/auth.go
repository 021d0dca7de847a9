// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Times of a call.
const (
	// UnaryTimeout is how long a call that is no stream may take.
	UnaryTimeout = 30 * time.Second
	// RecheckInterval is how long a stream goes on sending before its principal is looked at again.
	RecheckInterval = 15 * time.Second
	// refusalTimeout is how long the record of a refusal may take, however soon the caller hangs up.
	refusalTimeout = 5 * time.Second
)

// Secrets is how callers are known.
type Secrets interface {
	store.Access
	// TokenPoolByHash finds the pool of a present or former secret, in any tenant and any state. ErrNotFound.
	TokenPoolByHash(ctx context.Context, hash [32]byte) (fleet.TokenPool, error)
}

// Config is what an interceptor needs. All fields but Development are required.
type Config struct {
	Tokens Secrets
	Log    *slog.Logger
	Now    func() time.Time
	// Development admits callers of this machine without a token (see the conditions in development.go). It is for the
	// all-in-one program in development mode and nothing else.
	Development bool
	// DevelopmentTenant is the tenant of those callers.
	DevelopmentTenant fleet.TenantID
}

// gate is the interceptor's state: its configuration and compiled validation rules.
type gate struct {
	Config
	rules protovalidate.Validator
}

// NewInterceptor returns the interceptor. It must be the outermost of its server that
// makes errors, or those of others go out unmapped.
func NewInterceptor(c Config) (connect.ServerInterceptor, error) {
	rules, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("compile validation rules: %w", err)
	}
	g := &gate{Config: c, rules: rules}
	return func(next connect.ServerFunc) connect.ServerFunc {
		return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
			by, err := g.serve(ctx, spec, stream, next)
			return g.answer(ctx, spec, by, err)
		}
	}, nil
}

// serve runs one call. It returns by whom it was, as far as that became known.
func (g *gate) serve(ctx context.Context, spec connect.Spec, stream connect.ServerStream, next connect.ServerFunc) (by fleet.By, err error) {
	ctx, cancel := limited(ctx, spec)
	defer cancel()
	err = guarded(func() (err error) {
		if by, err = g.admit(ctx, spec); err != nil {
			return err
		}
		if spec.StreamType != connect.StreamTypeUnary {
			again := func() error { _, err := g.admit(ctx, spec); return err }
			stream = &recheckedStream{ServerStream: stream, recheck: again, now: g.Now, last: by.At}
		}
		err = next(withBy(ctx, by), spec, &validatedStream{ServerStream: stream, rules: g.rules})
		if refused := fault.From(err); refused != nil && refused.Kind == fault.PermissionDenied {
			g.recordRefusal(ctx, spec, by, refused.Reason)
		}
		return err
	})
	return by, err
}

// limited gives a call that is no stream its time.
func limited(ctx context.Context, spec connect.Spec) (context.Context, context.CancelFunc) {
	if spec.StreamType == connect.StreamTypeUnary {
		return context.WithTimeout(ctx, UnaryTimeout)
	}
	return context.WithCancel(ctx)
}

// admit finds the principal of the call and whether the procedure is for it.
func (g *gate) admit(ctx context.Context, spec connect.Spec) (fleet.By, error) {
	by := g.caller(ctx)
	principal, err := g.principal(ctx, spec, by.At)
	by.Principal, by.Tenant = principal, principal.Tenant
	if err != nil {
		if principal.ID != "" { // of a token that once was good
			g.recordRefusal(ctx, spec, by, fault.From(err).Reason)
		}
		return by, err
	}
	if err := permit(principal, spec); err != nil {
		g.recordRefusal(ctx, spec, by, err.Reason)
		return by, err
	}
	return by, nil
}

// recordRefusal counts a refusal in the audit log. The caller's hanging up does not stop it.
func (g *gate) recordRefusal(ctx context.Context, spec connect.Spec, by fleet.By, reason string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusalTimeout)
	defer cancel()
	err := g.Tokens.RecordRefusal(ctx, fleet.Refusal{By: by, Action: actionOf(spec), Reason: reason})
	if err != nil {
		g.Log.ErrorContext(ctx, "refusal not recorded", slog.String("procedure", spec.Procedure), slog.String("reason", reason), slog.Any("error", err))
	}
}

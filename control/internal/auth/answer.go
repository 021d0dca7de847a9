// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Reasons of what the store refuses.
const (
	ReasonNotFound         = "NOT_FOUND"
	ReasonAlreadyExists    = "ALREADY_EXISTS"
	ReasonChangedMeanwhile = "CHANGED_MEANWHILE"
	ReasonWrongState       = "WRONG_STATE"
	ReasonGroupKind        = "GROUP_KIND"
	ReasonUnavailable      = "UNAVAILABLE"
	// ReasonLeaseLost: a gateway must register anew (ampora.internal.v1).
	ReasonLeaseLost = "LEASE_LOST"
	// ReasonMalformed: the request cannot be decoded.
	ReasonMalformed = "MALFORMED_REQUEST"
)

// sentinels says what the store's errors are to a caller.
var sentinels = []struct {
	err    error
	answer *fault.Error
}{
	{store.ErrNotFound, fault.New(fault.NotFound, ReasonNotFound, "there is no such thing")},
	{store.ErrExists, fault.New(fault.AlreadyExists, ReasonAlreadyExists, "the name is taken")},
	{store.ErrConflict, fault.New(fault.Conflict, ReasonChangedMeanwhile, "it was changed meanwhile; read it again")},
	{store.ErrState, fault.New(fault.FailedPrecondition, ReasonWrongState, "its state does not allow this")},
	{store.ErrDynamic, fault.New(fault.FailedPrecondition, ReasonGroupKind, "a dynamic group chooses its members itself, a static one does not; a group keeps its kind")},
	{store.ErrLeaseLost, fault.New(fault.FailedPrecondition, ReasonLeaseLost, "the gateway's lease is lost; register anew")},
	{store.ErrContended, fault.New(fault.Unavailable, ReasonUnavailable, "others are changing the same at the moment; try again")},
	{store.ErrUnavailable, fault.New(fault.Unavailable, ReasonUnavailable, "the database cannot be used at the moment")},
}

// codes are the kinds of a fault on the wire.
var codes = map[fault.Kind]connect.Code{
	fault.Internal:           connect.CodeInternal,
	fault.Invalid:            connect.CodeInvalidArgument,
	fault.NotFound:           connect.CodeNotFound,
	fault.AlreadyExists:      connect.CodeAlreadyExists,
	fault.Conflict:           connect.CodeAborted,
	fault.FailedPrecondition: connect.CodeFailedPrecondition,
	fault.PermissionDenied:   connect.CodePermissionDenied,
	fault.Unauthenticated:    connect.CodeUnauthenticated,
	fault.ResourceExhausted:  connect.CodeResourceExhausted,
	fault.Unavailable:        connect.CodeUnavailable,
	fault.Canceled:           connect.CodeCanceled,
	fault.DeadlineExceeded:   connect.CodeDeadlineExceeded,
}

// answer is the one place in which errors of the API become answers, and the one that logs them.
func (g *gate) answer(ctx context.Context, spec connect.Spec, by fleet.By, err error) error {
	if err == nil {
		return nil
	}
	answer := publicly(err)
	code, known := codes[answer.Kind]
	if !known {
		code = connect.CodeInternal
	}
	attributes := []slog.Attr{
		slog.String("procedure", spec.Procedure), slog.String("code", code.String()), slog.String("reason", answer.Reason),
		slog.String("principal_id", by.Principal.ID), slog.String("tenant", string(by.Tenant)), slog.String("source", by.Source),
	}
	// The private half alone: the public one may repeat what the caller sent.
	if cause := errors.Unwrap(answer); cause != nil {
		attributes = append(attributes, slog.String("cause", cause.Error()))
	}
	g.Log.LogAttrs(ctx, levelOf(answer.Kind), "call failed", attributes...)
	return wire(code, answer)
}

// publicly is err as a fault: one that already is, a sentinel of the store, what the transport found wrong with the
// request, or an internal error that says nothing.
func publicly(err error) *fault.Error {
	var already *fault.Error
	if errors.As(err, &already) {
		return already
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return s.answer.WithCause(err)
		}
	}
	var transport *connect.Error
	if errors.As(err, &transport) && !transport.IsRemote() {
		return fromTransport(transport)
	}
	return fault.From(err)
}

// fromTransport takes over what package connecthttp says of a request it could not read. Its words may repeat some of
// the request; they go back to the caller and not into the log.
func fromTransport(e *connect.Error) *fault.Error {
	switch e.Code() {
	case connect.CodeInvalidArgument:
		return fault.New(fault.Invalid, ReasonMalformed, "%s", e.Message())
	case connect.CodeResourceExhausted:
		return fault.New(fault.ResourceExhausted, "REQUEST_TOO_LARGE", "%s", e.Message())
	case connect.CodeCanceled, connect.CodeDeadlineExceeded:
		kind := fault.Canceled
		if e.Code() == connect.CodeDeadlineExceeded {
			kind = fault.DeadlineExceeded
		}
		return fault.New(kind, strings.ToUpper(e.Code().String()), "the call ended early")
	default:
		return fault.From(errors.New(e.Error()))
	}
}

// levelOf: our mistakes are errors, a broken surrounding is a warning, the rest is everyday.
func levelOf(kind fault.Kind) slog.Level {
	switch kind {
	case fault.Internal:
		return slog.LevelError
	case fault.Unavailable, fault.Unauthenticated, fault.PermissionDenied:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// wire is the answer as it is sent: code, sentence and ErrorInfo.
func wire(code connect.Code, answer *fault.Error) error {
	sent := connect.NewError(code, answer.Message)
	detail, err := connectproto.NewErrorDetail(&amporav1.ErrorInfo{Reason: answer.Reason, Metadata: answer.Metadata()})
	if err != nil { // text that is not UTF-8
		return sent
	}
	return sent.WithDetail(detail)
}

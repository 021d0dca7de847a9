// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package fault is the vocabulary of errors that both halves of Ampora share.
//
// An [Error] has a public half (kind, reason, message, metadata), which a caller
// on the other side of a wire may see, and a private half (the cause), which only
// logs see. The guarantees: the public half never holds anything of the cause;
// [From] turns every error into an Error and discloses nothing of one it does not
// know; an Error is immutable, so a package-level value may be shared and refined
// with [Error.WithCause] and [Error.With] by many goroutines.
//
// Errors are wrapped once, where something is known about them, and mapped once,
// at the edge: log the error itself, answer with From(err).
package fault

import (
	"context"
	"errors"
	"fmt"
	"maps"
)

// Kind is the class of an error, by what the caller can do about it.
type Kind uint8

// The kinds. The zero Kind is Internal, so that a forgotten kind discloses nothing.
const (
	Internal           Kind = iota // our mistake; the caller cannot help it
	Invalid                        // the request is wrong whatever the state
	NotFound                       // it does not exist, or not for this caller
	AlreadyExists                  // its name or key is taken
	Conflict                       // a guarded write lost: read again, decide again
	FailedPrecondition             // the state forbids it until somebody changes the state
	PermissionDenied               // known caller, not allowed
	Unauthenticated                // unknown caller
	ResourceExhausted              // a quota or bound is reached; less or later may work
	Unavailable                    // a part is away; the same request may work later
	Canceled                       // the caller went away
	DeadlineExceeded               // the caller's time ran out
)

var kindNames = [...]string{
	Internal: "internal", Invalid: "invalid", NotFound: "not found", AlreadyExists: "already exists",
	Conflict: "conflict", FailedPrecondition: "failed precondition", PermissionDenied: "permission denied",
	Unauthenticated: "unauthenticated", ResourceExhausted: "resource exhausted", Unavailable: "unavailable",
	Canceled: "canceled", DeadlineExceeded: "deadline exceeded",
}

// String is the kind in lower-case words; "internal" for a number that is no kind.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Internal]
}

// Reasons that [From] gives to errors that are no [Error].
const (
	ReasonInternal         = "INTERNAL"
	ReasonCanceled         = "CANCELED"
	ReasonDeadlineExceeded = "DEADLINE_EXCEEDED"
)

// Error is an error with a public and a private half. Make one with [New].
type Error struct {
	Kind    Kind
	Reason  string // UPPER_SNAKE; part of the API: machines compare it
	Message string // a public sentence for people; free to change

	metadata map[string]string // public
	cause    error             // private
}

// New makes an error. The message is formatted as by fmt.Sprintf and is public:
// give it no cause and no secret.
func New(kind Kind, reason, format string, args ...any) *Error {
	return &Error{Kind: kind, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// WithCause returns a copy with a private cause, which replaces any earlier one.
// errors.Is and errors.As see the cause; callers across a wire do not.
func (e *Error) WithCause(cause error) *Error {
	changed := *e
	changed.cause = cause
	return &changed
}

// With returns a copy with one more piece of public metadata; a second value for
// a key replaces the first.
func (e *Error) With(key, value string) *Error {
	changed := *e
	changed.metadata = maps.Clone(e.metadata)
	if changed.metadata == nil {
		changed.metadata = make(map[string]string, 1)
	}
	changed.metadata[key] = value
	return &changed
}

// Metadata returns a copy of the public metadata, never nil.
func (e *Error) Metadata() map[string]string {
	metadata := make(map[string]string, len(e.metadata))
	maps.Copy(metadata, e.metadata)
	return metadata
}

// Error is the text for logs: both halves. It must not cross a wire; Message may.
// A nil Error that got lost in an interface is reported, not dereferenced.
func (e *Error) Error() string {
	if e == nil {
		return "a nil fault was returned as an error"
	}
	text := e.Reason + ": " + e.Message
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap returns the private cause, or nil.
func (e *Error) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.cause
}

// Is makes errors.Is(err, sentinel) true for every refinement of a sentinel made
// with [New]: two Errors are the same when kind and reason are.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && e != nil && other != nil && e.Kind == other.Kind && e.Reason == other.Reason
}

// From returns what may be answered for err: the outermost [Error] of its chain,
// else Canceled or DeadlineExceeded for the errors of package context, else an
// Internal error that says "internal error" and keeps err as its cause. From(nil)
// is nil.
func From(err error) *Error {
	var known *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known) && known != nil:
		return known
	case errors.Is(err, context.Canceled):
		return New(Canceled, ReasonCanceled, "the request was canceled").WithCause(err)
	case errors.Is(err, context.DeadlineExceeded):
		return New(DeadlineExceeded, ReasonDeadlineExceeded, "the time for the request ran out").WithCause(err)
	}
	return New(Internal, ReasonInternal, "internal error").WithCause(err)
}

// Is says whether the answer for err would carry the reason.
func Is(err error, reason string) bool {
	answer := From(err)
	return answer != nil && answer.Reason == reason
}

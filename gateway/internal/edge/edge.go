// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package edge is the gateway's door: it ends TLS, says who calls, and turns away
// whom it cannot serve before that costs anything.
//
// It guarantees that nobody passes on a certificate that the current trust snapshot
// does not prove: an unknown root, another tenant's root, an expired or a revoked
// certificate, or a snapshot too old to tell. Refusals say nothing to the caller
// about their reason; the log and the metric do. Neither ever holds a token.
package edge

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/shared/instrument"
)

// Reason is why something was turned away: the reason label of
// ampora_gateway_rejections_total. The set is closed, so the label is bounded.
type Reason string

// The reasons.
const (
	AuthFailed   Reason = "auth_failed"   // no, or no valid, credential
	Oversize     Reason = "oversize"      // a message over the limit
	Malformed    Reason = "malformed"     // it breaks the rules of WebSocket, HTTP or OpAMP
	CapMismatch  Reason = "cap_mismatch"  // an offer the agent or our mask does not allow
	RateLimited  Reason = "rate_limited"  // more messages than a session may send
	UIDRefused   Reason = "uid_refused"   // an instance uid that is not the identity's
	Penalized    Reason = "penalized"     // in the penalty box
	Overloaded   Reason = "overloaded"    // a limit of sessions, or a full queue
	Unavailable  Reason = "unavailable"   // the control plane or its trust is out of reach
	SlowConsumer Reason = "slow_consumer" // it does not read what is written to it
)

// reasons are the values of the label.
var reasons = []string{
	string(AuthFailed), string(Oversize), string(Malformed), string(CapMismatch), string(RateLimited), string(UIDRefused),
	string(Penalized), string(Overloaded), string(Unavailable), string(SlowConsumer),
}

// Rejections counts and logs what is turned away, in one place.
type Rejections struct {
	log   *slog.Logger
	count instrument.Counter
	clock func() time.Time

	mu    sync.Mutex
	lines map[Reason]lines
}

// linesPerSecond bounds the log for each reason: a flood of bad messages must not
// become one of log lines. All of them are counted.
const linesPerSecond = 20

type lines struct {
	second int64
	logged int
	left   int // not logged since the last line that was
}

// NewRejections makes the counter on the meter.
func NewRejections(log *slog.Logger, meter metric.Meter, clock func() time.Time) (*Rejections, error) {
	made := instrument.On(meter)
	count := made.Counter("ampora_gateway_rejections", "{rejection}", "Connections, requests and messages turned away, by why.",
		instrument.By("reason", reasons...))
	return &Rejections{log: log, count: count, clock: clock, lines: make(map[Reason]lines)}, made.Err()
}

// Reject counts one rejection and logs it with what is known. err may hold the reason
// in words; it must hold no secret.
func (r *Rejections) Reject(ctx context.Context, reason Reason, err error, known ...slog.Attr) {
	r.count.Add(ctx, 1, string(reason))
	unlogged, ok := r.line(reason)
	if !ok {
		return
	}
	attrs := append([]slog.Attr{slog.String("reason", string(reason))}, known...)
	if unlogged > 0 {
		attrs = append(attrs, slog.Int("not_logged_before", unlogged))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	r.log.LogAttrs(ctx, slog.LevelWarn, "rejected", attrs...)
}

// line says whether one more line may be logged for a reason, and how many were not.
func (r *Rejections) line(reason Reason) (unlogged int, ok bool) {
	second := r.clock().Unix()
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lines[reason]
	if l.second != second {
		l.second, l.logged = second, 0
	}
	if ok = l.logged < linesPerSecond; ok {
		unlogged, l.left = l.left, 0
		l.logged++
	} else {
		l.left++
	}
	r.lines[reason] = l
	return unlogged, ok
}

// Errors of the edge: what a refusal is answered with follows from them.
var (
	// ErrUnauthenticated: no credential or a bad one. Answered 401, with no hint.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrUnavailable: nobody can be authenticated or served now. Answered 503.
	ErrUnavailable = errors.New("unavailable")
)

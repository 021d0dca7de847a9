// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect/v2"

	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/identity"
)

// connectionsPerIdentity is one live connection and one that contests it: a second
// agent with the same identity, or the same one back before its old connection was
// found dead. Children share the connection of their parent.
const connectionsPerIdentity = 2

// Admission decides who may open a connection.
type Admission struct {
	gateway    identity.GatewayID
	control    internalv1connect.GatewayServiceClient
	trust      *Trust
	box        *Box
	rejections *Rejections
	clock      func() time.Time
	max        int
	ready      func() bool
	checks     chan struct{}

	mu         sync.Mutex
	total      int
	byIdentity map[string]int
}

// AdmissionConfig is what an [Admission] needs.
type AdmissionConfig struct {
	Gateway    identity.GatewayID
	Control    internalv1connect.GatewayServiceClient
	Trust      *Trust
	Box        *Box
	Rejections *Rejections
	Clock      func() time.Time
	// Max is how many connections may be open.
	Max int
	// Ready says whether what comes in can be passed on.
	Ready func() bool
}

// NewAdmission makes an Admission with nobody admitted.
func NewAdmission(c AdmissionConfig) *Admission {
	return &Admission{
		gateway: c.Gateway, control: c.Control, trust: c.Trust, box: c.Box, rejections: c.Rejections, clock: c.Clock,
		max: c.Max, ready: c.Ready, checks: make(chan struct{}, tokenChecks), byIdentity: make(map[string]int),
	}
}

var (
	errNotReady  = errors.New("not registered with the control plane, or the bus is full")
	errSessions  = errors.New("the limit of connections is reached")
	errChecks    = errors.New("too many tokens are being checked")
	errPerCaller = errors.New("the identity has its connections open already")
	errBoxed     = errors.New("in the penalty box")
)

// refusal is a refusal to admit, and what to answer.
type refusal struct {
	reason Reason
	retry  time.Duration // 0: 401, no use to come back with the same credential
	cause  error
}

// Error gives the cause.
func (r *refusal) Error() string { return r.cause.Error() }

// Unwrap gives the cause.
func (r *refusal) Unwrap() error { return r.cause }

// Admit identifies the caller of a request and checks its token, if it comes with one.
// If the caller cannot be served the answer is written, counted and logged, and ok is
// false.
func (a *Admission) Admit(w http.ResponseWriter, r *http.Request) (caller Caller, ok bool) {
	caller, err := a.admit(r)
	if err == nil {
		return caller, true
	}
	a.refuse(w, r, caller, err)
	return caller, false
}

func (a *Admission) admit(r *http.Request) (Caller, error) {
	caller, err := a.trust.Identify(r)
	switch {
	case errors.Is(err, ErrUnavailable):
		return caller, &refusal{Unavailable, Overload(), err}
	case err != nil:
		// Without a credential there is only the address to remember. It concerns nobody
		// who has one.
		if wait := a.box.Remaining(peerKey(caller), a.clock()); wait > 0 {
			return caller, &refusal{Penalized, RetryAfter(wait), errBoxed}
		}
		a.box.Punish(peerKey(caller), a.clock())
		return caller, &refusal{reason: AuthFailed, cause: err}
	case !a.ready():
		return caller, &refusal{Unavailable, Overload(), errNotReady}
	}
	if wait := a.box.Remaining(BoxKey(caller), a.clock()); wait > 0 {
		return caller, &refusal{Penalized, RetryAfter(wait), errBoxed}
	}
	if caller.Enrolling() {
		return caller, a.checkToken(r.Context(), caller)
	}
	return caller, nil
}

// tokenChecks bounds the questions about tokens that are open at a time, so that a
// flood of made-up ones is not passed on to the control plane.
const tokenChecks = 64

// checkToken asks the control plane about a token. A refused one is put into the
// penalty box by itself and not by its peer: behind one address there may be a whole
// site, of which one machine has an old token.
func (a *Admission) checkToken(ctx context.Context, caller Caller) error {
	select {
	case a.checks <- struct{}{}:
		defer func() { <-a.checks }()
	default:
		return &refusal{Overloaded, Overload(), errChecks}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := a.control.CheckBootstrapToken(ctx, &internalv1.CheckBootstrapTokenRequest{
		Token: caller.Token.Reveal(), GatewayId: string(a.gateway), Peer: caller.Peer,
	})
	if err == nil {
		return nil
	}
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated, connect.CodeInvalidArgument, connect.CodePermissionDenied, connect.CodeNotFound:
		a.box.Punish(BoxKey(caller), a.clock())
		return &refusal{reason: AuthFailed, cause: fmt.Errorf("the bootstrap token was refused: %w", err)}
	default:
		return &refusal{Unavailable, Overload(), err}
	}
}

// Reserve takes a place among the open connections for the caller, or answers 503. The
// place is given back with [Admission.Release].
func (a *Admission) Reserve(w http.ResponseWriter, r *http.Request, caller Caller) bool {
	if err := a.reserve(BoxKey(caller)); err != nil {
		a.refuse(w, r, caller, &refusal{Overloaded, Overload(), err})
		return false
	}
	return true
}

func (a *Admission) reserve(key string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.total >= a.max:
		return errSessions
	case a.byIdentity[key] >= connectionsPerIdentity:
		return errPerCaller
	}
	a.total++
	a.byIdentity[key]++
	return nil
}

// Stands says whether the caller's certificate is as good as when it was admitted. It is
// asked once a session is registered: what was revoked while it was claimed found nothing
// to cut.
func (a *Admission) Stands(caller Caller) bool {
	snapshot, err := a.trust.Current()
	return err != nil || !snapshot.Revoked(caller.Agent.Tenant, caller.Serial) && snapshot.Issues(caller.Agent.Tenant, caller.Issuer)
}

// Release gives a place back.
func (a *Admission) Release(caller Caller) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := BoxKey(caller)
	a.total--
	if a.byIdentity[key]--; a.byIdentity[key] == 0 {
		delete(a.byIdentity, key)
	}
}

// Punish puts the caller into the penalty box.
func (a *Admission) Punish(caller Caller) { a.box.Punish(BoxKey(caller), a.clock()) }

func (a *Admission) refuse(w http.ResponseWriter, r *http.Request, caller Caller, err error) {
	refused := &refusal{reason: Unavailable, retry: Overload(), cause: err}
	errors.As(err, &refused)
	a.rejections.Reject(r.Context(), refused.reason, refused.cause, Known(caller)...)
	if refused.retry == 0 {
		// A 401 names the schemes (RFC 9110, section 15.5.2); clients of EST wait for it.
		w.Header()["Www-Authenticate"] = []string{"Bearer", `Basic realm="ampora"`}
		http.Error(w, "unauthorized", http.StatusUnauthorized)
		return
	}
	Busy(w, refused.retry)
}

// Busy answers 503 with Retry-After (RFC 9110, section 10.2.3).
func Busy(w http.ResponseWriter, retry time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(retry/time.Second)))
	http.Error(w, "unavailable", http.StatusServiceUnavailable)
}

// Known is what a log line may say of a caller.
func Known(caller Caller) []slog.Attr {
	attrs := []slog.Attr{slog.String("peer", caller.Peer)}
	if caller.Enrolling() {
		return attrs
	}
	return append(attrs, slog.String("tenant", string(caller.Agent.Tenant)), slog.String("agent", string(caller.Agent.ID)))
}

// BoxKey names a caller in the penalty box and among the connections: its identity, or
// the hash of its token.
func BoxKey(caller Caller) string {
	if caller.Enrolling() {
		hash := caller.Token.Hash()
		return "token " + hex.EncodeToString(hash[:])
	}
	return "agent " + string(caller.Agent.Tenant) + "/" + string(caller.Agent.ID)
}

func peerKey(caller Caller) string { return "peer " + caller.Peer }

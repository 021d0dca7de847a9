// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateways

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/calls"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Reasons for which a caller is refused.
const (
	// ReasonUnknownGateway: no certificate, or none that the control plane issued and still stands by.
	ReasonUnknownGateway = "GATEWAY_UNKNOWN"
	// ReasonRevokedGateway: it was revoked. It must join anew, if it may.
	ReasonRevokedGateway = "GATEWAY_REVOKED"
	// ReasonOtherGateway: it speaks in the name of another.
	ReasonOtherGateway = "GATEWAY_MISMATCH"
	// ReasonOutOfScope: the tenant is not one that it may serve.
	ReasonOutOfScope = "TENANT_OUT_OF_SCOPE"
)

// caller is the gateway that calls, and what it may do.
type caller struct {
	id     fleet.GatewayID // empty in one process, where any name is believed
	serial fleet.Serial
	scope  fleet.Scope
}

type callerKey struct{}

// callerOf is the caller of a call that a gate let pass. A call without one is a mistake of the wiring, and refused.
func callerOf(ctx context.Context) (caller, error) {
	c, ok := ctx.Value(callerKey{}).(caller)
	if !ok {
		return caller{}, fault.New(fault.Unauthenticated, ReasonUnknownGateway, "a gateway's certificate is needed")
	}
	return c, nil
}

// as is the caller if it speaks in its own name.
func as(ctx context.Context, name string) (caller, error) {
	c, err := callerOf(ctx)
	if err == nil && c.id != "" && string(c.id) != name {
		return caller{}, fault.New(fault.PermissionDenied, ReasonOtherGateway, "the certificate is that of another gateway")
	}
	return c, err
}

// in refuses a caller that may not serve the tenant.
func in(ctx context.Context, tenant string) error {
	c, err := callerOf(ctx)
	if err == nil && !c.scope.Serves(fleet.TenantID(tenant)) {
		return fault.New(fault.PermissionDenied, ReasonOutOfScope, "the gateway may not serve this tenant")
	}
	return err
}

// InProcess is the gate of the service in the process that also runs its gateway: there is nobody to tell apart.
func InProcess(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		return next(context.WithValue(ctx, callerKey{}, caller{scope: fleet.Scope{Every: true}}), spec, stream)
	}
}

// Identities is what a Gate asks about gateways.
type Identities interface {
	Gateway(ctx context.Context, id fleet.GatewayID) (fleet.Gateway, error)
}

// Gate lets gateways in by their certificates, and anybody to Join. It asks the database at each call, so that a
// revocation counts from the next one on.
type Gate struct {
	identities  Identities
	authority   *pki.Authority
	trustDomain string
	now         func() time.Time
}

// NewGate returns a Gate.
func NewGate(identities Identities, authority *pki.Authority, trustDomain string, now func() time.Time) *Gate {
	return &Gate{identities: identities, authority: authority, trustDomain: trustDomain, now: now}
}

// Interceptor is the gate of the service between processes. It must stand inside auth's, which maps its errors.
func (g *Gate) Interceptor(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		if spec.Procedure == internalv1connect.GatewayServiceJoinProcedure {
			return next(ctx, spec, stream)
		}
		c, err := g.admit(ctx)
		if err != nil {
			return err
		}
		return next(context.WithValue(ctx, callerKey{}, c), spec, stream)
	}
}

func (g *Gate) admit(ctx context.Context) (caller, error) {
	id, serial, err := g.proven(ctx)
	if err != nil {
		return caller{}, fault.New(fault.Unauthenticated, ReasonUnknownGateway, "a gateway's certificate is needed").WithCause(err)
	}
	known, err := g.identities.Gateway(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return caller{}, fault.New(fault.Unauthenticated, ReasonUnknownGateway, "the gateway has not joined").WithCause(err)
	case err != nil:
		return caller{}, err
	case !known.RevokedAt.IsZero():
		return caller{}, fault.New(fault.PermissionDenied, ReasonRevokedGateway, "the gateway was revoked")
	case serial != known.Serial && serial != known.Previous:
		return caller{}, fault.New(fault.Unauthenticated, ReasonUnknownGateway, "the gateway has joined with another certificate since")
	}
	return caller{id: id, serial: serial, scope: known.Scope}, nil
}

var errNoCertificate = errors.New("no client certificate")

// shown is the certificate that the caller showed in its handshake, or nil.
func shown(ctx context.Context) *x509.Certificate {
	info, ok := connecthttp.ServerInfoForContext(ctx)
	if !ok || info.TLS() == nil || len(info.TLS().PeerCertificates) == 0 {
		return nil
	}
	return info.TLS().PeerCertificates[0]
}

// Origin says of a call between processes whose it is, for who observes it before the gate is asked: ours, if the
// handshake was that of a gateway.
func Origin(ctx context.Context) calls.Origin {
	if shown(ctx) == nil {
		return calls.Strangers
	}
	return calls.Ours
}

// proven verifies the certificate at each call: a connection may outlive it.
func (g *Gate) proven(ctx context.Context) (fleet.GatewayID, fleet.Serial, error) {
	leaf := shown(ctx)
	if leaf == nil {
		return "", "", errNoCertificate
	}
	now := g.now()
	trust, err := g.authority.GatewayTrust(ctx, now)
	if err != nil {
		return "", "", err
	}
	roots := x509.NewCertPool()
	for _, root := range trust.Roots {
		roots.AddCert(root)
	}
	options := x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := leaf.Verify(options); err != nil {
		return "", "", err
	}
	id, err := identity.GatewayFromCertificate(leaf, g.trustDomain)
	return fleet.GatewayID(id), fleet.Serial(identity.SerialOf(leaf.SerialNumber)), err
}

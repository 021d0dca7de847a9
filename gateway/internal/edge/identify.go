// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/shared/identity"
)

// Caller is who speaks over a connection: an agent with a certificate, or the bearer
// of a bootstrap token who wants to become one.
type Caller struct {
	// Agent is set if a certificate proved it; Serial and Fingerprint are that
	// certificate's.
	Agent       identity.Agent
	Serial      identity.Serial
	Fingerprint identity.Fingerprint
	// NotAfter is when that certificate expires, Issuer what signed it.
	NotAfter time.Time
	Issuer   Issuer
	// Token is set if Agent is not. It is well-formed; the control plane has not
	// been asked about it.
	Token identity.Token
	// Peer is the address of the other end, without the port.
	Peer string
}

// Enrolling says that the caller has a token and no identity.
func (c Caller) Enrolling() bool { return c.Agent.ID == "" }

var (
	errAnonymous = errors.New("neither a client certificate nor a bootstrap token")
	errNoTLS     = errors.New("not a TLS connection")
	errRevoked   = errors.New("the certificate is revoked")
	errDomain    = errors.New("the certificate is of another trust domain")
	errTenant    = errors.New("no trust for the tenant of the certificate")
)

// Identify says who sent a request, by its client certificate or else by its bootstrap
// token. It is the only place that does. The error is [ErrUnauthenticated] or
// [ErrUnavailable], with the reason for the log.
//
// A certificate that was given and is bad is not made good by a token.
func (t *Trust) Identify(r *http.Request) (Caller, error) {
	caller := Caller{Peer: peer(r.RemoteAddr)}
	if r.TLS == nil {
		return caller, fmt.Errorf("%w: %w", ErrUnauthenticated, errNoTLS)
	}
	snapshot, err := t.Current()
	if err != nil {
		return caller, err
	}
	if len(r.TLS.PeerCertificates) > 0 {
		leaf := r.TLS.PeerCertificates[0]
		agent, issuer, err := snapshot.verify(leaf, t.clock())
		if err != nil {
			return caller, err
		}
		caller.Agent, caller.Serial, caller.Fingerprint = agent, identity.SerialOf(leaf.SerialNumber), identity.FingerprintOf(leaf.Raw)
		caller.NotAfter, caller.Issuer = leaf.NotAfter, issuer
		return caller, nil
	}
	caller.Token, err = bootstrapToken(r.Header)
	return caller, err
}

// verify proves a leaf. The roots are those of the tenant that it names, so that the CA of
// one tenant cannot speak for another. What an agent sends along does not count: what signed
// the leaf must be in the snapshot, or a signing key that was retired would go on as long as
// agents send its certificate.
func (s *Snapshot) verify(leaf *x509.Certificate, now time.Time) (identity.Agent, Issuer, error) {
	agent, issuer, err := s.proven(leaf, now)
	if err != nil {
		return identity.Agent{}, Issuer{}, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	return agent, issuer, nil
}

func (s *Snapshot) proven(leaf *x509.Certificate, now time.Time) (agent identity.Agent, issuer Issuer, err error) {
	if agent, err = identity.FromCertificate(leaf); err != nil {
		return agent, issuer, err
	}
	if agent.TrustDomain != s.TrustDomain {
		return agent, issuer, errDomain
	}
	tenant := s.tenants[agent.Tenant]
	if tenant == nil {
		return agent, issuer, errTenant
	}
	options := x509.VerifyOptions{
		Roots: tenant.roots, Intermediates: tenant.intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	chains, err := leaf.Verify(options)
	if err != nil {
		return agent, issuer, err
	}
	if s.Revoked(agent.Tenant, identity.SerialOf(leaf.SerialNumber)) {
		return agent, issuer, errRevoked
	}
	return agent, issuerOf(chains[0][min(1, len(chains[0])-1)]), nil
}

// bootstrapToken reads the token from an Authorization header: a bearer token
// (RFC 6750, section 2.1), or the password of Basic (RFC 7617), which is what EST
// clients can send.
func bootstrapToken(header http.Header) (identity.Token, error) {
	scheme, credentials, _ := strings.Cut(header.Get("Authorization"), " ")
	credentials = strings.TrimSpace(credentials)
	switch {
	case scheme == "":
		return identity.Token{}, fmt.Errorf("%w: %w", ErrUnauthenticated, errAnonymous)
	case strings.EqualFold(scheme, "Basic"):
		pair, err := base64.StdEncoding.DecodeString(credentials)
		if err != nil { // what was decoded before the damage is none
			return identity.Token{}, fmt.Errorf("%w: the credentials are no base64", ErrUnauthenticated)
		}
		_, credentials, _ = strings.Cut(string(pair), ":")
	case !strings.EqualFold(scheme, "Bearer"):
		return identity.Token{}, fmt.Errorf("%w: an unknown authorization scheme", ErrUnauthenticated)
	}
	token, err := identity.ParseToken(identity.BootstrapToken, credentials)
	if err != nil {
		return token, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	return token, nil
}

func peer(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

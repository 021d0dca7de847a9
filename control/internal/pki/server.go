// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

const serverLifetime = 90 * 24 * time.Hour

// ServerRequest asks for a TLS server certificate. At least one name is needed.
type ServerRequest struct {
	DNSNames []string
	IPs      []net.IP
	Now      time.Time
}

// IssueServer makes a TLS server certificate for the OpAMP listener of an
// installation that has none of its own, as in development. It is signed by a root
// kept for this purpose alone, made at the first call; caPEM is that root, for
// clients to trust. The certificate is valid for 90 days and its key exists in the
// returned value only: ask again at every start, and before Leaf.NotAfter.
func (a *Authority) IssueServer(ctx context.Context, r ServerRequest) (certificate tls.Certificate, caPEM []byte, err error) {
	if len(r.DNSNames)+len(r.IPs) == 0 {
		return tls.Certificate{}, nil, errors.New("pki: a server certificate needs a DNS name or an IP address")
	}
	return a.issueServer(ctx, fleet.SigningKeyServerRoot, r.Now, func(valid window) x509.Certificate { return serverTemplate(r, valid) })
}

// issueServer makes a certificate of a server, with a new key, below a root of the
// installation, which is made if there is none.
func (a *Authority) issueServer(ctx context.Context, root fleet.SigningKeyKind, now time.Time, template func(window) x509.Certificate) (certificate tls.Certificate, caPEM []byte, err error) {
	h, err := a.installed(ctx, root, now)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	valid, err := h.active.validity(now, a.config.Backdate, serverLifetime)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("pki: server key: %w", err)
	}
	leaf, err := h.active.sign(key.Public(), template(valid))
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, h.bundle.PEM, nil
}

// serverTemplate has no subject: the names are in the alternative names, the only
// place where clients look (RFC 9525, section 2).
func serverTemplate(r ServerRequest, valid window) x509.Certificate {
	return x509.Certificate{
		SerialNumber:          newSerial(),
		DNSNames:              r.DNSNames,
		IPAddresses:           r.IPs,
		NotBefore:             valid.notBefore,
		NotAfter:              valid.notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
}

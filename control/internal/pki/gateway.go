// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/identity"
)

// gatewayLifetime is how long a gateway's certificate is valid. Gateways renew it by
// themselves when two thirds of it have passed.
const gatewayLifetime = 30 * 24 * time.Hour

// GatewayRequest asks for the certificate of a gateway. Who may ask is decided before.
type GatewayRequest struct {
	Gateway fleet.GatewayID
	// CSR has the public key, as for [LeafRequest].
	CSR Request
	Now time.Time
}

// IssueGateway signs the certificate by which a gateway is known to the control plane:
// spiffe://<trust domain>/gateway/<id>, below a root that signs nothing else. Errors are
// as for [Authority.Issue].
func (a *Authority) IssueGateway(ctx context.Context, r GatewayRequest) (Leaf, error) {
	name, err := identity.ParseGatewayID(string(r.Gateway))
	if err != nil {
		return Leaf{}, fmt.Errorf("pki: issue: %w", err)
	}
	key, err := r.CSR.publicKey()
	if err != nil {
		return Leaf{}, err
	}
	h, err := a.installed(ctx, fleet.SigningKeyGatewayRoot, r.Now)
	if err != nil {
		return Leaf{}, err
	}
	valid, err := h.active.validity(r.Now, a.config.Backdate, gatewayLifetime)
	if err != nil {
		return Leaf{}, err
	}
	certificate, err := h.active.sign(key, a.gatewayTemplate(name, valid))
	if err != nil {
		return Leaf{}, err
	}
	if named, err := identity.GatewayFromCertificate(certificate, a.config.TrustDomain); err != nil || named != name || certificate.IsCA {
		return Leaf{}, errors.New("pki: the certificate library signed something else than it was told")
	}
	return leafOf(certificate, h.active), nil
}

func (a *Authority) gatewayTemplate(name identity.GatewayID, valid window) x509.Certificate {
	return x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: string(name)},
		URIs:                  []*url.URL{identity.GatewayURI(a.config.TrustDomain, name)},
		NotBefore:             valid.notBefore,
		NotAfter:              valid.notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
}

// GatewayTrust returns what gateways' certificates are verified against.
func (a *Authority) GatewayTrust(ctx context.Context, now time.Time) (Bundle, error) {
	h, err := a.installed(ctx, fleet.SigningKeyGatewayRoot, now)
	if err != nil {
		return Bundle{}, err
	}
	return h.bundle, nil
}

// IssueControl makes the certificate by which a control process shows itself to gateways:
// spiffe://<trust domain>/control, whatever address it is reached at. caPEM is the root,
// which gateways are given with their join token. Its key exists in the returned value
// only; the certificate is valid for 90 days.
func (a *Authority) IssueControl(ctx context.Context, now time.Time) (certificate tls.Certificate, caPEM []byte, err error) {
	return a.issueServer(ctx, fleet.SigningKeyControlRoot, now, func(valid window) x509.Certificate {
		template := serverTemplate(ServerRequest{}, valid)
		template.URIs = []*url.URL{identity.ControlURI(a.config.TrustDomain)}
		return template
	})
}

// ControlTrust returns what gateways verify the control plane with: the root below which
// [Authority.IssueControl] certifies, made by the first process to ask.
func (a *Authority) ControlTrust(ctx context.Context, now time.Time) (Bundle, error) {
	h, err := a.installed(ctx, fleet.SigningKeyControlRoot, now)
	if err != nil {
		return Bundle{}, err
	}
	return h.bundle, nil
}

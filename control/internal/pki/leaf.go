// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/identity"
)

// LeafRequest asks for the certificate of an agent. Who may ask is decided before.
type LeafRequest struct {
	Tenant fleet.TenantID
	Agent  fleet.AgentID
	// CSR has the public key, whose possession was proved.
	CSR Request
	Now time.Time
}

// Leaf is an agent's certificate. It is not recorded anywhere yet.
type Leaf struct {
	CertificateDER []byte
	ChainPEM       []byte // the leaf, then its issuer
	Serial         fleet.Serial
	Fingerprint    fleet.Fingerprint
	KeyID          fleet.KeyID // the signing key
	NotBefore      time.Time
	NotAfter       time.Time
}

// Issue signs a certificate for an agent with the tenant's active key. Signing
// may take seconds where the key is in a key service, so call it outside of any
// transaction. Errors are faults with [ReasonNoAuthority] or [ReasonAuthorityExpired],
// or [ReasonCSRInvalid] for the zero Request; what is no fault is ours to explain.
func (a *Authority) Issue(ctx context.Context, r LeafRequest) (Leaf, error) {
	agent, err := a.agent(r)
	if err != nil {
		return Leaf{}, err
	}
	key, err := r.CSR.publicKey()
	if err != nil {
		return Leaf{}, err
	}
	h, err := a.hierarchy(ctx, ofTenant(r.Tenant))
	if err != nil {
		return Leaf{}, err
	}
	valid, err := h.active.validity(r.Now, a.config.Backdate, a.config.LeafLifetime)
	if err != nil {
		return Leaf{}, err
	}
	certificate, err := h.active.sign(key, a.leafTemplate(agent, h.active, valid))
	if err != nil {
		return Leaf{}, err
	}
	if err := confirm(certificate, agent, valid); err != nil {
		return Leaf{}, err
	}
	return leafOf(certificate, h.active), nil
}

// agent checks the names once more that go into a signature.
func (a *Authority) agent(r LeafRequest) (identity.Agent, error) {
	agent := identity.Agent{TrustDomain: a.config.TrustDomain, Tenant: identity.TenantID(r.Tenant), ID: identity.AgentID(r.Agent)}
	if _, err := identity.ParseAgentURI(agent.URI()); err != nil {
		return agent, fmt.Errorf("pki: issue: %w", err)
	}
	return agent, nil
}

// leafTemplate is everything that an agent's certificate says.
func (a *Authority) leafTemplate(agent identity.Agent, by *issuer, valid window) x509.Certificate {
	template := x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: string(agent.ID)},
		URIs:                  []*url.URL{agent.URI()},
		NotBefore:             valid.notBefore,
		NotAfter:              valid.notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		CRLDistributionPoints: []string{a.listURL(by.keyID)},
	}
	if by.ocsp {
		template.OCSPServer = []string{a.config.PublicURL + "/pki/" + string(by.keyID) + "/ocsp"}
	}
	return template
}

// confirm looks at what came back from the library before it leaves the house:
// the one name and the dates are what a mistake there would cost us dearly.
func confirm(certificate *x509.Certificate, agent identity.Agent, valid window) error {
	named, err := identity.FromCertificate(certificate)
	if err != nil || named != agent || certificate.IsCA ||
		!certificate.NotBefore.Equal(valid.notBefore) || !certificate.NotAfter.Equal(valid.notAfter) {
		return errors.New("pki: the certificate library signed something else than it was told")
	}
	return nil
}

func leafOf(certificate *x509.Certificate, signedBy *issuer) Leaf {
	return Leaf{
		CertificateDER: certificate.Raw,
		ChainPEM:       EncodePEM(certificate, signedBy.certificate),
		Serial:         fleet.Serial(identity.SerialOf(certificate.SerialNumber)),
		Fingerprint:    fleet.Fingerprint(identity.FingerprintOf(certificate.Raw)),
		KeyID:          signedBy.keyID,
		NotBefore:      certificate.NotBefore,
		NotAfter:       certificate.NotAfter,
	}
}

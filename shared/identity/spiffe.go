// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Agent is who an agent is, as its certificate says it: the SPIFFE ID
//
//	spiffe://<trust domain>/tenant/<tenant>/agent/<agent id>
//
// in its parts. Two Agents are the same identity when they are equal.
type Agent struct {
	TrustDomain string
	Tenant      TenantID
	ID          AgentID
}

// MaxTrustDomainLength bounds the trust domain name in bytes (SPIFFE ID,
// section 2.3: implementations must support 255 and must not make longer ones).
const MaxTrustDomainLength = 255

// ErrSPIFFE is wrapped by every refusal of a SPIFFE ID or of a certificate that
// carries none. The reason after it quotes nothing of the refused text.
var ErrSPIFFE = errors.New("not the SPIFFE ID of an agent")

// URI returns the SPIFFE ID of the agent, as it stands in the certificate.
func (a Agent) URI() *url.URL {
	return &url.URL{
		Scheme: "spiffe",
		Host:   a.TrustDomain,
		Path:   "/tenant/" + string(a.Tenant) + "/agent/" + string(a.ID),
	}
}

// String is the text of the SPIFFE ID.
func (a Agent) String() string { return a.URI().String() }

// ParseTrustDomain accepts a trust domain name: 1 to 255 characters of a-z, 0-9,
// '.', '-' and '_' (SPIFFE ID, section 2.1). It answers [ErrSPIFFE] otherwise.
func ParseTrustDomain(text string) (string, error) {
	if text == "" || len(text) > MaxTrustDomainLength {
		return "", refuse("the trust domain is empty or too long")
	}
	for i := range len(text) {
		if c := text[i]; !lowerAlphanumeric(c) && c != '.' && c != '-' && c != '_' {
			return "", refuse("the trust domain has a character outside a-z, 0-9, '.', '-' and '_'")
		}
	}
	return text, nil
}

// ParseAgentURI reads the SPIFFE ID of an agent. It is strict: no query, no
// fragment, no user information, no port, no percent-encoding, no other path
// (SPIFFE ID, sections 2.1 and 2.2). Every refusal is an [ErrSPIFFE].
func ParseAgentURI(u *url.URL) (Agent, error) {
	if err := onlySchemeHostPath(u); err != nil {
		return Agent{}, err
	}
	domain, err := ParseTrustDomain(u.Host)
	if err != nil {
		return Agent{}, err
	}
	parts := strings.Split(u.Path, "/")
	if len(parts) != 5 || parts[0] != "" || parts[1] != "tenant" || parts[3] != "agent" {
		return Agent{}, refuse("the path is not of the form /tenant/<tenant>/agent/<id>")
	}
	tenant, err := ParseTenantID(parts[2])
	if err != nil {
		return Agent{}, fmt.Errorf("%w: %w", ErrSPIFFE, err)
	}
	id, err := ParseAgentID(parts[4])
	if err != nil {
		return Agent{}, fmt.Errorf("%w: %w", ErrSPIFFE, err)
	}
	return Agent{TrustDomain: domain, Tenant: tenant, ID: id}, nil
}

// FromCertificate reads who the holder of a certificate is. The certificate must
// carry exactly one URI name, as the X.509-SVID specification demands in section
// 2, and that one the SPIFFE ID of an agent; names of other types are ignored. It
// says nothing about who signed the certificate: verify the chain first.
func FromCertificate(certificate *x509.Certificate) (Agent, error) {
	if n := len(certificate.URIs); n != 1 {
		return Agent{}, refuse(fmt.Sprintf("the certificate has %d URI names, not one", n))
	}
	return ParseAgentURI(certificate.URIs[0])
}

// GatewayURI is the SPIFFE ID of a gateway, as it stands in its certificate:
//
//	spiffe://<trust domain>/gateway/<gateway id>
func GatewayURI(trustDomain string, id GatewayID) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/gateway/" + string(id)}
}

// ControlURI is the SPIFFE ID of the control plane, by which gateways know it whatever
// address they reach it at.
func ControlURI(trustDomain string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/control"}
}

// GatewayFromCertificate reads which gateway of the trust domain holds a certificate, as
// strictly as [FromCertificate] does for agents. It says nothing about who signed it.
func GatewayFromCertificate(certificate *x509.Certificate, trustDomain string) (GatewayID, error) {
	if n := len(certificate.URIs); n != 1 {
		return "", refuse(fmt.Sprintf("the certificate has %d URI names, not one", n))
	}
	u := certificate.URIs[0]
	if err := onlySchemeHostPath(u); err != nil {
		return "", err
	}
	name, found := strings.CutPrefix(u.Path, "/gateway/")
	if u.Host != trustDomain || !found {
		return "", refuse("it is not of the form spiffe://<trust domain>/gateway/<id>")
	}
	return ParseGatewayID(name)
}

// onlySchemeHostPath refuses the parts of a URL that a SPIFFE ID never has.
// RawPath is set by net/url exactly when the path was escaped without need,
// which is how percent-encoding of a harmless character would show.
func onlySchemeHostPath(u *url.URL) error {
	switch {
	case u == nil:
		return refuse("there is none")
	case u.Scheme != "spiffe":
		return refuse("the scheme is not spiffe")
	case u.Opaque != "" || u.User != nil:
		return refuse("it has user information or is opaque")
	case u.RawQuery != "" || u.ForceQuery:
		return refuse("it has a query")
	case u.Fragment != "" || u.RawFragment != "":
		return refuse("it has a fragment")
	case u.RawPath != "":
		return refuse("it is percent-encoded")
	}
	return nil
}

func refuse(why string) error { return fmt.Errorf("%w: %s", ErrSPIFFE, why) }

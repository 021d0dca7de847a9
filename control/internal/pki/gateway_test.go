// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"bytes"
	"crypto/x509"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/shared/identity"
)

func TestGatewayCertificate(t *testing.T) {
	store := &memory{}
	authority := open(t, store, policy, acme)
	wishes := x509.CertificateRequest{DNSNames: []string{"evil.example"}}
	leaf, err := authority.IssueGateway(t.Context(), pki.GatewayRequest{Gateway: "edge-1", CSR: csr(t, newKey(t), wishes), Now: start})
	if err != nil {
		t.Fatal(err)
	}
	certificate := parse(t, leaf.CertificateDER)
	if id, err := identity.GatewayFromCertificate(certificate, "fleet.example"); err != nil || id != "edge-1" {
		t.Errorf("it names %q, %v", id, err)
	}
	if len(certificate.DNSNames) != 0 || certificate.NotAfter != start.Add(30*24*time.Hour) {
		t.Errorf("names %v, valid to %s", certificate.DNSNames, certificate.NotAfter)
	}
	trust, err := open(t, store, policy).GatewayTrust(t.Context(), start) // another process
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(certificate, trust, start); err != nil {
		t.Errorf("another process does not trust it: %v", err)
	}
}

func TestGatewayRequestsAreRefused(t *testing.T) {
	authority := open(t, &memory{}, policy)
	for _, name := range []fleet.GatewayID{"", "a/b", "A", "a b", "../x"} {
		if _, err := authority.IssueGateway(t.Context(), pki.GatewayRequest{Gateway: name, CSR: csr(t, newKey(t), x509.CertificateRequest{}), Now: start}); err == nil {
			t.Errorf("a certificate was issued for gateway %q", name)
		}
	}
	if _, err := authority.IssueGateway(t.Context(), pki.GatewayRequest{Gateway: "edge-1", Now: start}); err == nil {
		t.Error("a certificate was issued without a request")
	}
}

func TestControlCertificate(t *testing.T) {
	store := &memory{}
	one, ca, err := open(t, store, policy).IssueControl(t.Context(), start)
	if err != nil {
		t.Fatal(err)
	}
	other, sameCA, err := open(t, store, policy).IssueControl(t.Context(), start)
	if err != nil {
		t.Fatal(err)
	}
	if trust, err := open(t, store, policy).ControlTrust(t.Context(), start); err != nil || !bytes.Equal(trust.PEM, ca) {
		t.Errorf("gateways are told to trust %s, %v, want %s", trust.PEM, err, ca)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for _, certificate := range []*x509.Certificate{one.Leaf, other.Leaf} {
		options := x509.VerifyOptions{Roots: roots, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if _, err := certificate.Verify(options); err != nil {
			t.Error(err)
		}
		if len(certificate.URIs) != 1 || certificate.URIs[0].String() != "spiffe://fleet.example/control" {
			t.Errorf("it names %v", certificate.URIs)
		}
	}
	if !bytes.Equal(ca, sameCA) || one.Leaf.SerialNumber.Cmp(other.Leaf.SerialNumber) == 0 {
		t.Error("two processes have two roots, or one certificate")
	}
}

// What one authority certifies is nothing to the others.
func TestAuthoritiesAreApart(t *testing.T) {
	authority := open(t, &memory{}, policy, acme)
	gateway, err := authority.IssueGateway(t.Context(), pki.GatewayRequest{Gateway: "edge-1", CSR: csr(t, newKey(t), x509.CertificateRequest{}), Now: start})
	if err != nil {
		t.Fatal(err)
	}
	control, _, err := authority.IssueControl(t.Context(), start)
	if err != nil {
		t.Fatal(err)
	}
	server, _, err := authority.IssueServer(t.Context(), localhost)
	if err != nil {
		t.Fatal(err)
	}
	_, agent := issue(t, authority, request(t, acme, start))
	gateways, err := authority.GatewayTrust(t.Context(), start)
	if err != nil {
		t.Fatal(err)
	}
	for name, certificate := range map[string]*x509.Certificate{"an agent": agent, "control": control.Leaf, "the server": server.Leaf} {
		if verify(certificate, gateways, start) == nil {
			t.Errorf("%s passes for a gateway", name)
		}
	}
	if verify(parse(t, gateway.CertificateDER), bundle(t, authority, acme), start) == nil {
		t.Error("a gateway passes for an agent")
	}
}

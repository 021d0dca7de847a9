// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"

	"github.com/open-telemetry/opamp-go/protobufs"

	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	"gitlab.com/ampora/ampora/shared/identity"
)

// pairOf is the certificate of a chain in PEM with its key.
func pairOf(t *testing.T, chain []byte, key *ecdsa.PrivateKey) tls.Certificate {
	t.Helper()
	block, _ := pem.Decode(chain)
	if block == nil {
		t.Fatalf("no certificate in %q", chain)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !key.PublicKey.Equal(leaf.PublicKey) {
		t.Fatalf("the certificate is for another key: %v", err)
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// An agent with a certificate gets another one for the asking, in the session that it has, and comes back with it.
func TestRenewOverOpAMP(t *testing.T) {
	w := start(t)
	name, pair := w.control.AddAgent(tenant)
	agent := w.dialWith(pair)
	agent.Exchange(gatewaytest.Full(connectionSettings))
	w.uplink(name.ID, isReport)

	key, der := request(t)
	answer := agent.Exchange(withCSR(requestPEM(der)))
	checkOffer(t, w, answer.GetConnectionSettings())
	offered := answer.GetConnectionSettings().GetOpamp().GetCertificate()
	if len(offered.GetPrivateKey()) > 0 {
		t.Error("the offer has a private key")
	}
	w.uplink(name.ID, isReport) // what else the message said is no less said
	renewed := pairOf(t, offered.GetCert(), key)
	if got, err := identity.FromCertificate(renewed.Leaf); err != nil || got != name {
		t.Errorf("the certificate is that of %v, %v", got, err)
	}
	agent.Close()
	w.dialWith(renewed).Exchange(gatewaytest.Full(0))
}

func TestRenewalThatIsRefused(t *testing.T) {
	w := start(t)
	name, pair := w.control.AddAgent(tenant)
	agent := w.dialWith(pair)
	agent.Exchange(gatewaytest.Full(connectionSettings))
	_, der := request(t)
	refused := func(what string, csr []byte, kind protobufs.ServerErrorResponseType, words string) {
		t.Helper()
		failure := agent.Exchange(withCSR(csr)).GetErrorResponse()
		if failure.GetType() != kind || !strings.Contains(failure.GetErrorMessage(), words) {
			t.Errorf("%s: answered %v", what, failure)
		}
	}
	refused("no request", []byte("hello"), protobufs.ServerErrorResponseType_ServerErrorResponseType_BadRequest, "PKCS #10")
	w.control.SetDown(true)
	refused("control is away", der, protobufs.ServerErrorResponseType_ServerErrorResponseType_Unavailable, "busy")
	w.control.SetDown(false)
	w.control.Strike(name.Tenant, pair)
	refused("a certificate off the record", der, protobufs.ServerErrorResponseType_ServerErrorResponseType_BadRequest, "does not stand")
	if answer := agent.Exchange(&protobufs.AgentToServer{}); answer.GetErrorResponse() != nil {
		t.Errorf("the session did not go on: %v", answer)
	}
}

// A child speaks over its parent's connection, and has no certificate.
func TestRenewalOfAChild(t *testing.T) {
	w := start(t)
	name, pair := w.control.AddAgent(tenant)
	w.control.AllowChildren(name)
	parent := w.dialWith(pair)
	parent.Exchange(gatewaytest.Full(connectionSettings))
	_, der := request(t)
	child := *parent
	child.UID[0]++
	if failure := child.Exchange(withCSR(requestPEM(der))).GetErrorResponse(); !strings.Contains(failure.GetErrorMessage(), "no certificate of its own") {
		t.Errorf("the answer is %v", failure)
	}
}

func TestSimpleReenroll(t *testing.T) {
	w := start(t)
	const path = "/.well-known/est/simplereenroll"
	name, pair := w.control.AddAgent(tenant)
	key, der := request(t)
	encoded := []byte(base64.StdEncoding.EncodeToString(der))
	status, header, body := w.post(w.tls(pair), path, nil, encoded)
	if status != http.StatusOK || header.Get("Content-Type") != "application/pkcs7-mime; smime-type=certs-only" {
		t.Fatalf("answered %d %v %s", status, header, body)
	}
	chain := certsOnly(t, body)
	renewed := pairOf(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[0].Raw}), key)
	if got, err := identity.FromCertificate(renewed.Leaf); err != nil || got != name {
		t.Errorf("the certificate is that of %v, %v", got, err)
	}
	w.dialWith(renewed).Exchange(gatewaytest.Full(0))

	if status, _, _ := w.post(w.tls(), path, bearer(w.control.AddToken(tenant).Reveal()), encoded); status != http.StatusUnauthorized {
		t.Errorf("with a token it is answered %d", status)
	}
	if status, _, _ := w.post(w.tls(pair), "/.well-known/est/simpleenroll", nil, encoded); status != http.StatusUnauthorized {
		t.Errorf("simpleenroll with a certificate is answered %d", status)
	}
	other, struck := w.control.AddAgent(tenant)
	w.control.Strike(other.Tenant, struck)
	if status, _, _ := w.post(w.tls(struck), path, nil, encoded); status != http.StatusUnauthorized {
		t.Errorf("a certificate off the record is answered %d", status)
	}
}

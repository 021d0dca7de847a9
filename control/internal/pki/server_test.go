// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/shared/identity"
)

var localhost = pki.ServerRequest{DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, Now: start}

func TestServerCertificate(t *testing.T) {
	store := &memory{}
	authority := open(t, store, policy, acme)
	certificate, ca, err := authority.IssueServer(t.Context(), localhost)
	if err != nil {
		t.Fatal(err)
	}
	again, sameCA, err := open(t, store, policy).IssueServer(t.Context(), localhost)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ca, sameCA) || bytes.Equal(certificate.Certificate[0], again.Certificate[0]) {
		t.Error("a second start keeps the certificate or loses the root")
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		options := x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if _, err := certificate.Leaf.Verify(options); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if want := start.Add(90 * 24 * time.Hour); !certificate.Leaf.NotAfter.Equal(want) {
		t.Errorf("valid to %s, want %s", certificate.Leaf.NotAfter, want)
	}
	if root := store.key(t, "", fleet.SigningKeyServerRoot); root.State != fleet.SigningKeyActive {
		t.Errorf("the server root is %s", root.State)
	}
}

func TestTheServerRootAndTenantsAreApart(t *testing.T) {
	authority := open(t, &memory{}, policy, acme)
	server, ca, err := authority.IssueServer(t.Context(), localhost)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(server.Leaf, bundle(t, authority, acme), start); err == nil {
		t.Error("a server certificate passes for an agent's")
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	_, agent := issue(t, authority, request(t, acme, start))
	if _, err := agent.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("the server root verifies agents")
	}
}

func TestAServerCertificateNeedsAName(t *testing.T) {
	if _, _, err := open(t, &memory{}, policy).IssueServer(t.Context(), pki.ServerRequest{Now: start}); err == nil {
		t.Error("issued for nobody")
	}
}

// TestMutualTLS shakes hands with both kinds of certificate.
func TestMutualTLS(t *testing.T) {
	authority := open(t, &memory{}, policy, acme)
	server, ca, err := authority.IssueServer(t.Context(), localhost)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	r := request(t, acme, start)
	r.CSR = csr(t, key, x509.CertificateRequest{})
	leaf, _ := issue(t, authority, r)
	agents, servers := x509.NewCertPool(), x509.NewCertPool()
	servers.AppendCertsFromPEM(ca)
	for _, root := range bundle(t, authority, acme).Roots {
		agents.AddCert(root)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	client, err := tls.X509KeyPair(leaf.ChainPEM, encode("PRIVATE KEY", pkcs8))
	if err != nil {
		t.Fatal(err)
	}

	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	clock := func() time.Time { return start }
	listener := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: agents, ClientAuth: tls.RequireAndVerifyClientCert, Time: clock})
	shaken := make(chan error, 1)
	go func() { shaken <- listener.HandshakeContext(t.Context()) }()
	dialer := tls.Client(near, &tls.Config{Certificates: []tls.Certificate{client}, RootCAs: servers, ServerName: "localhost", Time: clock})
	if err := dialer.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = dialer.Read(make([]byte, 1)) }() // takes the session ticket, which a pipe does not buffer
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	agent, err := identity.FromCertificate(listener.ConnectionState().PeerCertificates[0])
	if err != nil || agent.ID != identity.AgentID(r.Agent) {
		t.Errorf("the server sees %v (%v)", agent, err)
	}
}

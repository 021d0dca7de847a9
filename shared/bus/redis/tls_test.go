// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
)

// Over TLS, with an authority of one's own and a certificate of the client.
func TestTLS(t *testing.T) {
	ca := newCertificate(t, nil, "authority")
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*newCertificate(t, ca, "server")},
		ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t)
	l := serveLink(t, s, listener)
	url := strings.Replace(l.url(""), "redis://", "rediss://", 1)
	client := *newCertificate(t, ca, "client")
	for _, try := range []struct {
		name, url string
		config    *tls.Config
		fails     bool
	}{
		{"all is well", url, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{client}}, false},
		{"no authority", url, nil, true},
		{"no certificate", url, &tls.Config{RootCAs: pool}, true},
		{"another name", url, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{client}, ServerName: "example.com"}, true},
		{"no TLS", l.url(""), nil, true},
	} {
		b, err := Open(try.url, Options{TLS: try.config})
		if err != nil {
			t.Fatal(err)
		}
		err = b.Check(within(t))
		if try.fails != (err != nil) || err != nil && !errors.Is(err, bus.ErrUnavailable) {
			t.Errorf("%s: %v", try.name, err)
		}
		if !try.fails {
			at := start(t, b, 0)
			publish(t, b, 0, "a")
			wantReads(t, b, 0, at, "a")
		}
		_ = b.Close()
	}
}

// newCertificate makes a certificate for 127.0.0.1, or an authority if by is nil.
func newCertificate(t *testing.T, by *tls.Certificate, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		BasicConstraintsValid: true, IsCA: by == nil, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"

	"github.com/open-telemetry/opamp-go/protobufs"
)

// settings are what one connection is made with.
type settings struct {
	endpoint string
	header   http.Header
	tls      *tls.Config
	// enrolment is set while the agent has no certificate.
	enrolment *enrolment
	// hash is of the offer these settings came from; nil for those configured.
	hash []byte
}

// enrolment is a key that has no certificate yet. The key stays here.
type enrolment struct {
	key *ecdsa.PrivateKey
	csr []byte // PEM
}

func newEnrolment(name string) (*enrolment, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return &enrolment{key: key, csr: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})}, nil
}

// request is the specification's "Agent-initiated CSR flow", first step.
func (e *enrolment) request() *protobufs.ConnectionSettingsRequest {
	return &protobufs.ConnectionSettingsRequest{Opamp: &protobufs.OpAMPConnectionSettingsRequest{
		CertificateRequest: &protobufs.CertificateRequest{Csr: e.csr},
	}}
}

var (
	errPrivateKey    = errors.New("the offer brings a private key, though the agent has its own")
	errForeignKey    = errors.New("the offered certificate is not for the agent's key")
	errNoCertificate = errors.New("the offer has no certificate")
)

// accept makes the settings of the next connection from an offer.
func (s *settings) accept(offer *protobufs.OpAMPConnectionSettings, hash []byte) (*settings, error) {
	next := &settings{endpoint: s.endpoint, header: http.Header{}, tls: s.tls.Clone(), hash: hash}
	if offer.GetDestinationEndpoint() != "" {
		next.endpoint = offer.GetDestinationEndpoint()
	}
	for _, header := range offer.GetHeaders().GetHeaders() {
		next.header.Add(header.GetKey(), header.GetValue())
	}
	if authorities := authorities(offer); len(authorities) > 0 {
		next.tls.RootCAs = x509.NewCertPool()
		if !next.tls.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, errors.New("the offered authorities of the server cannot be read")
		}
	}
	certificate, err := s.certificate(offer.GetCertificate())
	if err != nil {
		return nil, err
	}
	next.tls.Certificates = []tls.Certificate{certificate}
	return next, nil
}

// authorities verify the server from now on.
func authorities(offer *protobufs.OpAMPConnectionSettings) []byte {
	if text := offer.GetTls().GetCaPemContents(); text != "" {
		return []byte(text)
	}
	return offer.GetCertificate().GetCaCert()
}

func (s *settings) certificate(offered *protobufs.TLSCertificate) (tls.Certificate, error) {
	switch {
	case len(offered.GetCert()) == 0:
		return tls.Certificate{}, errNoCertificate
	case s.enrolment == nil: // a renewal on the server's initiative brings its key
		return tls.X509KeyPair(offered.GetCert(), offered.GetPrivateKey())
	case len(offered.GetPrivateKey()) > 0:
		return tls.Certificate{}, errPrivateKey
	}
	certificate := tls.Certificate{PrivateKey: s.enrolment.key}
	for rest := offered.GetCert(); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate.Certificate = append(certificate.Certificate, block.Bytes)
	}
	if len(certificate.Certificate) == 0 {
		return tls.Certificate{}, errNoCertificate
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the offered certificate: %w", err)
	}
	if !s.enrolment.key.PublicKey.Equal(leaf.PublicKey) {
		return tls.Certificate{}, errForeignKey
	}
	certificate.Leaf = leaf
	return certificate, nil
}

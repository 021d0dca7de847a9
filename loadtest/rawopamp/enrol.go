// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rawopamp

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"

	"github.com/smallstep/pkcs7"
)

// Enrol trades a bootstrap token for an identity over EST (RFC 7030, section 4.2.1). A
// refusal is a *[StatusError]. The certificate comes with the key that was made for it,
// leaf first.
func (p Peer) Enrol(ctx context.Context, token string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return p.EnrolKey(ctx, token, key)
}

// EnrolKey is Enrol for a key that is there already: to ask again after a lost answer.
func (p Peer) EnrolKey(ctx context.Context, token string, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	chain, err := p.Bearing(token).EST(ctx, "simpleenroll", []byte(base64.StdEncoding.EncodeToString(csr)))
	if err != nil {
		return nil, err
	}
	for i, certificate := range chain { // certs-only has no order
		if key.PublicKey.Equal(certificate.PublicKey) {
			chain[0], chain[i] = chain[i], chain[0]
			identity := &tls.Certificate{PrivateKey: key, Leaf: certificate}
			for _, each := range chain {
				identity.Certificate = append(identity.Certificate, each.Raw)
			}
			return identity, nil
		}
	}
	return nil, errors.New("no certificate is for the key")
}

// EST sends a body as it is to an operation of EST (RFC 7030), and returns the certificates of the answer, which have no
// order. A refusal is a *[StatusError].
func (p Peer) EST(ctx context.Context, operation string, body []byte) ([]*x509.Certificate, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+p.Addr+"/.well-known/est/"+operation, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	maps.Copy(request.Header, p.Header)
	request.Header.Set("Content-Type", "application/pkcs10")
	transport := &http.Transport{DialContext: p.dial, TLSClientConfig: p.TLS}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, &StatusError{Status: response.StatusCode, RetryAfter: response.Header.Get("Retry-After")}
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
	if err != nil {
		return nil, fmt.Errorf("the answer is not base64: %w", err)
	}
	message, err := pkcs7.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("the answer is not PKCS #7: %w", err)
	}
	return message.Certificates, nil
}

// Bearing is the peer with a bootstrap token.
func (p Peer) Bearing(token string) Peer {
	p.Header = http.Header{"Authorization": {"Bearer " + token}}
	return p
}

// With is the peer with an identity of its own in place of headers.
func (p Peer) With(identity *tls.Certificate) Peer {
	config := p.TLS.Clone()
	// Not Certificates: of those the library sends only one that the server's list of
	// authorities names, and a stranger sends what it has.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return identity, nil }
	return Peer{Addr: p.Addr, TLS: config, From: p.From}
}

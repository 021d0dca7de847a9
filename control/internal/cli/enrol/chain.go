// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// chain is a leaf certificate and its issuers, each after the one it issued. It is never empty.
type chain []*x509.Certificate

var errNoCertificate = errors.New("no certificate")

func (c chain) leaf() *x509.Certificate { return c[0] }

// fits says whether the leaf is about this key.
func (c chain) fits(key *ecdsa.PrivateKey) bool {
	public, ok := c.leaf().PublicKey.(*ecdsa.PublicKey)
	return ok && public.Equal(key.Public())
}

func (c chain) pem() []byte {
	var text bytes.Buffer
	for _, certificate := range c {
		text.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
	}
	return text.Bytes()
}

func parseChain(text []byte) (chain, error) {
	var list []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading a certificate: %w", err)
		}
		list = append(list, certificate)
	}
	if len(list) == 0 {
		return nil, errNoCertificate
	}
	return list, nil
}

// chainFor orders the certificates of an answer, which come as a set (RFC 5652 section 5.1): the one about the key, then
// issuer after issuer. A self-signed root ends it and is left out, because whoever verifies has it or does not trust it.
func chainFor(key *ecdsa.PrivateKey, set []*x509.Certificate) (chain, error) {
	var ordered chain
	for _, certificate := range set {
		if (chain{certificate}).fits(key) {
			ordered = chain{certificate}
			break
		}
	}
	if ordered == nil {
		return nil, errors.New("the answer holds no certificate for the key that was sent")
	}
	for last := ordered.leaf(); len(ordered) < len(set); {
		issuer := issuerOf(last, set)
		if issuer == nil || bytes.Equal(issuer.RawSubject, issuer.RawIssuer) {
			break
		}
		ordered, last = append(ordered, issuer), issuer
	}
	return ordered, nil
}

func issuerOf(certificate *x509.Certificate, set []*x509.Certificate) *x509.Certificate {
	for _, candidate := range set {
		if bytes.Equal(candidate.RawSubject, certificate.RawIssuer) && certificate.CheckSignatureFrom(candidate) == nil {
			return candidate
		}
	}
	return nil
}

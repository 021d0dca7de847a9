// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/shared/fault"
)

func TestCheckCSR(t *testing.T) {
	key := newKey(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"x"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(spki)
	forged := slices.Clone(der)
	forged[len(forged)-1] ^= 1
	text := encode("CERTIFICATE REQUEST", der)
	for name, test := range map[string]struct {
		raw []byte
		ok  bool
	}{
		"DER":                      {der, true},
		"PEM":                      {text, true},
		"PEM of old tools":         {encode("NEW CERTIFICATE REQUEST", der), true},
		"PEM in white space":       {slices.Concat([]byte("\r\n "), text, []byte("\n\n")), true},
		"nothing":                  {nil, false},
		"text":                     {[]byte("hello"), false},
		"a forged signature":       {forged, false},
		"DER and a byte":           {append(slices.Clone(der), 0), false},
		"DER cut":                  {der[:len(der)-1], false},
		"another kind of PEM":      {encode("CERTIFICATE", der), false},
		"a private key's label":    {encode("PRIVATE KEY", der), false},
		"two blocks":               {slices.Concat(text, text), false},
		"a broken block before":    {slices.Concat([]byte("-----BEGIN X-----\n"), text), false},
		"text before the block":    {slices.Concat([]byte("hello\n"), text), false},
		"text behind the block":    {slices.Concat(text, []byte("hello")), false},
		"a block that never ends":  {text[:len(text)-10], false},
		"a block with headers":     {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Headers: map[string]string{"a": "b"}, Bytes: der}), false},
		"more than the bound":      {slices.Concat(text, bytes.Repeat([]byte("\n"), pki.MaxCSRSize)), false},
		"as much as the bound has": {slices.Concat(text, bytes.Repeat([]byte("\n"), pki.MaxCSRSize-len(text))), true},
	} {
		request, err := pki.CheckCSR(test.raw)
		if test.ok && (err != nil || request.KeyHash() != hash) {
			t.Errorf("%s: error %v", name, err)
		}
		if !test.ok && (!fault.Is(err, pki.ReasonCSRInvalid) || fault.From(err).Kind != fault.Invalid || request != pki.Request{}) {
			t.Errorf("%s: request %v, error %v", name, request, err)
		}
	}
}

// TestKeysThatAreRefused: before any time is spent on a signature, which is none in these requests.
func TestKeysThatAreRefused(t *testing.T) {
	curve := func(c elliptic.Curve) any {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key.Public()
	}
	modulus := func(bits uint, e int) *rsa.PublicKey {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: e}
	}
	agreement, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]any{
		"P-224":                 curve(elliptic.P224()),
		"P-521":                 curve(elliptic.P521()),
		"RSA-1024":              modulus(1024, 65537),
		"RSA-2047":              modulus(2047, 65537),
		"RSA-4097":              modulus(4097, 65537),
		"RSA with e = 3":        modulus(2048, 3),
		"RSA with even e":       modulus(2048, 65538),
		"a key that signs not":  agreement.Public(),
		"a key of unknown kind": nil,
	} {
		request, err := pki.CheckCSR(unsigned(t, key))
		if !fault.Is(err, pki.ReasonCSRKeyRefused) || request != (pki.Request{}) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// unsigned is a well-formed request for a key, nil being of a kind that nobody knows, with a signature that is none.
func unsigned(t *testing.T, key any) []byte {
	t.Helper()
	type algorithm struct{ Algorithm asn1.ObjectIdentifier }
	nobodys := algorithm{asn1.ObjectIdentifier{1, 2, 3, 4}}
	spki, err := asn1.Marshal(struct {
		Algorithm algorithm
		Key       asn1.BitString
	}{nobodys, asn1.BitString{Bytes: []byte{0}, BitLength: 8}})
	if key != nil {
		spki, err = x509.MarshalPKIXPublicKey(key)
	}
	if err != nil {
		t.Fatal(err)
	}
	type info struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes asn1.RawValue
	}
	der, err := asn1.Marshal(struct {
		Info      info
		Algorithm algorithm
		Signature asn1.BitString
	}{
		info{Subject: asn1.RawValue{FullBytes: []byte{0x30, 0}}, Key: asn1.RawValue{FullBytes: spki}, Attributes: asn1.RawValue{FullBytes: []byte{0xa0, 0}}},
		algorithm{asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		asn1.BitString{Bytes: []byte{0}, BitLength: 8},
	})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// FuzzCheckCSR: whatever the network sends, it is refused with a fault or is a
// request that the authority can sign.
func FuzzCheckCSR(f *testing.F) {
	authority := open(f, &memory{}, policy, acme)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"x"}}, newKey(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(encode("CERTIFICATE REQUEST", der))
	f.Add([]byte("-----BEGIN "))
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, raw []byte) {
		accepted, err := pki.CheckCSR(raw)
		if err != nil {
			if kind := fault.From(err).Kind; kind != fault.Invalid || accepted != (pki.Request{}) {
				t.Fatalf("refused as %s: %v", kind, err)
			}
			return
		}
		r := request(t, acme, start)
		r.CSR = accepted
		issue(t, authority, r)
	})
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/shared/fault"
)

func TestCheckCSR(t *testing.T) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"x"}}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
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
		if test.ok && (err != nil || !bytes.Equal(request.Raw, der)) {
			t.Errorf("%s: error %v", name, err)
		}
		if !test.ok && (!fault.Is(err, pki.ReasonCSRInvalid) || fault.From(err).Kind != fault.Invalid || request != nil) {
			t.Errorf("%s: request %v, error %v", name, request, err)
		}
	}
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
			if kind := fault.From(err).Kind; kind != fault.Invalid || accepted != nil {
				t.Fatalf("refused as %s: %v", kind, err)
			}
			return
		}
		r := request(t, acme, start)
		r.CSR = accepted
		issue(t, authority, r)
	})
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

// selfSigned makes a certificate about a key.
func selfSigned(tb testing.TB, key *ecdsa.PrivateKey) *x509.Certificate {
	tb.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return certificate
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// Whatever a server answers, it is an error or certificates of which one is about the key.
func FuzzCertsOnly(f *testing.F) {
	key := newKey(f)
	der, err := pkcs7.DegenerateCertificate(selfSigned(f, key).Raw)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(der[:len(der)/2])
	f.Add([]byte{0x30, 0x80, 0x06, 0x09})
	f.Fuzz(func(t *testing.T, der []byte) {
		set, err := parseCertsOnly([]byte(base64.StdEncoding.EncodeToString(der)))
		if err != nil {
			return
		}
		if chain, err := chainFor(key, set); err == nil && !chain.fits(key) {
			t.Error("the leaf is about another key")
		}
	})
}

func TestChainFor(t *testing.T) {
	key, other := newKey(t), newKey(t)
	leaf, foreign := selfSigned(t, key), selfSigned(t, other)
	if _, err := chainFor(key, nil); err == nil {
		t.Error("an empty set gives a chain")
	}
	if _, err := chainFor(key, []*x509.Certificate{foreign}); err == nil {
		t.Error("a set without our certificate gives a chain")
	}
	chain, err := chainFor(key, []*x509.Certificate{foreign, leaf, foreign})
	if err != nil || len(chain) != 1 || !chain.leaf().Equal(leaf) {
		t.Errorf("got %d certificates, %v", len(chain), err)
	}
	back, err := parseChain(append([]byte("text before\n"), chain.pem()...))
	if err != nil || len(back) != 1 || !bytes.Equal(back.leaf().Raw, leaf.Raw) {
		t.Errorf("it came back as %v, %v", back, err)
	}
}

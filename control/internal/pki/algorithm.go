// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
)

// Algorithm is the kind and size of an authority's key.
type Algorithm string

// The algorithms of new keys. Ed25519 is none of them: key services of three of
// the five supported vendors cannot sign with it.
const (
	ECDSAP256 Algorithm = "ecdsa-p256"
	RSA3072   Algorithm = "rsa-3072"
)

// Check refuses what is none of them, with a sentence.
func (a Algorithm) Check() error {
	switch a {
	case ECDSAP256, RSA3072:
		return nil
	}
	return fmt.Errorf("key algorithm %q is neither %s nor %s", a, ECDSAP256, RSA3072)
}

func (a Algorithm) newKey() (crypto.Signer, error) {
	switch a {
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	return nil, a.Check()
}

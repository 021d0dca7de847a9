// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
)

// verify checks a signature over a digest with the public key.
func verify(public crypto.PublicKey, digest, signature []byte, opts crypto.SignerOpts) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(key, digest, signature) {
			return errors.New("a signature does not verify with the public key")
		}
		return nil
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(key, opts.HashFunc(), digest, signature); err != nil {
			return fmt.Errorf("a signature does not verify with the public key: %w", err)
		}
		return nil
	}
	return fmt.Errorf("a %T verifies nothing here", public)
}

// Same compares two public keys.
func Same(x, y crypto.PublicKey) bool {
	comparable, ok := x.(interface{ Equal(crypto.PublicKey) bool })
	return ok && comparable.Equal(y)
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"

	"go.step.sm/crypto/pemutil"
	"software.sslmate.com/src/go-pkcs12"

	"gitlab.com/ampora/ampora/shared/fault"
)

func unreadable(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, ReasonCAFile, format, args...)
}

// ReadCertificates reads the certificates of a PEM file, in their order.
func ReadCertificates(text []byte) (chain []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" { // a key may stand beside them
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, unreadable("certificate %d cannot be read: %s", len(chain)+1, err)
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, unreadable("there is no certificate in PEM")
	}
	return chain, nil
}

// ReadKey reads the private key of a PEM file, with the password if it is encrypted.
func ReadKey(text, password []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, unreadable("there is no private key in PEM")
		}
		if block.Type == "CERTIFICATE" || block.Type == "EC PARAMETERS" {
			continue
		}
		key, err := pemutil.ParseKey(pem.EncodeToMemory(block), pemutil.WithPasswordPrompt("", func(string) ([]byte, error) {
			if len(password) == 0 {
				return nil, unreadable("the private key is encrypted: give its password")
			}
			return password, nil
		}))
		if err != nil {
			if f := fault.From(err); f.Reason == ReasonCAFile {
				return nil, f
			}
			return nil, unreadable("the private key cannot be read, or its password is another").WithCause(err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, unreadable("the private key is none: a %T", key)
		}
		return signer, nil
	}
}

// ReadPFX reads a PKCS #12 file: a private key, its certificate and those above it.
func ReadPFX(der, password []byte) (crypto.Signer, []*x509.Certificate, error) {
	key, certificate, above, err := pkcs12.DecodeChain(der, string(password))
	if err != nil {
		return nil, nil, unreadable("the PKCS #12 file cannot be read, or its password is another: %s", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, nil, unreadable("the private key is none: a %T", key)
	}
	return signer, append([]*x509.Certificate{certificate}, above...), nil
}

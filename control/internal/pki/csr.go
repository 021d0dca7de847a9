// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"

	"gitlab.com/ampora/ampora/shared/fault"
)

// MaxCSRSize bounds a certificate signing request, in PEM or DER. One with an
// RSA-4096 key and some names takes about 2 KiB.
const MaxCSRSize = 8 << 10

// Request is what is left of a certificate signing request once it was checked: a
// public key that is certified here, whose holder signed the request. Only
// [CheckCSR] makes one, so nobody needs to check it again; the zero Request is
// none, and refused.
type Request struct {
	key  crypto.PublicKey
	hash [sha256.Size]byte
}

// KeyHash is the SHA-256 of the public key as the request encodes it.
func (r Request) KeyHash() [sha256.Size]byte { return r.hash }

// CheckCSR reads a PKCS #10 certificate signing request (RFC 2986) from the
// network: DER, or exactly one PEM block and nothing beside white space. It
// accepts keys that are certified here (ECDSA on P-256 or P-384, Ed25519, RSA of
// 2048 to 4096 bits) whose holder signed the request. Errors are faults of kind
// Invalid with [ReasonCSRInvalid] or [ReasonCSRKeyRefused].
func CheckCSR(raw []byte) (Request, error) {
	if len(raw) > MaxCSRSize {
		return Request{}, fault.New(fault.Invalid, ReasonCSRInvalid, "a certificate request has at most %d bytes", MaxCSRSize)
	}
	der, err := unwrapPEM(raw)
	if err != nil {
		return Request{}, err
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return Request{}, fault.New(fault.Invalid, ReasonCSRInvalid, "this is not a PKCS #10 certificate request").WithCause(err)
	}
	// The key comes first: one that is not certified could make the signature expensive.
	if why := keyRefusal(request.PublicKey); why != "" {
		return Request{}, fault.New(fault.Invalid, ReasonCSRKeyRefused, "%s", why)
	}
	if err := request.CheckSignature(); err != nil {
		return Request{}, fault.New(fault.Invalid, ReasonCSRInvalid, "the certificate request is not signed by its own key").WithCause(err)
	}
	return Request{key: request.PublicKey, hash: sha256.Sum256(request.RawSubjectPublicKeyInfo)}, nil
}

// publicKey is the key to certify. The error is a fault with [ReasonCSRInvalid] if nothing was checked.
func (r Request) publicKey() (crypto.PublicKey, error) {
	if r.key == nil {
		return nil, fault.New(fault.Invalid, ReasonCSRInvalid, "there is no certificate request")
	}
	return r.key, nil
}

var pemBegin = []byte("-----BEGIN ")

// unwrapPEM returns DER as it is and the content of a single PEM block. It is
// stricter than [pem.Decode], which skips what it does not understand.
func unwrapPEM(raw []byte) ([]byte, error) {
	text := bytes.TrimSpace(raw)
	if !bytes.HasPrefix(text, pemBegin) {
		return raw, nil
	}
	block, rest := pem.Decode(text)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 || len(block.Headers) > 0 || bytes.Count(text, pemBegin) != 1 {
		return nil, fault.New(fault.Invalid, ReasonCSRInvalid, "a certificate request is exactly one PEM block without headers")
	}
	if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, fault.New(fault.Invalid, ReasonCSRInvalid, "the PEM block is not a CERTIFICATE REQUEST")
	}
	return block.Bytes, nil
}

// keyRefusal says why a public key is not certified, or nothing if it is.
func keyRefusal(public any) string {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return "of ECDSA keys only those on P-256 and P-384 are certified"
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < 2048 || bits > 4096 {
			return "of RSA keys only those of 2048 to 4096 bits are certified"
		}
		// FIPS 186-5, A.1.1: odd and greater than 2^16.
		if key.E <= 1<<16 || key.E%2 == 0 {
			return "the RSA key has a weak public exponent"
		}
	default:
		return "only ECDSA, Ed25519 and RSA keys are certified"
	}
	return ""
}

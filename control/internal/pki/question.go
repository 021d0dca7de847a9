// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"encoding/asn1"
	"errors"
	"math/big"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Question asks whether a certificate is good: an OCSP request (RFC 6960, section 4.1) about a single one, as clients are
// to send them (RFC 5019, section 2.1.1). Who signed it, and what else it asks for but a nonce, does not matter.
type Question struct {
	Serial fleet.Serial
	// Nonce is to come back in the answer; nil: the asker does not mind an older one (RFC 9654).
	Nonce []byte

	hash              crypto.Hash
	nameHash, keyHash string
}

// MaxQuestionSize bounds a request in DER: one with a nonce has about 150 bytes.
const MaxQuestionSize = 4 << 10

// ErrMalformed is answered with malformedRequest.
var ErrMalformed = errors.New("not an OCSP request about one certificate")

// maxSerial is the length of a serial number in bytes (RFC 5280, section 4.1.2.2), maxNonce that of a nonce (RFC 9654,
// section 2.1).
const (
	maxSerial = 20
	maxNonce  = 128
)

type ocspRequest struct {
	TBS struct {
		Version    int           `asn1:"explicit,tag:0,default:0,optional"`
		Requestor  asn1.RawValue `asn1:"explicit,tag:1,optional"`
		List       []ocspAsked
		Extensions []ocspExtension `asn1:"explicit,tag:2,optional"`
	}
	Signature asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

type ocspAsked struct {
	ID         ocspCertID
	Extensions []ocspExtension `asn1:"explicit,tag:0,optional"`
}

type ocspCertID struct {
	Hash struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	NameHash, KeyHash []byte
	Serial            *big.Int
}

type ocspExtension struct {
	ID       asn1.ObjectIdentifier
	Critical bool `asn1:"optional"`
	Value    []byte
}

// ParseQuestion reads a request from the network. The error is [ErrMalformed].
func ParseQuestion(der []byte) (Question, error) {
	var r ocspRequest
	if len(der) > MaxQuestionSize {
		return Question{}, ErrMalformed
	}
	if rest, err := asn1.Unmarshal(der, &r); err != nil || len(rest) > 0 || len(r.TBS.List) != 1 || r.TBS.Version != 0 {
		return Question{}, ErrMalformed
	}
	q, err := r.TBS.List[0].ID.question()
	if err == nil {
		q.Nonce, err = nonceOf(r.TBS.Extensions)
	}
	if err != nil {
		return Question{}, err
	}
	return q, nil
}

func (id ocspCertID) question() (Question, error) {
	hash, known := hashes[id.Hash.Algorithm.String()]
	if !known || len(id.NameHash) != hash.Size() || len(id.KeyHash) != hash.Size() || id.Serial.Sign() < 0 || len(id.Serial.Bytes()) > maxSerial {
		return Question{}, ErrMalformed
	}
	return Question{
		Serial: fleet.Serial(identity.SerialOf(id.Serial)), hash: hash, nameHash: string(id.NameHash), keyHash: string(id.KeyHash),
	}, nil
}

// nonceOf is the nonce among extensions, nil if there is none.
func nonceOf(extensions []ocspExtension) (nonce []byte, err error) {
	for _, e := range extensions {
		if !e.ID.Equal(oidNonce) {
			continue
		}
		if rest, err := asn1.Unmarshal(e.Value, &nonce); err != nil || len(rest) > 0 || len(nonce) == 0 || len(nonce) > maxNonce {
			return nil, ErrMalformed
		}
	}
	return nonce, nil
}

// Hash is the digest by which the question names the issuer. An answer names it likewise.
func (q Question) Hash() crypto.Hash { return q.hash }

// oidNonce is id-pkix-ocsp-nonce (RFC 9654, section 2.1).
var oidNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}

// The digests by which an issuer may be named. SHA-1 is what most clients use (RFC 5019, section 2.1.1); nothing is proven
// with it.
var (
	oidSHA1   = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	hashes    = map[string]crypto.Hash{oidSHA1.String(): crypto.SHA1, oidSHA256.String(): crypto.SHA256}
)

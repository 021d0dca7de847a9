// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package seal keeps secrets unreadable in the database: envelope encryption
// with AES-256-GCM and no cryptography beyond the standard library.
//
// There are two layers. A [Keyring] holds the installation's master key and
// wraps single records: certificate authority keys, tenant data keys. Each
// record gets a data key of its own, which the master key wraps, so that
// replacing the master key rewrites some sixty bytes per record. A [DataKey]
// belongs to a tenant, is itself such a record, and seals the many bodies of
// that tenant.
//
// What is guaranteed:
//   - A record opens only where it was sealed for: tenant, table, row, column
//     and purpose are authenticated (see [Binding]). A row copied over another
//     one is refused.
//   - Any change of a sealed byte is refused with [ErrTampered] or, if the
//     change hits the name of the key, [ErrUnknownKey]. Nothing is returned
//     unless all of it was authenticated.
//   - Keys never show in logs or errors: their types print as "[redacted]".
//
// All values are safe for concurrent use. Lengths are not hidden: a sealed
// record is longer than its plaintext by a constant.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

var (
	// ErrUnknownKey reports a record sealed under a key that is not at hand:
	// a wrong or a forgotten previous master key, another tenant's data key.
	ErrUnknownKey = errors.New("sealed under an unknown key")
	// ErrTampered reports a record that is damaged, was cut, was sealed for
	// another place, or has a scheme that this version does not know.
	ErrTampered = errors.New("sealed record is damaged or stands in the wrong place")
	// ErrUnbound reports a [Binding] without a purpose, a mistake of the caller.
	ErrUnbound = errors.New("seal: binding names no purpose")
)

// Binding says what a record is and where it stands. It is not stored; who
// opens the record states it again, and both must agree byte by byte. Only what
// never changes in the life of a row belongs here.
type Binding struct {
	// Purpose tells kinds of secrets apart, for example "ca-key". Required.
	Purpose string
	// Tenant owns the record; empty for what belongs to the installation.
	Tenant string
	// Table, Row and Column are the place in the database; Row is the text of
	// the primary key.
	Table, Row, Column string
}

// At is where a record of a wrapped column stands.
func At(c fleet.WrappedColumn, tenant fleet.TenantID, key string) Binding {
	if c == fleet.WrappedKeyCheck {
		return checkBinding
	}
	return Binding{Purpose: c.Purpose, Tenant: string(tenant), Table: c.Table, Row: key, Column: c.Column}
}

// additional encodes the binding below a layer's label. Each part is preceded by
// its length: without that, ("ab","c") and ("a","bc") would be the same place.
func (b Binding) additional(label string, keyed ...byte) []byte {
	var out []byte
	for _, part := range []string{label, string(keyed), b.Purpose, b.Tenant, b.Table, b.Row, b.Column} {
		out = binary.AppendUvarint(out, uint64(len(part)))
		out = append(out, part...)
	}
	return out
}

const (
	keySize   = 32 // AES-256
	keyIDSize = 8
	// gcmOverhead is what a random-nonce AEAD adds: 12 bytes nonce, 16 bytes tag.
	gcmOverhead = 12 + 16
)

// keyID names a key without telling anything about it: the head of an HMAC of a
// constant. A plain hash would let a stolen database confirm a guessed key.
type keyID [keyIDSize]byte

// String returns the key id in hexadecimal, as operators see it.
func (id keyID) String() string { return hex.EncodeToString(id[:]) }

// sealKey is a 256-bit secret made ready for use.
type sealKey struct {
	id   keyID
	aead cipher.AEAD
}

// newSealKey derives name and cipher key from the secret with separate labels,
// so that the published name and the encryption never share a key.
func newSealKey(secret []byte) sealKey {
	var k sealKey
	copy(k.id[:], derive(secret, "ampora/seal/1/id"))
	cipherKey := derive(secret, "ampora/seal/1/aes-256-gcm")
	defer clear(cipherKey)
	k.aead = newAEAD(cipherKey)
	return k
}

// derive is HMAC-SHA256 used as a pseudo-random function over fixed labels
// (the expand step of RFC 5869 for a single block).
func derive(secret []byte, label string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(label))
	return mac.Sum(nil)
}

// newAEAD returns AES-256-GCM with a random nonce in front of each ciphertext.
// It panics for a key of another length than 32 bytes, which only a programming
// error can bring about.
func newAEAD(key []byte) cipher.AEAD {
	if len(key) != keySize {
		panic("seal: key is not 32 bytes")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("seal: " + err.Error())
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("seal: " + err.Error())
	}
	return aead
}

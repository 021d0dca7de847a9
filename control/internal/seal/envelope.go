// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/rand"
	"fmt"
)

// An envelope is the stored form of a wrapped record:
//
//	scheme       1 byte    schemeEnvelope
//	key id       8 bytes   names the master key
//	wrapped key  60 bytes  nonce, record key, tag: under the master key
//	data         n + 28    nonce, plaintext, tag: under the record key
//
// The nonces are random. The record key is used once, the master key once per
// record and rotation: both stay far below the 2^32 uses that NIST SP 800-38D
// (8.3) allows a key with random nonces.
const (
	schemeEnvelope byte = 1

	wrappedAt  = 1 + keyIDSize
	dataAt     = wrappedAt + keySize + gcmOverhead
	envelopeLo = dataAt + gcmOverhead // shortest: an empty plaintext
)

// Wrap seals plaintext for the place that b names, under a fresh record key
// wrapped by the active master key. The result is 97 bytes longer than the
// plaintext. The only error is [ErrUnbound].
func (r *Keyring) Wrap(b Binding, plaintext []byte) ([]byte, error) {
	if b.Purpose == "" {
		return nil, ErrUnbound
	}
	return seal(r.active, b, plaintext), nil
}

func seal(master sealKey, b Binding, plaintext []byte) []byte {
	recordKey := make([]byte, keySize)
	defer clear(recordKey)
	rand.Read(recordKey) // never fails, see crypto/rand
	out := make([]byte, 0, envelopeLo+len(plaintext))
	out = appendHeader(out, master, b, recordKey)
	return newAEAD(recordKey).Seal(out, nil, plaintext, b.additional("data", schemeEnvelope))
}

// appendHeader writes everything before the data: the part that a change of the
// master key replaces. The key id is authenticated here and not with the data,
// which must survive that change untouched.
func appendHeader(out []byte, master sealKey, b Binding, recordKey []byte) []byte {
	out = append(out, schemeEnvelope)
	out = append(out, master.id[:]...)
	return master.aead.Seal(out, nil, recordKey, wrapAdditional(master, b))
}

func wrapAdditional(master sealKey, b Binding) []byte {
	return b.additional("wrap", append([]byte{schemeEnvelope}, master.id[:]...)...)
}

// Unwrap opens an envelope that was wrapped for the same binding. Errors:
// [ErrUnknownKey], [ErrTampered], [ErrUnbound].
func (r *Keyring) Unwrap(b Binding, envelope []byte) ([]byte, error) {
	recordKey, err := r.recordKey(b, envelope)
	if err != nil {
		return nil, err
	}
	defer clear(recordKey)
	plaintext, err := newAEAD(recordKey).Open(nil, nil, envelope[dataAt:], b.additional("data", schemeEnvelope))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrTampered, b.Purpose)
	}
	return plaintext, nil
}

// NeedsRewrap reports whether the envelope is under another key than the active
// one. It is true for damaged envelopes too, so that [Keyring.Rewrap] names them.
func (r *Keyring) NeedsRewrap(envelope []byte) bool {
	return len(envelope) < envelopeLo || envelope[0] != schemeEnvelope || envelopeKeyID(envelope) != r.active.id
}

// Rewrap returns the envelope under the active master key. The sealed data is
// copied as it is and is not opened. Errors are those of [Keyring.Unwrap]; damage
// of the data itself shows when it is next unwrapped.
func (r *Keyring) Rewrap(b Binding, envelope []byte) ([]byte, error) {
	recordKey, err := r.recordKey(b, envelope)
	if err != nil {
		return nil, err
	}
	defer clear(recordKey)
	out := appendHeader(make([]byte, 0, len(envelope)), r.active, b, recordKey)
	return append(out, envelope[dataAt:]...), nil
}

// recordKey checks the header and unwraps the record's own key.
func (r *Keyring) recordKey(b Binding, envelope []byte) ([]byte, error) {
	if b.Purpose == "" {
		return nil, ErrUnbound
	}
	if len(envelope) < envelopeLo || envelope[0] != schemeEnvelope {
		return nil, fmt.Errorf("%w: %s is not an envelope of a known scheme", ErrTampered, b.Purpose)
	}
	master, err := r.key(envelopeKeyID(envelope))
	if err != nil {
		return nil, err
	}
	recordKey, err := master.aead.Open(nil, nil, envelope[wrappedAt:dataAt], wrapAdditional(master, b))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrTampered, b.Purpose)
	}
	return recordKey, nil
}

// MasterKeyOf names the master key that an envelope is under, in hexadecimal, without opening it; false for what is no
// envelope of a known scheme.
func MasterKeyOf(envelope []byte) (id string, ok bool) {
	if len(envelope) < envelopeLo || envelope[0] != schemeEnvelope {
		return "", false
	}
	return envelopeKeyID(envelope).String(), true
}

func envelopeKeyID(envelope []byte) keyID { return keyID(envelope[1:wrappedAt]) }

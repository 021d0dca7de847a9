// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
)

// DataKey seals the records of one tenant. It is kept wrapped (tenants.data_key)
// and held opened in memory while the tenant is served. Its boxes do not carry a
// key of their own, so a rotation of the master key leaves them alone; with
// random nonces one key may seal 2^32 boxes (NIST SP 800-38D, 8.3).
type DataKey struct {
	secret *[keySize]byte // a pointer for the reason given at MasterKey
	ready  sealKey
}

// A box is the stored form of what a data key has sealed:
//
//	scheme  1 byte   schemeBox
//	key id  8 bytes  names the data key
//	data    n + 28   nonce, plaintext, tag
const (
	schemeBox byte = 2

	boxDataAt = 1 + keyIDSize
	boxLo     = boxDataAt + gcmOverhead
)

// NewDataKey makes a random data key.
func NewDataKey() *DataKey {
	secret := make([]byte, keySize)
	defer clear(secret)
	rand.Read(secret) // never fails, see crypto/rand
	return readyDataKey(secret)
}

func readyDataKey(secret []byte) *DataKey {
	own := [keySize]byte(secret)
	return &DataKey{secret: &own, ready: newSealKey(secret)}
}

// WrapDataKey wraps a data key for storage at the place that b names. The error
// is that of [Keyring.Wrap].
func (r *Keyring) WrapDataKey(b Binding, k *DataKey) ([]byte, error) {
	return r.Wrap(b, k.secret[:])
}

// UnwrapDataKey opens a data key that [Keyring.WrapDataKey] wrapped. Errors are
// those of [Keyring.Unwrap].
func (r *Keyring) UnwrapDataKey(b Binding, envelope []byte) (*DataKey, error) {
	secret, err := r.Unwrap(b, envelope)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	if len(secret) != keySize {
		return nil, fmt.Errorf("%w: %s is not a data key", ErrTampered, b.Purpose)
	}
	return readyDataKey(secret), nil
}

// Seal seals plaintext for the place that b names. The result is 37 bytes longer
// than the plaintext. The only error is [ErrUnbound].
func (k *DataKey) Seal(b Binding, plaintext []byte) ([]byte, error) {
	if b.Purpose == "" {
		return nil, ErrUnbound
	}
	out := make([]byte, 0, boxLo+len(plaintext))
	out = append(out, schemeBox)
	out = append(out, k.ready.id[:]...)
	return k.ready.aead.Seal(out, nil, plaintext, k.boxAdditional(b)), nil
}

// Open opens a box that was sealed for the same binding. Errors: [ErrUnknownKey],
// [ErrTampered], [ErrUnbound].
func (k *DataKey) Open(b Binding, box []byte) ([]byte, error) {
	if b.Purpose == "" {
		return nil, ErrUnbound
	}
	if len(box) < boxLo || box[0] != schemeBox {
		return nil, fmt.Errorf("%w: %s is not a box of a known scheme", ErrTampered, b.Purpose)
	}
	if id := keyID(box[1:boxDataAt]); id != k.ready.id {
		return nil, fmt.Errorf("%w: the record names data key %s", ErrUnknownKey, id)
	}
	plaintext, err := k.ready.aead.Open(nil, nil, box[boxDataAt:], k.boxAdditional(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrTampered, b.Purpose)
	}
	return plaintext, nil
}

func (k *DataKey) boxAdditional(b Binding) []byte {
	return b.additional("box", append([]byte{schemeBox}, k.ready.id[:]...)...)
}

// Format prints a placeholder for every verb.
func (DataKey) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue logs a placeholder.
func (DataKey) LogValue() slog.Value { return slog.StringValue(redacted) }

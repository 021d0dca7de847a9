// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// MasterKey is the installation's 256-bit root secret. Build it with
// [ParseMasterKey] or [NewMasterKey]; the zero value is refused by [NewKeyring].
type MasterKey struct {
	// A pointer, because fmt prints the unexported fields of an enclosing struct
	// without asking Format, and prints a pointer there as an address.
	secret *[keySize]byte
}

// ErrMasterKey reports configuration text that is not a master key. It never
// repeats the text.
var ErrMasterKey = errors.New("master key must be the base64 of exactly 32 random bytes (openssl rand -base64 32)")

// ParseMasterKey reads standard base64 of exactly 32 bytes; white space around
// it, as files have it, is ignored. Passwords are refused by their length on
// purpose: nothing here stretches them. The error is [ErrMasterKey].
func ParseMasterKey(text string) (MasterKey, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(text))
	defer clear(raw)
	if err != nil || len(raw) != keySize {
		return MasterKey{}, ErrMasterKey
	}
	secret := [keySize]byte(raw)
	if secret == ([keySize]byte{}) {
		return MasterKey{}, ErrMasterKey
	}
	return MasterKey{&secret}, nil
}

// NewMasterKey makes a random master key, for development installations that
// keep it in their data directory.
func NewMasterKey() MasterKey {
	k := MasterKey{new([keySize]byte)}
	rand.Read(k.secret[:]) // never fails, see crypto/rand
	return k
}

// Base64 returns the secret as [ParseMasterKey] reads it. It is the one way out
// of the type, for the file in which development keeps its key.
func (k MasterKey) Base64() string { return base64.StdEncoding.EncodeToString(k.secret[:]) }

const redacted = "[redacted]"

// Format prints a placeholder for every verb.
func (MasterKey) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue logs a placeholder.
func (MasterKey) LogValue() slog.Value { return slog.StringValue(redacted) }

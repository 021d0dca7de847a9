// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// TenantID names a tenant: a DNS label.
type TenantID string

// AgentID is the stable id minted for an identity at enrolment: lower-case UUIDv7 text.
type AgentID string

// GatewayID names a gateway, stable over its restarts.
type GatewayID string

// GroupID is UUIDv7 text.
type GroupID string

// ConfigID is UUIDv7 text.
type ConfigID string

// TokenID names a bootstrap or API token (never its secret): UUIDv7 text.
type TokenID string

// PoolID names a token pool (never its secret): UUIDv7 text.
type PoolID string

// Serial is a certificate's serial number in lower-case hexadecimal without leading zeros.
type Serial string

// Fingerprint is the lower-case hexadecimal SHA-256 of a DER certificate.
type Fingerprint string

// KeyID names a signing key of the certificate authority.
type KeyID string

// InstanceUID is the 16 bytes an agent calls itself by (OpAMP instance_uid): a claim, not identity.
type InstanceUID [16]byte

// String is the UUID form.
func (u InstanceUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// IsZero reports whether no uid is known.
func (u InstanceUID) IsZero() bool { return u == InstanceUID{} }

// ContentHash is the SHA-256 of a body's exact bytes.
type ContentHash [sha256.Size]byte

// HashOf returns the content hash of body.
func HashOf(body []byte) ContentHash { return sha256.Sum256(body) }

// String is the hexadecimal form.
func (h ContentHash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether there is no body.
func (h ContentHash) IsZero() bool { return h == ContentHash{} }

// SemanticHash is the SHA-256 of what a Collector configuration means: reformatting leaves it the same. It says whether two
// versions do the same, never which bytes an agent has.
type SemanticHash [sha256.Size]byte

// String is the hexadecimal form.
func (h SemanticHash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether there is no meaning: an opaque configuration has none.
func (h SemanticHash) IsZero() bool { return h == SemanticHash{} }

// OfferHash is what an agent sees and reports back: the hash of a rendered config map (see ConfigMap.OfferHash).
// It differs from the content hash of the version's bytes, and the two must never be compared.
type OfferHash [sha256.Size]byte

// String is the hexadecimal form.
func (h OfferHash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether there is no offer.
func (h OfferHash) IsZero() bool { return h == OfferHash{} }

// MarshalText is the hexadecimal form, for JSON.
func (h ContentHash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (h *ContentHash) UnmarshalText(text []byte) error { return unhex(h[:], text) }

// MarshalText is the hexadecimal form, for JSON.
func (h OfferHash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (h *OfferHash) UnmarshalText(text []byte) error { return unhex(h[:], text) }

// MarshalText is the hexadecimal form, for JSON.
func (h SemanticHash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (h *SemanticHash) UnmarshalText(text []byte) error { return unhex(h[:], text) }

func unhex(to, text []byte) error {
	if len(text) != hex.EncodedLen(len(to)) {
		return ErrHashLength
	}
	_, err := hex.Decode(to, text)
	return err
}

// ErrHashLength is returned for a hash that is not 32 bytes.
var ErrHashLength = errors.New("fleet: a hash is 32 bytes")

// OfferHashFrom copies 32 bytes, as an agent reported them, into an OfferHash.
func OfferHashFrom(b []byte) (OfferHash, error) {
	if len(b) != sha256.Size {
		return OfferHash{}, ErrHashLength
	}
	return OfferHash(b), nil
}

// ContentHashFrom copies 32 bytes into a ContentHash.
func ContentHashFrom(b []byte) (ContentHash, error) {
	if len(b) != sha256.Size {
		return ContentHash{}, ErrHashLength
	}
	return ContentHash(b), nil
}

// Epoch numbers the claims of one agent's session: it grows with every claim and fences whatever an older one wrote.
type Epoch int64

// Sequence is the agent's own message counter (OpAMP sequence_num).
type Sequence int64

// Generation numbers the changes of an assignment or a grant.
type Generation int64

// Stamp is the place in an agent's story at which something was said. A part of a report is overwritten only by a
// later stamp, so parts that arrive late, twice or out of order lose nothing and overwrite nothing newer.
type Stamp struct {
	Epoch    Epoch
	Sequence Sequence
}

// After reports whether s is later than t.
func (s Stamp) After(t Stamp) bool {
	if s.Epoch != t.Epoch {
		return s.Epoch > t.Epoch
	}
	return s.Sequence > t.Sequence
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package identity names the parties of an Ampora installation and the
// credentials that prove who they are.
//
// Its guarantees: every Parse function is total over untrusted input (it
// returns an error, it never panics), accepts one spelling of each value and no
// other, and gives back a value whose text is that spelling. A value that came
// out of a Parse or New function is therefore safe to use as a key of a map, a
// row or a stream. The types are plain strings and arrays, so a conversion from
// an unchecked string is possible; it belongs only where the text was checked
// before, such as a row this installation wrote.
//
// A [Token] is the one value here that is a secret. It does not print.
package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/uuid"
)

// TenantID is the short name of a tenant: a DNS label in the wide sense of
// [ParseTenantID]. It is part of every key and of every agent's SPIFFE ID.
type TenantID string

// AgentID is the stable identity of an agent, minted at enrolment: a UUIDv7
// (RFC 9562, section 5.7) in canonical lower-case text.
type AgentID string

// GatewayID names a gateway for as long as its identity lives, which is longer
// than one process.
type GatewayID string

// InstanceUID is what an agent calls itself in OpAMP's instance_uid: sixteen
// bytes, a claim of the agent and never proof of identity.
type InstanceUID [16]byte

// Fingerprint names one certificate: the lower-case hex SHA-256 of its DER
// form, 64 characters.
type Fingerprint string

// Serial is the serial number of a certificate in lower-case hex without
// leading zeros; zero is "0". It is unique only together with the issuer.
type Serial string

// MaxTenantLength is the longest tenant name in bytes: that of a DNS label
// (RFC 1035, section 2.3.4).
const MaxTenantLength = 63

// Errors of the Parse functions of this file, wrapped with what was wrong. They
// quote nothing of the refused text.
var (
	ErrTenantID    = errors.New("not a tenant name")
	ErrAgentID     = errors.New("not an agent id")
	ErrGatewayID   = errors.New("not a gateway name")
	ErrInstanceUID = errors.New("not an instance uid")
)

// ParseTenantID accepts 1 to 63 characters of a-z, 0-9 and '-', and answers
// [ErrTenantID] for anything else.
func ParseTenantID(text string) (TenantID, error) {
	if text == "" || len(text) > MaxTenantLength {
		return "", fmt.Errorf("%w: it has %d characters, 1 to %d are allowed", ErrTenantID, len(text), MaxTenantLength)
	}
	for i := range len(text) {
		if c := text[i]; !lowerAlphanumeric(c) && c != '-' {
			return "", fmt.Errorf("%w: character %d is none of a-z, 0-9 and '-'", ErrTenantID, i+1)
		}
	}
	return TenantID(text), nil
}

// ParseGatewayID accepts what [ParseTenantID] does, and answers [ErrGatewayID] for anything
// else.
func ParseGatewayID(text string) (GatewayID, error) {
	if _, err := ParseTenantID(text); err != nil {
		return "", fmt.Errorf("%w: 1 to %d characters of a-z, 0-9 and '-' are allowed", ErrGatewayID, MaxTenantLength)
	}
	return GatewayID(text), nil
}

// NewAgentID mints the id of a new agent. Ids minted later sort later, to the
// millisecond. It panics if the operating system has no randomness to give,
// because nothing that needs an identity can go on then.
func NewAgentID() AgentID {
	return AgentID(uuid.Must(uuid.NewV7()).String())
}

// ParseAgentID accepts the canonical lower-case text of a UUIDv7 and answers
// [ErrAgentID] for anything else, other spellings of the same UUID included.
func ParseAgentID(text string) (AgentID, error) {
	id, err := uuid.Parse(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: it is no UUID", ErrAgentID)
	case id.Version() != 7 || id.Variant() != uuid.RFC4122:
		return "", fmt.Errorf("%w: it is a UUID of another version than 7", ErrAgentID)
	case id.String() != text:
		return "", fmt.Errorf("%w: it is not in canonical lower-case form", ErrAgentID)
	}
	return AgentID(text), nil
}

// ParseInstanceUID accepts exactly sixteen bytes, as the OpAMP specification
// asks for instance_uid, and answers [ErrInstanceUID] for any other length.
func ParseInstanceUID(raw []byte) (InstanceUID, error) {
	if len(raw) != len(InstanceUID{}) {
		return InstanceUID{}, fmt.Errorf("%w: it has %d bytes, not 16", ErrInstanceUID, len(raw))
	}
	return InstanceUID(raw), nil
}

// String is the uid in the text form of a UUID, whatever its version bits say.
func (u InstanceUID) String() string { return uuid.UUID(u).String() }

// FingerprintOf returns the fingerprint of a certificate in DER form.
func FingerprintOf(der []byte) Fingerprint {
	sum := sha256.Sum256(der)
	return Fingerprint(hex.EncodeToString(sum[:]))
}

// SerialOf returns the serial number n in its text form. A certificate carries a
// positive number (RFC 5280, section 4.1.2.2); a negative one, which only a
// forged certificate has, keeps its minus sign and so matches no recorded serial.
func SerialOf(n *big.Int) Serial { return Serial(n.Text(16)) }

func lowerAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package uplink is the seal under which gateways speak to the control plane over the
// bus: made by one half, checked by the other.
//
// Each gateway process has a key of its own, which control derives from the
// installation's secret and hands over when the process registers, over mutual TLS. It
// guarantees that whoever controls the bus, and any other gateway, can delay or drop what
// a gateway says but not make or alter it. A seal is bound to one purpose: that of an
// uplink is none of a mark, and that of a mark holds for its own register alone.
package uplink

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"gitlab.com/ampora/ampora/shared/identity"
)

// KeySize is the length of a key in bytes.
const KeySize = 32

// Key seals what one gateway process says. It does not print.
type Key [KeySize]byte

// String is not the key.
func (Key) String() string { return "[redacted]" }

// GoString is not the key.
func (Key) GoString() string { return "[redacted]" }

// Format writes String for every verb.
func (Key) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, "[redacted]") }

// ParseKey reads a key as it travels; an error for any other length.
func ParseKey(raw []byte) (Key, error) {
	if len(raw) != KeySize {
		return Key{}, fmt.Errorf("an uplink key has %d bytes, not %d", KeySize, len(raw))
	}
	return Key(raw), nil
}

// Derive returns the key of a gateway process: HMAC-SHA-256 (RFC 2104) of its name under
// the installation's secret, as the extract-and-expand of RFC 5869 does for one block.
func Derive(secret []byte, gateway identity.GatewayID, bootID uint64) Key {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("ampora uplink key v1\x00"))
	mac.Write(binary.BigEndian.AppendUint64(nil, bootID))
	mac.Write([]byte(gateway))
	return Key(mac.Sum(nil))
}

// SealSize is the length of a seal in bytes: the first half of the HMAC (RFC 2104,
// section 5).
const SealSize = sha256.Size / 2

// What seals are over, before the bytes themselves. They never change.
const (
	purposeUplink = "ampora uplink v1\x00"
	purposeMark   = "ampora mark v1\x00"
)

// SealUplink returns the seal of a serialised relay.v1.Uplink.
func (k Key) SealUplink(body []byte) []byte { return k.Sealer().AppendUplink(nil, body) }

// SealedUplink reports whether the key sealed the uplink.
func (k Key) SealedUplink(body, seal []byte) bool { return hmac.Equal(seal, k.SealUplink(body)) }

// SealMark returns the seal of a serialised relay.v1.Mark that stands in the register.
func (k Key) SealMark(register string, body []byte) []byte {
	return k.Sealer().AppendMark(nil, register, body)
}

// SealedMark reports whether the key sealed the mark for the register.
func (k Key) SealedMark(register string, body, seal []byte) bool {
	return hmac.Equal(seal, k.SealMark(register, body))
}

// Sealer is a key made ready to seal many times, by one goroutine at a time.
type Sealer struct {
	mac     hash.Hash
	purpose []byte
	sum     [sha256.Size]byte
}

// Sealer returns one of the key.
func (k Key) Sealer() *Sealer { return &Sealer{mac: hmac.New(sha256.New, k[:])} }

// AppendUplink appends the seal of a serialised relay.v1.Uplink.
func (s *Sealer) AppendUplink(dst, body []byte) []byte {
	s.purpose = append(s.purpose[:0], purposeUplink...)
	return s.append(dst, body)
}

// AppendMark appends the seal of a serialised relay.v1.Mark that stands in the register.
func (s *Sealer) AppendMark(dst []byte, register string, body []byte) []byte {
	s.purpose = append(append(append(s.purpose[:0], purposeMark...), register...), 0)
	return s.append(dst, body)
}

func (s *Sealer) append(dst, body []byte) []byte {
	s.mac.Reset()
	s.mac.Write(s.purpose)
	s.mac.Write(body)
	return append(dst, s.mac.Sum(s.sum[:0])[:SealSize]...)
}

// Register is the name of an agent's register on the shelves of marks and of polls.
func Register(tenant identity.TenantID, agent identity.AgentID) string {
	return string(tenant) + "/" + string(agent)
}

// MailRegister is the name of the register in which the latest downlink of a kind (the name
// of a relay.v1.Downlink.Kind) waits for an agent that polls.
func MailRegister(tenant identity.TenantID, agent identity.AgentID, kind string) string {
	return Register(tenant, agent) + "/" + kind
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package downlink is the signature under which the control plane sends work to
// gateways: made by one half, checked by the other.
//
// It guarantees that whoever controls the bus can delay or drop a downlink but not
// make or alter one. It is over the bytes that travel and not over their meaning, so
// nothing depends on a canonical encoding; and it is bound to this one purpose, so a
// signature of the same key over anything else is none here.
package downlink

import (
	"crypto/ed25519"
	"slices"
)

// purpose stands before what is signed. It is part of the protocol between the halves
// (relay.v1.SignedDownlink) and never changes.
const purpose = "ampora downlink v1\x00"

// Sign returns the Ed25519 signature (RFC 8032) of a serialised relay.v1.Downlink.
func Sign(key ed25519.PrivateKey, downlink []byte) []byte {
	return ed25519.Sign(key, signed(downlink))
}

// Verify reports whether the signature is that of the key over the downlink. A key or a
// signature of another length verifies nothing.
func Verify(key ed25519.PublicKey, downlink, signature []byte) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, signed(downlink), signature)
}

func signed(downlink []byte) []byte { return slices.Concat([]byte(purpose), downlink) }

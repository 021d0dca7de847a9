// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"

	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/downlink"
)

// Signer signs downlinks with the installation's key, so that whoever controls the bus can delay or drop them but not
// make or alter one.
type Signer struct {
	id  string
	key ed25519.PrivateKey
}

// NewSigner returns the signer whose key has the seed (ed25519.SeedSize bytes).
func NewSigner(seed []byte) *Signer {
	key := ed25519.NewKeyFromSeed(seed)
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	return &Signer{id: hex.EncodeToString(sum[:8]), key: key}
}

// Keys returns the public keys gateways verify with, by key id.
func (s *Signer) Keys() map[string][]byte {
	return map[string][]byte{s.id: s.key.Public().(ed25519.PublicKey)}
}

// Sign returns the serialised SignedDownlink.
func (s *Signer) Sign(m *relayv1.Downlink) ([]byte, error) {
	body, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("outbox: encode downlink: %w", err)
	}
	signed, err := proto.Marshal(&relayv1.SignedDownlink{
		Downlink: body, KeyId: s.id, Signature: downlink.Sign(s.key, body),
	})
	if err != nil {
		return nil, fmt.Errorf("outbox: encode signed downlink: %w", err)
	}
	return signed, nil
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/control/internal/seal"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/downlink"
)

// Signer signs downlinks with the installation's key, so that whoever controls the bus can delay or drop them but not
// make or alter one.
type Signer struct {
	id  string
	key ed25519.PrivateKey
}

// Settings keeps what is decided once for the installation.
type Settings interface {
	FixSetting(ctx context.Context, name string, value []byte) ([]byte, error)
}

// signingKeySetting names the wrapped seed; its binding names it too.
const signingKeySetting = "downlink_key"

// OpenSigner returns the installation's signer; the first process to ask makes its key.
func OpenSigner(ctx context.Context, settings Settings, ring *seal.Keyring) (*Signer, error) {
	binding := seal.Binding{Purpose: "downlink-key", Table: "settings", Row: signingKeySetting, Column: "value"}
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // never fails
	wrapped, err := ring.Wrap(binding, seed)
	if err != nil {
		return nil, fmt.Errorf("outbox: wrap signing key: %w", err)
	}
	stored, err := settings.FixSetting(ctx, signingKeySetting, wrapped)
	if err != nil {
		return nil, fmt.Errorf("outbox: store signing key: %w", err)
	}
	if seed, err = ring.Unwrap(binding, stored); err != nil {
		return nil, fmt.Errorf("outbox: unwrap signing key: %w", err)
	}
	key := ed25519.NewKeyFromSeed(seed)
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	return &Signer{id: hex.EncodeToString(sum[:8]), key: key}, nil
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

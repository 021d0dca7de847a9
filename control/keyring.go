// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/outbox"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// Settings that are decided once, at the first start, as the wrapped ones are.
const (
	settingTrustDomain = "trust_domain"
	settingLine        = "revocation_line"
)

// secretSize is that of each secret of the installation: the seed of an Ed25519 key, and an HMAC key.
const secretSize = 32

// openKeyring makes the keyring and proves that it is the one this database was written under.
func openKeyring(ctx context.Context, k Keys, s store.Installation) (*seal.Keyring, error) {
	ring, err := k.keyring()
	if err != nil {
		return nil, err
	}
	stored, err := s.FixSetting(ctx, fleet.WrappedKeyCheck.Only, ring.Check())
	if err != nil {
		return nil, fmt.Errorf("master key check: %w", err)
	}
	return ring, ring.VerifyCheck(stored)
}

// keyring makes the keyring.
func (k Keys) keyring() (*seal.Keyring, error) {
	master, err := seal.ParseMasterKey(k.Master.Reveal())
	if err != nil {
		return nil, fmt.Errorf("AMPORA_MASTER_KEY: %w", err)
	}
	var previous *seal.MasterKey
	if !k.Previous.IsZero() {
		p, err := seal.ParseMasterKey(k.Previous.Reveal())
		if err != nil {
			return nil, fmt.Errorf("AMPORA_PREVIOUS_MASTER_KEY: %w", err)
		}
		previous = &p
	}
	return seal.NewKeyring(master, previous), nil
}

// fixTrustDomain holds the installation to the trust domain of its first start.
func fixTrustDomain(ctx context.Context, s store.Installation, domain string) error {
	stored, err := s.FixSetting(ctx, settingTrustDomain, []byte(domain))
	if err != nil {
		return fmt.Errorf("trust domain: %w", err)
	}
	if string(stored) != domain {
		return errors.New("AMPORA_TRUST_DOMAIN is " + domain + ", but this installation began as " + string(stored) +
			": every certificate carries it, so it cannot change")
	}
	return nil
}

// fixLine returns the name of the count by which revocations are numbered, made by the first process to ask.
func fixLine(ctx context.Context, s store.Installation) (string, error) {
	line, err := s.FixSetting(ctx, settingLine, []byte(rand.Text()))
	if err != nil {
		return "", fmt.Errorf("the line of revocations: %w", err)
	}
	return string(line), nil
}

// fixSecret returns a secret of the installation, sealed under the master key; the first process to ask makes it. Its
// name is part of the seal, so one never opens as another.
func fixSecret(ctx context.Context, s store.Installation, ring *seal.Keyring, c fleet.WrappedColumn) ([]byte, error) {
	binding := seal.At(c, "", c.Only)
	secret := make([]byte, secretSize)
	_, _ = rand.Read(secret) // never fails
	wrapped, err := ring.Wrap(binding, secret)
	if err != nil {
		return nil, fmt.Errorf("wrap the %s: %w", c.Purpose, err)
	}
	stored, err := s.FixSetting(ctx, c.Only, wrapped)
	if err != nil {
		return nil, fmt.Errorf("store the %s: %w", c.Purpose, err)
	}
	if secret, err = ring.Unwrap(binding, stored); err != nil {
		return nil, fmt.Errorf("unwrap the %s: %w", c.Purpose, err)
	}
	return secret, nil
}

// openSigner returns the signer of downlinks.
func openSigner(ctx context.Context, s store.Installation, ring *seal.Keyring) (*outbox.Signer, error) {
	seed, err := fixSecret(ctx, s, ring, fleet.WrappedDownlinkKey)
	if err != nil {
		return nil, err
	}
	return outbox.NewSigner(seed), nil
}

// uplinks is the secret from which the keys derive that gateways seal with.
type uplinks []byte

func openUplinks(ctx context.Context, s store.Installation, ring *seal.Keyring) (uplinks, error) {
	return fixSecret(ctx, s, ring, fleet.WrappedUplinkSecret)
}

// key is that of a gateway process.
func (u uplinks) key(gateway fleet.GatewayID, boot uint64) uplink.Key {
	return uplink.Derive(u, identity.GatewayID(gateway), boot)
}

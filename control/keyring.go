// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Settings that are decided once, at the first start.
const (
	settingKeyCheck    = "master_key_check"
	settingTrustDomain = "trust_domain"
)

// openKeyring makes the keyring and proves that it is the one this database was written under.
func openKeyring(ctx context.Context, k Keys, s store.Installation) (*seal.Keyring, error) {
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
	ring := seal.NewKeyring(master, previous)
	stored, err := s.FixSetting(ctx, settingKeyCheck, ring.Check())
	if err != nil {
		return nil, fmt.Errorf("master key check: %w", err)
	}
	if err := ring.VerifyCheck(stored); err != nil {
		return nil, fmt.Errorf("AMPORA_MASTER_KEY is not the key this database was written under: %w", err)
	}
	return ring, nil
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

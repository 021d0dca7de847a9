// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/run"
)

// keysPause is how soon a process knows of signing keys that another has changed.
const keysPause = 2 * time.Second

// signingKeys keeps what this process knows of signing keys up to date, and lets go of those that nobody needs.
type signingKeys struct {
	store     store.SigningKeys
	authority *pki.Authority
	log       *slog.Logger
	now       func() time.Time
	// trusted is for how long a key is trusted at least that another one has followed.
	trusted time.Duration
}

// run reads keys anew until ctx is done.
func (k *signingKeys) run(ctx context.Context) error {
	return run.Loop(ctx, run.Pace{Idle: keysPause, Failed: keysPause}, func(ctx context.Context) (int, error) {
		_, err := k.authority.Refresh(ctx)
		return 0, err //nolint:wrapcheck // logged as it is
	}, func(err error) { k.log.WarnContext(ctx, "signing keys could not be read anew", "error", err) })
}

// retire retires the keys that were trusted for long enough, as far as no agent needs them.
func (k *signingKeys) retire(ctx context.Context) error {
	now := k.now()
	due, err := k.store.TrustedUntil(ctx, now.Add(-k.trusted))
	if err != nil {
		return err //nolint:wrapcheck // logged as what the duty failed of
	}
	var failed []error
	for _, key := range due {
		was, reason, err := k.store.ChangeSigningKey(ctx, fleet.System(key.Tenant, now), fleet.KeyChange{Key: key.ID, To: fleet.SigningKeyRetired})
		switch {
		case err != nil:
			failed = append(failed, fmt.Errorf("retire key %s: %w", key.ID, err))
		case reason != "":
			k.log.InfoContext(ctx, "a signing key is trusted for longer: agents need it", "tenant", key.Tenant, "key", key.ID, "agents", was.Agents, "online", was.Online)
		default:
			k.log.InfoContext(ctx, "a signing key was retired: no agent needs it", "tenant", key.Tenant, "key", key.ID)
		}
	}
	return errors.Join(failed...)
}

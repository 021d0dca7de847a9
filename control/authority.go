// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/run"
)

// keyServices opens the key services of a configuration, which asks none of them anything.
func (p PKI) keyServices(drivers []kms.Driver, log *slog.Logger, meter metric.Meter) (*kms.Services, error) {
	services, err := kms.Open(kms.Config{Home: p.KMS, Others: p.KMSOthers, Limit: p.KMSTimeout}, kms.Deps{Drivers: drivers, Log: log, Meter: meter})
	var wrong *kms.ConfigError
	if errors.As(err, &wrong) {
		variable := "AMPORA_PKI_KMS_OTHERS"
		if wrong.Home {
			variable = "AMPORA_PKI_KMS"
		}
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return services, err //nolint:wrapcheck // says what it is about
}

// CheckKeyServices refuses key services that cannot be, with the drivers that a program has, and asks nobody.
func (p PKI) CheckKeyServices(drivers []kms.Driver) error {
	_, err := p.keyServices(drivers, slog.New(slog.DiscardHandler), noop.Meter{})
	return err
}

// authority opens the certificate authority.
func (p PKI) authority(ctx context.Context, services *kms.Services, db store.Store, ring *seal.Keyring) (*pki.Authority, error) {
	return pki.Open(ctx, pki.Config{ //nolint:wrapcheck // says what it is about
		TrustDomain: p.TrustDomain, PublicURL: p.PublicURL, LeafLifetime: p.LeafLifetime, Algorithm: pki.Algorithm(p.Algorithm),
		KeyServices: services,
	}, db, ring)
}

// openAuthority opens the certificate authority, with keys for the installation's tenant. If a key service that is away
// should have made them, they are made later: pending.
func openAuthority(ctx context.Context, config Config, d Deps, db store.Store, ring *seal.Keyring) (authority *pki.Authority, services *kms.Services, pending bool, err error) {
	if services, err = config.PKI.keyServices(d.KeyServices, d.Log, d.Meter); err != nil {
		return nil, nil, false, err
	}
	if authority, err = config.PKI.authority(ctx, services, db, ring); err != nil {
		return nil, nil, false, err
	}
	err = authority.EnsureTenant(ctx, fleet.TenantID(config.Tenant), d.Now())
	if fault.Is(err, pki.ReasonKMSUnavailable) {
		d.Log.WarnContext(ctx, "the certificate authority is made as soon as the key service can be used", "tenant", config.Tenant, "error", err)
		return authority, services, true, nil
	}
	return authority, services, false, err
}

// authorityPause is the rest between two tries to make an authority.
const authorityPause = 5 * time.Second

// makeAuthority makes what a first start could not.
func (c *Control) makeAuthority(ctx context.Context) error {
	for c.pending && run.Sleep(ctx, authorityPause) == nil {
		err := c.authority.EnsureTenant(ctx, fleet.TenantID(c.config.Tenant), c.deps.Now())
		switch {
		case err == nil:
			c.deps.Log.InfoContext(ctx, "the certificate authority is made", "tenant", c.config.Tenant)
			return nil
		case !fault.Is(err, pki.ReasonKMSUnavailable): // which the key service tells of by itself
			c.deps.Log.WarnContext(ctx, "the certificate authority cannot be made", "tenant", c.config.Tenant, "error", err)
		}
	}
	return nil
}

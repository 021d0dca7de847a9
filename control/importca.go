// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/identity"
)

// CAImport is what ImportCA needs.
type CAImport struct {
	Database    Database
	Keys        Keys
	PKI         PKI
	KeyServices []kms.Driver
	// Tenant that the authority is for; Home is that of a fresh installation, which is made if it is not there.
	Tenant, Home string
	// PEM has the certificate of the authority, and that of its root after it; Key its private key in PEM, or KeyURI says
	// in which key service that is. PFX has all of them in place of PEM and Key.
	PEM, Key, PFX []byte
	KeyURI        string
	Password      []byte // of Key or PFX
	Now           time.Time
	Log           *slog.Logger
}

// Check refuses what cannot be, with a sentence.
func (i CAImport) Check() error {
	if _, err := identity.ParseTenantID(i.Tenant); err != nil {
		return fmt.Errorf("--tenant: %w", err)
	}
	if i.PKI.TrustDomain == "" {
		return errors.New("AMPORA_TRUST_DOMAIN is required: that of the installation")
	}
	return nil
}

// ImportCA takes an existing authority over as one of a tenant.
func ImportCA(ctx context.Context, i CAImport) (pki.Imported, error) {
	key, chain, err := i.read()
	if err != nil {
		return pki.Imported{}, err
	}
	db, err := openStore(ctx, i.Database, i.Log)
	if err != nil {
		return pki.Imported{}, err
	}
	defer func() { _ = db.Close() }()
	authority, done, err := i.open(ctx, db)
	if err != nil {
		return pki.Imported{}, err
	}
	defer done()
	tenant := fleet.TenantID(i.Tenant)
	imported, err := authority.Import(ctx, pki.Import{Tenant: tenant, Chain: chain, Key: key, KeyURI: i.KeyURI, Now: i.Now})
	switch {
	case errors.Is(err, store.ErrExists):
		return imported, errors.New("somebody made or imported an authority at the same moment, or the key was here before and is retired: look, and try again")
	case err != nil:
		return imported, err //nolint:wrapcheck // a fault with its sentence
	}
	for _, key := range imported.Keys {
		if err := db.RecordAudit(ctx, fleet.System(tenant, i.Now), "signing_key.import", "signing_key", string(key.ID)); err != nil {
			return imported, fmt.Errorf("the authority is imported, and the audit log does not know: %w", err)
		}
	}
	return imported, nil
}

// read reads what was given.
func (i CAImport) read() (crypto.Signer, []*x509.Certificate, error) {
	if i.PFX != nil {
		return pki.ReadPFX(i.PFX, i.Password) //nolint:wrapcheck // a sentence already
	}
	chain, err := pki.ReadCertificates(i.PEM)
	if err != nil || i.KeyURI != "" {
		return nil, chain, err //nolint:wrapcheck // a sentence already
	}
	key, err := pki.ReadKey(i.Key, i.Password)
	return key, chain, err //nolint:wrapcheck // a sentence already
}

// open opens the authority of the installation, in which the tenant is.
func (i CAImport) open(ctx context.Context, db store.Store) (authority *pki.Authority, done func(), err error) {
	ring, err := openKeyring(ctx, i.Keys, db)
	if err != nil {
		return nil, nil, err
	}
	if err := fixTrustDomain(ctx, db, i.PKI.TrustDomain); err != nil {
		return nil, nil, err
	}
	if i.Tenant == i.Home {
		_, err = content.New(db, ring).EnsureTenant(ctx, fleet.TenantID(i.Tenant), i.Now)
	} else if _, err = db.Tenant(ctx, fleet.TenantID(i.Tenant)); errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("--tenant: there is no tenant %q", i.Tenant)
	}
	if err != nil {
		return nil, nil, err
	}
	services, err := i.PKI.keyServices(i.KeyServices, i.Log, noop.Meter{})
	if err != nil {
		return nil, nil, err
	}
	authority, err = i.PKI.authority(ctx, services, db, ring)
	if err != nil {
		services.Close()
		return nil, nil, err
	}
	return authority, services.Close, nil
}

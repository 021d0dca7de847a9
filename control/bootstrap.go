// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/identity"
)

// bootstrapLife is how long the first Admin's token lives: long enough to make a better one.
const bootstrapLife = 7 * 24 * time.Hour

// Bootstrap is what BootstrapAdmin needs.
type Bootstrap struct {
	Database Database
	Keys     Keys
	Tenant   string
	// Name of the token; one live token of a name can exist.
	Name string
	Now  time.Time
	Log  *slog.Logger
}

// BootstrapAdmin makes an API token with the role Admin and returns its secret, which is not stored anywhere. Whoever
// can run it has the database and the master key anyway.
func BootstrapAdmin(ctx context.Context, b Bootstrap) (identity.Token, error) {
	db, err := openStore(ctx, b.Database, b.Log)
	if err != nil {
		return identity.Token{}, err
	}
	defer func() { _ = db.Close() }()
	ring, err := openKeyring(ctx, b.Keys, db)
	if err != nil {
		return identity.Token{}, err
	}
	tenant := fleet.TenantID(b.Tenant)
	if _, err := content.New(db, ring).EnsureTenant(ctx, tenant, b.Now); err != nil {
		return identity.Token{}, err
	}
	token := identity.NewToken(identity.APIToken)
	id, err := uuid.NewV7()
	if err != nil {
		return identity.Token{}, fmt.Errorf("token id: %w", err)
	}
	err = db.CreateAPIToken(ctx, fleet.System(tenant, b.Now), fleet.APIToken{
		ID: fleet.TokenID(id.String()), Tenant: tenant, Name: b.Name, Role: fleet.RoleAdmin, Hash: token.Hash(),
		CreatedBy: "ampora-control bootstrap-admin", CreatedAt: b.Now, ExpiresAt: b.Now.Add(bootstrapLife),
	})
	if errors.Is(err, store.ErrExists) {
		return identity.Token{}, fmt.Errorf("a live API token named %q exists already: revoke it with amporactl api-tokens revoke, or give another name with --name", b.Name)
	}
	if err != nil {
		return identity.Token{}, fmt.Errorf("create token: %w", err)
	}
	return token, nil
}

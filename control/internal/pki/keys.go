// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/seal"
)

// Keys is where signing keys are stored.
type Keys interface {
	// SigningKeys returns the keys of the tenant in any order, and no error if there
	// are none; retired ones may be left out. A key whose creation has returned is
	// among them.
	SigningKeys(ctx context.Context, tenant fleet.TenantID) ([]fleet.SigningKey, error)
	// CreateSigningKeys stores all keys, which belong to the tenant, or none. It fails
	// if one of them is active and the tenant has an active key of that kind already;
	// of conflicting calls at once exactly one succeeds, and after a failed one
	// SigningKeys returns what the other has stored.
	CreateSigningKeys(ctx context.Context, tenant fleet.TenantID, keys []fleet.SigningKey) error
	// TrustGeneration counts the changes of keys that exist: whoever reads keys after it finds that many.
	TrustGeneration(ctx context.Context) (int64, error)
}

// installation is the tenant under which keys that belong to none are kept.
const installation fleet.TenantID = ""

// KeyBinding is the place for which the private key of a signing key is sealed.
func KeyBinding(tenant fleet.TenantID, id fleet.KeyID) seal.Binding {
	return seal.At(fleet.WrappedCAKey, tenant, string(id))
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package content

import (
	"context"
	"fmt"
	"sync"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// dataKeys keeps the tenants' data keys opened. A tenant's data key never changes (a rotation of the master key wraps
// the same one anew), so an opened key never goes stale; tenants are few, so none is forgotten.
type dataKeys struct {
	installation store.Installation
	keyring      *seal.Keyring

	mu     sync.RWMutex
	opened map[fleet.TenantID]*seal.DataKey
}

func newDataKeys(installation store.Installation, keyring *seal.Keyring) *dataKeys {
	return &dataKeys{installation: installation, keyring: keyring, opened: map[fleet.TenantID]*seal.DataKey{}}
}

// of returns the data key of a tenant, from memory or from the database.
func (k *dataKeys) of(ctx context.Context, id fleet.TenantID) (*seal.DataKey, error) {
	k.mu.RLock()
	key := k.opened[id]
	k.mu.RUnlock()
	if key != nil {
		return key, nil
	}
	tenant, err := k.installation.Tenant(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read tenant %s: %w", id, err)
	}
	return k.open(tenant)
}

// open unwraps the data key of a tenant as it is stored and keeps it.
func (k *dataKeys) open(t fleet.Tenant) (*seal.DataKey, error) {
	key, err := k.keyring.UnwrapDataKey(dataKeyBinding(t.ID), t.WrappedDataKey)
	if err != nil {
		return nil, fmt.Errorf("open the data key of tenant %s: %w", t.ID, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opened[t.ID] = key
	return key, nil
}

// wrapNew returns a fresh data key for the tenant, in the form that is stored.
func (k *dataKeys) wrapNew(id fleet.TenantID) ([]byte, error) {
	return k.keyring.WrapDataKey(dataKeyBinding(id), seal.NewDataKey())
}

func dataKeyBinding(id fleet.TenantID) seal.Binding {
	return seal.At(fleet.WrappedDataKey, id, string(id))
}

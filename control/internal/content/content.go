// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package content keeps bodies by the hash of their exact bytes, sealed with the data key of the tenant they belong to.
//
// What is guaranteed: the database never sees a body in clear; what Get returns are, byte for byte, the bytes whose
// hash was asked for, in the tenant that was asked for, or it is an error; equal bodies of one tenant are stored once.
// A body or a data key that was moved to another row or tenant does not open. Everything here is safe for concurrent
// use.
package content

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Backend is the part of the database that bodies need.
type Backend interface {
	store.Bodies
	store.Installation
}

// Content puts bodies into the database and gets them back.
type Content struct {
	backend Backend
	keys    *dataKeys
}

// ErrAltered reports a stored body that opened, but is not the one its row claims to be.
var ErrAltered = errors.New("content: a stored body has another hash than its row")

// New returns a Content over the backend. The keyring opens the tenants' data keys.
func New(backend Backend, keyring *seal.Keyring) *Content {
	return &Content{backend: backend, keys: newDataKeys(backend, keyring)}
}

// EnsureTenant creates the tenant with a fresh data key if it is new, and returns the stored one. Of several processes
// that do so at once, the first one's key stays and the others' are never used. It fails if the stored data key does
// not open under the keyring.
func (c *Content) EnsureTenant(ctx context.Context, id fleet.TenantID, now time.Time) (fleet.Tenant, error) {
	wrapped, err := c.keys.wrapNew(id)
	if err != nil {
		return fleet.Tenant{}, fmt.Errorf("wrap the data key of tenant %s: %w", id, err)
	}
	stored, err := c.backend.EnsureTenant(ctx, fleet.Tenant{ID: id, CreatedAt: now, WrappedDataKey: wrapped})
	if err != nil {
		return fleet.Tenant{}, fmt.Errorf("create tenant %s: %w", id, err)
	}
	if _, err := c.keys.open(stored); err != nil {
		return fleet.Tenant{}, err
	}
	return stored, nil
}

// Put stores those bodies that are new and returns the hashes of all, in their order. It is idempotent.
func (c *Content) Put(ctx context.Context, tenant fleet.TenantID, at time.Time, bodies ...[]byte) ([]fleet.ContentHash, error) {
	key, err := c.keys.of(ctx, tenant)
	if err != nil {
		return nil, err
	}
	hashes := make([]fleet.ContentHash, len(bodies))
	sealed := make([]store.SealedBody, len(bodies))
	for i, body := range bodies {
		hashes[i] = fleet.HashOf(body)
		box, err := key.Seal(bodyBinding(tenant, hashes[i]), body)
		if err != nil {
			return nil, fmt.Errorf("seal body %s: %w", hashes[i], err)
		}
		sealed[i] = store.SealedBody{Hash: hashes[i], Size: int64(len(body)), Sealed: box}
	}
	if err := c.backend.PutBodies(ctx, tenant, at, sealed); err != nil {
		return nil, fmt.Errorf("store bodies: %w", err)
	}
	return hashes, nil
}

// Get returns the body with the hash. The error is [store.ErrNotFound] if the tenant has none, [ErrAltered] or one of
// package seal if what is stored is not it.
func (c *Content) Get(ctx context.Context, tenant fleet.TenantID, hash fleet.ContentHash) ([]byte, error) {
	key, err := c.keys.of(ctx, tenant)
	if err != nil {
		return nil, err
	}
	stored, err := c.backend.Body(ctx, tenant, hash)
	if err != nil {
		return nil, fmt.Errorf("read body %s: %w", hash, err)
	}
	body, err := key.Open(bodyBinding(tenant, hash), stored.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open body %s: %w", hash, err)
	}
	// The binding names the hash already; this holds even against whoever has the data key.
	if fleet.HashOf(body) != hash {
		return nil, fmt.Errorf("%w: %s", ErrAltered, hash)
	}
	return body, nil
}

// ReasonMissing is the reason of an error of [Content.Known].
const ReasonMissing = "BODY_MISSING"

// Known is Get for a body that something stored refers to: if it is not there, the mistake is ours.
func (c *Content) Known(ctx context.Context, tenant fleet.TenantID, hash fleet.ContentHash) ([]byte, error) {
	body, err := c.Get(ctx, tenant, hash)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.New(fault.Internal, ReasonMissing, "the stored bytes cannot be found").WithCause(err)
	}
	return body, err
}

// bodyBinding is where a body stands: bodies are found by tenant and hash and by nothing else.
func bodyBinding(tenant fleet.TenantID, hash fleet.ContentHash) seal.Binding {
	return seal.Binding{Purpose: "body", Tenant: string(tenant), Table: "bodies", Row: hash.String(), Column: "sealed"}
}

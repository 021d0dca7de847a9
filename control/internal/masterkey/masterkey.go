// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package masterkey puts a database under another master key, and says under which it is.
//
// A rotation wraps each record anew, one at a time, by comparing and swapping: a record that was changed meanwhile is
// read again, and one that somebody else has done is done. It keeps no state of its own, so it may end anywhere, run
// again, and run twice at once. A record is read by whoever holds both keys before, while and after it is wrapped anew.
// The key-check value, by which processes know at their start whether they have the right key, changes last, and only
// when every other record was seen to open under the new key: until then nobody is told to throw the old one away.
package masterkey

import (
	"context"
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Store is what is wrapped, and whose it is.
type Store interface {
	store.Envelopes
	// Tenants returns all tenants.
	Tenants(ctx context.Context) ([]fleet.Tenant, error)
}

// Record is one wrapped record, by its place.
type Record struct {
	Column fleet.WrappedColumn
	Tenant fleet.TenantID // empty for the installation's
	Key    string
}

// String names the record to operators.
func (r Record) String() string {
	if r.Tenant == "" {
		return fmt.Sprintf("%s %s", r.Column.Purpose, r.Key)
	}
	return fmt.Sprintf("%s %s of tenant %s", r.Column.Purpose, r.Key, r.Tenant)
}

func recordOf(c fleet.WrappedColumn, e fleet.Envelope) Record {
	return Record{Column: c, Tenant: e.Tenant, Key: e.Key}
}

// Failed is a record that does not open, and why.
type Failed struct {
	Record
	Why error
}

// page is how many records are read at once.
const page = 100

// every calls do with the records of a column, those of the installation and those of every tenant.
func every(ctx context.Context, s Store, c fleet.WrappedColumn, do func(e fleet.Envelope) error) error {
	owners, err := owners(ctx, s, c)
	if err != nil {
		return err
	}
	for _, owner := range owners {
		for after, more := "", true; more; {
			envelopes, err := s.Envelopes(ctx, c, owner, after, page)
			if err != nil {
				return fmt.Errorf("read the records of %s: %w", c.Purpose, err)
			}
			for _, e := range envelopes {
				if err := do(e); err != nil {
					return err
				}
				after = e.Key
			}
			more = len(envelopes) == page
		}
	}
	return nil
}

// owners are the tenants with records in a column, and the installation, which has none by name.
func owners(ctx context.Context, s Store, c fleet.WrappedColumn) ([]fleet.TenantID, error) {
	all := []fleet.TenantID{""}
	if c.Tenant == "" {
		return all, nil
	}
	tenants, err := s.Tenants(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the tenants: %w", err)
	}
	for _, t := range tenants {
		all = append(all, t.ID)
	}
	return all, nil
}

// opens tells whether a record can be read, all of it.
func opens(ring *seal.Keyring, c fleet.WrappedColumn, e fleet.Envelope) error {
	secret, err := ring.Unwrap(seal.At(c, e.Tenant, e.Key), e.Value)
	clear(secret)
	return err //nolint:wrapcheck // shown beside the record's name
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"log/slog"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/masterkey"
	"gitlab.com/ampora/ampora/control/internal/seal"
)

// MasterKeys is what the commands about the master key need.
type MasterKeys struct {
	Database Database
	Keys     Keys
	Now      func() time.Time
	Log      *slog.Logger
}

// MasterKeyStatus is under which master keys a database is.
type MasterKeyStatus struct {
	// Active and Previous are the ids of the configured keys, empty for those that are not.
	Active, Previous string
	Kinds            []masterkey.Standing
}

// Under is how many records of all kinds are under a master key.
func (s MasterKeyStatus) Under(id string) (n int) {
	for _, k := range s.Kinds {
		n += k.Under[id]
	}
	return n
}

// Total is how many records there are.
func (s MasterKeyStatus) Total() (n int) {
	for _, k := range s.Kinds {
		n += k.Total
	}
	return n
}

// Damaged are the records that do not open.
func (s MasterKeyStatus) Damaged() (all []masterkey.Failed) {
	for _, k := range s.Kinds {
		all = append(all, k.Damaged...)
	}
	return all
}

// Status looks at every record that is wrapped under a master key, and opens those that it has the key of. It needs none:
// records name theirs.
func (m MasterKeys) Status(ctx context.Context) (MasterKeyStatus, error) {
	var status MasterKeyStatus
	var ring *seal.Keyring
	if !m.Keys.Master.IsZero() {
		var err error
		if ring, err = m.Keys.keyring(); err != nil {
			return status, err
		}
		status.Active, status.Previous = ring.ActiveKeyID(), ring.PreviousKeyID()
	}
	db, err := openStore(ctx, m.Database, m.Log)
	if err != nil {
		return status, err
	}
	defer func() { _ = db.Close() }()
	status.Kinds, err = masterkey.Count(ctx, db, ring)
	return status, err
}

// Rotate wraps every record under AMPORA_MASTER_KEY, whose id it returns; told hears how far each kind is. See
// masterkey.Rotation for what it promises.
func (m MasterKeys) Rotate(ctx context.Context, told func(kind string, looked, total int)) (active string, out masterkey.Outcome, err error) {
	ring, err := m.Keys.keyring()
	if err != nil {
		return "", out, err
	}
	db, err := openStore(ctx, m.Database, m.Log)
	if err != nil {
		return "", out, err
	}
	defer func() { _ = db.Close() }()
	out, err = masterkey.Rotation{
		Store: db, Ring: ring, Now: m.Now, Told: func(c fleet.WrappedColumn, looked, total int) { told(c.Purpose, looked, total) },
	}.Run(ctx)
	return ring.ActiveKeyID(), out, err
}

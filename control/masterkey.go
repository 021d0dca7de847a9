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

// Kind is one kind of wrapped records: how many there are, and under which master keys.
type Kind struct {
	Name  string
	Total int
	Under map[string]int // by the key's id; the damaged are not among them
}

// Damaged is a record that does not open, and why.
type Damaged struct {
	Record string
	Why    error
}

// MasterKeyStatus is under which master keys a database is.
type MasterKeyStatus struct {
	// Active and Previous are the ids of the configured keys, empty for those that are not.
	Active, Previous string
	Kinds            []Kind
	Damaged          []Damaged
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
	standings, err := masterkey.Count(ctx, db, ring)
	if err != nil {
		return status, err
	}
	for _, s := range standings {
		status.Kinds = append(status.Kinds, Kind{Name: s.Column.Purpose, Total: s.Total, Under: s.Under})
		status.Damaged = append(status.Damaged, damaged(s.Damaged)...)
	}
	return status, nil
}

// MasterKeyRotation is what a rotation did.
type MasterKeyRotation struct {
	Active    string // the id of the key that everything is under now, unless there is Damaged
	Rewrapped int
	Damaged   []Damaged
}

// Rotate wraps every record under AMPORA_MASTER_KEY. told hears of each record that was looked at: of which kind, the how
// manieth, of how many when it began. See masterkey.Rotation for what it promises.
func (m MasterKeys) Rotate(ctx context.Context, told func(kind string, looked, total int)) (MasterKeyRotation, error) {
	var done MasterKeyRotation
	ring, err := m.Keys.keyring()
	if err != nil {
		return done, err
	}
	done.Active = ring.ActiveKeyID()
	db, err := openStore(ctx, m.Database, m.Log)
	if err != nil {
		return done, err
	}
	defer func() { _ = db.Close() }()
	standings, err := masterkey.Count(ctx, db, nil)
	if err != nil {
		return done, err
	}
	totals := map[string]int{}
	for _, s := range standings {
		totals[s.Column.Purpose] = s.Total
	}
	out, err := masterkey.Rotation{
		Store: db, Ring: ring, Now: m.Now,
		Told: func(c fleet.WrappedColumn, looked int) { told(c.Purpose, looked, max(looked, totals[c.Purpose])) },
	}.Run(ctx)
	done.Rewrapped, done.Damaged = out.Rewrapped, damaged(out.Failed)
	return done, err
}

func damaged(failed []masterkey.Failed) []Damaged {
	all := make([]Damaged, len(failed))
	for i, f := range failed {
		all[i] = Damaged{Record: f.Record.String(), Why: f.Why}
	}
	return all
}

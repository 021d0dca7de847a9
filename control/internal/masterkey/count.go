// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package masterkey

import (
	"context"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/seal"
)

// Standing says under which master keys the records of a column are.
type Standing struct {
	Column fleet.WrappedColumn
	Total  int
	// Under is how many records are under a master key, by its id in hexadecimal.
	Under map[string]int
	// Damaged does not open under a key that is at hand, or is no envelope at all. Not counted in Under.
	Damaged []Failed
}

// Count looks at every record, in the order of fleet.WrappedColumns. What is under a key of the ring is opened; a record
// names its key to whoever has none, and ring may be nil.
func Count(ctx context.Context, s Store, ring *seal.Keyring) ([]Standing, error) {
	var all []Standing
	for _, c := range fleet.WrappedColumns {
		standing := Standing{Column: c, Under: map[string]int{}}
		err := every(ctx, s, c, func(e fleet.Envelope) error {
			standing.add(ring, e)
			return nil
		})
		if err != nil {
			return nil, err
		}
		all = append(all, standing)
	}
	return all, nil
}

func (s *Standing) add(ring *seal.Keyring, e fleet.Envelope) {
	s.Total++
	key, ok := seal.MasterKeyOf(e.Value)
	if !ok {
		s.Damaged = append(s.Damaged, Failed{Record: recordOf(s.Column, e), Why: seal.ErrTampered})
		return
	}
	if ring != nil && (key == ring.ActiveKeyID() || key == ring.PreviousKeyID()) {
		if err := opens(ring, s.Column, e); err != nil {
			s.Damaged = append(s.Damaged, Failed{Record: recordOf(s.Column, e), Why: err})
			return
		}
	}
	s.Under[key]++
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package masterkey

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/control/internal/store"
)

var (
	// ErrEmpty says that there is nothing to rotate.
	ErrEmpty = errors.New("nothing was ever sealed in this database: it takes the master key of the first process that uses it")
	// ErrMoving says that records come up under another key as fast as they are done.
	ErrMoving = errors.New("records are sealed under another master key all the time: some process still has it as its " +
		"AMPORA_MASTER_KEY; swap the keys of every process first")
)

// Rotation wraps every record under the active key of Ring.
type Rotation struct {
	Store Store
	Ring  *seal.Keyring // active: the new key; previous: the old one
	Now   func() time.Time
	// Told hears of every record that was looked at: the how manieth of its column, of how many there were when it began.
	Told func(c fleet.WrappedColumn, looked, total int)
}

// Outcome is what a rotation did.
type Outcome struct {
	// Rewrapped is how many records were wrapped anew, Failed those that could not be. With any failure the key-check
	// value is as it was.
	Rewrapped int
	Failed    []Failed
}

// passes is how often the database is gone through before it is taken for a moving target. The second finds what came
// up during the first, and mostly nothing.
const passes = 5

// Run does it all. An error is that of the store, and what was done stays done: run it again. Otherwise, if nothing
// failed, every record there was is under the active key, the key-check value among them. Errors besides: ErrEmpty,
// ErrMoving, and seal.ErrWrongMasterKey if the ring is not this database's.
func (r Rotation) Run(ctx context.Context) (Outcome, error) {
	var out Outcome
	if err := r.check(ctx); err != nil {
		return out, err
	}
	totals, err := r.totals(ctx)
	if err != nil {
		return out, err
	}
	records, last := split(fleet.WrappedColumns)
	for range passes {
		done, err := r.pass(ctx, records, totals)
		out.Rewrapped += done.rewrapped
		if err != nil || len(done.failed) > 0 {
			out.Failed = done.failed
			return out, err
		}
		if !done.settled() {
			continue
		}
		done, err = r.pass(ctx, last, totals)
		out.Rewrapped, out.Failed = out.Rewrapped+done.rewrapped, done.failed
		if err != nil || done.overtaken == 0 {
			return out, err
		}
	}
	return out, ErrMoving
}

// split sets the key-check value apart.
func split(all []fleet.WrappedColumn) (records, last []fleet.WrappedColumn) {
	for _, c := range all {
		if c == fleet.WrappedKeyCheck {
			last = append(last, c)
		} else {
			records = append(records, c)
		}
	}
	return records, last
}

// check refuses a database that the ring is not of, before anything is changed.
func (r Rotation) check(ctx context.Context) error {
	stored, err := r.Store.Envelopes(ctx, fleet.WrappedKeyCheck, "", "", 1)
	switch {
	case err != nil:
		return fmt.Errorf("read the key-check value: %w", err)
	case len(stored) == 0:
		return ErrEmpty
	default:
		return r.Ring.VerifyCheck(stored[0].Value) //nolint:wrapcheck // a sentence for the operator already
	}
}

// totals is how many records there are, for whoever wants to know how far it is.
func (r Rotation) totals(ctx context.Context) (map[fleet.WrappedColumn]int, error) {
	standings, err := Count(ctx, r.Store, nil)
	totals := map[fleet.WrappedColumn]int{}
	for _, s := range standings {
		totals[s.Column] = s.Total
	}
	return totals, err
}

// tally is what became of the records of a pass.
type tally struct {
	rewrapped int
	overtaken int // changed by somebody else under our hands: the next pass looks again
	failed    []Failed
}

// settled says that everything that opens was as it should be already.
func (t tally) settled() bool { return t.rewrapped == 0 && t.overtaken == 0 }

func (r Rotation) pass(ctx context.Context, columns []fleet.WrappedColumn, totals map[fleet.WrappedColumn]int) (done tally, err error) {
	for _, c := range columns {
		looked := 0
		err := every(ctx, r.Store, c, func(e fleet.Envelope) error {
			if err := r.record(ctx, c, e, &done); err != nil {
				return fmt.Errorf("wrap %s anew: %w", recordOf(c, e), err)
			}
			looked++
			r.Told(c, looked, max(looked, totals[c]))
			return nil
		})
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// record wraps a record anew, unless it is under the active key already. That one is opened all the same: what a rotation
// leaves behind was seen to open. The error is that of the store.
func (r Rotation) record(ctx context.Context, c fleet.WrappedColumn, e fleet.Envelope, done *tally) error {
	failed := func(why error) error {
		done.failed = append(done.failed, Failed{Record: recordOf(c, e), Why: why})
		return nil
	}
	if err := opens(r.Ring, c, e); err != nil {
		return failed(err)
	}
	if !r.Ring.NeedsRewrap(e.Value) {
		return nil
	}
	anew, err := r.Ring.Rewrap(seal.At(c, e.Tenant, e.Key), e.Value)
	if err != nil {
		return failed(err)
	}
	err = r.Store.ReplaceEnvelope(ctx, fleet.System(e.Tenant, r.Now()), c, e, anew)
	switch {
	case err == nil:
		done.rewrapped++
	case errors.Is(err, store.ErrConflict):
		done.overtaken++
		err = nil
	}
	return err //nolint:wrapcheck // by the caller, who names the record
}

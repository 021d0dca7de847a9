// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Keyring wraps and unwraps records under the master key. During a rotation it
// holds the previous master key as well: everything old opens, everything new is
// sealed under the active one.
type Keyring struct {
	active   sealKey
	previous *sealKey
}

// NewKeyring returns a keyring that seals under active and still opens what
// previous has sealed; previous is nil outside a rotation. It panics for a zero
// key: a process must not come up sealing under a constant.
func NewKeyring(active MasterKey, previous *MasterKey) *Keyring {
	r := &Keyring{active: readyMaster(active)}
	if previous != nil {
		old := readyMaster(*previous)
		r.previous = &old
	}
	return r
}

func readyMaster(k MasterKey) sealKey {
	if k.secret == nil {
		panic("seal: zero master key")
	}
	return newSealKey(k.secret[:])
}

// ActiveKeyID names the active master key in hexadecimal, for operators who
// count what a rotation has left to do.
func (r Keyring) ActiveKeyID() string { return r.active.id.String() }

// PreviousKeyID names the previous master key likewise; empty if there is none.
func (r Keyring) PreviousKeyID() string {
	if r.previous == nil {
		return ""
	}
	return r.previous.id.String()
}

// key finds the key that an envelope names.
func (r *Keyring) key(id keyID) (sealKey, error) {
	switch {
	case id == r.active.id:
		return r.active, nil
	case r.previous != nil && id == r.previous.id:
		return *r.previous, nil
	}
	return sealKey{}, fmt.Errorf("%w: the record names master key %s", ErrUnknownKey, id)
}

// ErrWrongMasterKey reports that the configured master key is not the one that
// the database was sealed with. It is text for the operator, who is looking at a
// program that refuses to start.
var ErrWrongMasterKey = errors.New("AMPORA_MASTER_KEY is not the key that this database was sealed with; " +
	"configure the right one, or name it as AMPORA_PREVIOUS_MASTER_KEY if it is being replaced")

// checkBinding is where the key-check value stands: there is one per installation.
var checkBinding = Binding{Purpose: fleet.WrappedKeyCheck.Purpose}

// Check returns a key-check value to be stored when a database is first used, and
// to be replaced when [Keyring.NeedsRewrap] says so. Values differ on each call.
func (r *Keyring) Check() []byte {
	return seal(r.active, checkBinding, []byte("ampora"))
}

// VerifyCheck proves that the keyring opens what the database holds, before
// anything relies on it. stored is what [Keyring.Check] once returned, under the
// active or the previous key. Errors: [ErrWrongMasterKey], which also is
// [ErrUnknownKey], or [ErrTampered].
func (r *Keyring) VerifyCheck(stored []byte) error {
	_, err := r.Unwrap(checkBinding, stored)
	if errors.Is(err, ErrUnknownKey) {
		return fmt.Errorf("%w (AMPORA_MASTER_KEY is %s; %w)", ErrWrongMasterKey, r.ActiveKeyID(), err)
	}
	return err
}

// Format prints the id of the active key for every verb, never a secret.
func (r Keyring) Format(f fmt.State, _ rune) { io.WriteString(f, "keyring "+r.ActiveKeyID()) }

// LogValue logs the id of the active key, never a secret.
func (r Keyring) LogValue() slog.Value { return slog.StringValue(r.ActiveKeyID()) }

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"fmt"
	"time"
)

// The checks below are the same for every implementation, which calls them before
// anything else.

const maxRegisterName = 200

// CheckPartition refuses a partition outside 0 to 63 with ErrInvalid.
func CheckPartition(partition int) error {
	if partition < 0 || partition >= Partitions {
		return fmt.Errorf("%w: partition %d", ErrInvalid, partition)
	}
	return nil
}

// CheckPayload refuses a payload above MaxPayload with ErrTooLarge.
func CheckPayload(payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("%w: it has %d", ErrTooLarge, len(payload))
	}
	return nil
}

// CheckRegisters refuses a ttl that is none with ErrInvalid, and what [CheckRegister]
// refuses.
func CheckRegisters(shelf Shelf, ttl time.Duration, registers ...Register) error {
	if ttl <= 0 {
		return fmt.Errorf("%w: a ttl of %v", ErrInvalid, ttl)
	}
	for _, r := range registers {
		if err := CheckRegister(shelf, r); err != nil {
			return err
		}
	}
	return nil
}

// CheckNames refuses names that no register can have, as [CheckRegister] does.
func CheckNames(shelf Shelf, names ...string) error {
	for _, name := range names {
		if err := CheckRegister(shelf, Register{Name: name}); err != nil {
			return err
		}
	}
	return nil
}

// CheckRegister refuses a register without shelf or with a name that is none with
// ErrInvalid, and a value above MaxRegister with ErrTooLarge.
func CheckRegister(shelf Shelf, r Register) error {
	if shelf == "" || r.Name == "" || len(r.Name) > maxRegisterName {
		return fmt.Errorf("%w: a register without a shelf, or with a name of %d bytes", ErrInvalid, len(r.Name))
	}
	for i := range len(r.Name) {
		if c := r.Name[i]; c <= ' ' || c > '~' {
			return fmt.Errorf("%w: a register whose name is not printable ASCII", ErrInvalid)
		}
	}
	if len(r.Value) > MaxRegister {
		return fmt.Errorf("%w: a register has %d", ErrTooLarge, len(r.Value))
	}
	return nil
}

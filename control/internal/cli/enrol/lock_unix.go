// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package enrol

import (
	"fmt"
	"os"
	"syscall"
)

// lock keeps other processes from renewing the same identity until unlock is called. It dies with the process.
func (d dir) lock() (unlock func(), err error) {
	handle, err := os.Open(string(d))
	if err != nil {
		return nil, fmt.Errorf("locking the directory: %w", err)
	}
	if err := syscall.Flock(int(handle.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = handle.Close()
		return nil, fmt.Errorf("%w: %s", ErrBusy, string(d))
	}
	return func() { _ = handle.Close() }, nil
}

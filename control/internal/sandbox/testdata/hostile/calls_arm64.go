// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

// System calls that package syscall has no names for.
const (
	sysMemfdCreate  = 279
	sysBPF          = 280
	sysIOUringSetup = 425
)

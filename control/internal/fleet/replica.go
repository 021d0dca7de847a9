// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// Replica is one process of the control plane.
type Replica struct {
	ID         string // host and random bytes, new for each process
	Version    string
	StartedAt  time.Time
	LeaseUntil time.Time
}

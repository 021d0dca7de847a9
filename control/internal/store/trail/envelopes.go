// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import "gitlab.com/ampora/ampora/control/internal/fleet"

// Rewrapped is the entry of a record that is wrapped under another master key from now on.
func Rewrapped(c fleet.WrappedColumn, key string) Entry {
	return Entry{Action: "master_key.rotate", EntityKind: c.Purpose, EntityID: key}
}

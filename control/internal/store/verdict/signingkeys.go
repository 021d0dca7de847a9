// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import "gitlab.com/ampora/ampora/control/internal/fleet"

// OfKeyChange says why a signing key must not be changed; empty if it may. A key that signs is followed, not retired; what
// it has signed stays good until it is retired; and what is retired stays so.
func OfKeyChange(c fleet.KeyChange, on fleet.KeyUse) string {
	from := on.State
	switch {
	case on.Kind != fleet.SigningKeyIntermediate || from != fleet.SigningKeyDraft && from != fleet.SigningKeyTrusted:
		return fleet.KeyState
	case c.To == fleet.SigningKeyActive && on.Confirmed < on.Gateways && !c.Force:
		return fleet.KeyNotConfirmed
	case c.To == fleet.SigningKeyRetired && on.Agents > 0 && !c.Force:
		return fleet.KeyInUse
	case c.To != fleet.SigningKeyActive && c.To != fleet.SigningKeyRetired:
		return fleet.KeyState
	}
	return ""
}

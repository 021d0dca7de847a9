// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import "gitlab.com/ampora/ampora/control/internal/fleet"

// SigningKeyCreated is the entry of a key that is to sign one day.
func SigningKeyCreated(k fleet.SigningKey) Entry {
	return Entry{
		Action: "signing_key.create", EntityKind: "signing_key", EntityID: string(k.ID),
		After: Fields{"state": k.State, "algorithm": k.Algorithm, "parent": k.Parent},
	}
}

// SigningKeyChanged is the entry of a key in another state, with what stood of it.
func SigningKeyChanged(c fleet.KeyChange, was fleet.KeyUse) Entry {
	action := "signing_key.activate"
	if c.To == fleet.SigningKeyRetired {
		action = "signing_key.retire"
	}
	return Entry{
		Action: action, EntityKind: "signing_key", EntityID: string(c.Key), Before: Fields{"state": was.State},
		After: Fields{
			"state": c.To, "forced": c.Force, "leaves": was.Leaves, "agents": was.Agents, "gateways": was.Gateways, "confirmed": was.Confirmed,
		},
	}
}

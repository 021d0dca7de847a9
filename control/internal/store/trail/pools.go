// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import (
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// PoolCreated is the entry of a new token pool.
func PoolCreated(p fleet.TokenPool) Entry { return ofPool("token_pool.create", p.ID, ofSettings(p)) }

// PoolUpdated is the entry of a pool that was as before until then.
func PoolUpdated(before, after fleet.TokenPool) Entry {
	entry := ofPool("token_pool.update", after.ID, ofSettings(after))
	entry.Before = ofSettings(before)
	return entry
}

// PoolRotated is the entry of a pool with a new secret; the one before is good until then, zero for not at all.
func PoolRotated(p fleet.TokenPool, until time.Time) Entry {
	after := Fields{"name": p.Name}
	if !until.IsZero() {
		after["former_until"] = until.UTC()
	}
	return ofPool("token_pool.rotate_secret", p.ID, after)
}

// PoolDeleted is the entry of a pool that is no more; so many of its tokens were revoked with it.
func PoolDeleted(p fleet.TokenPool, revoked int) Entry {
	entry := ofPool("token_pool.delete", p.ID, Fields{"revoked_tokens": revoked})
	entry.Before = ofSettings(p)
	return entry
}

func ofPool(action string, id fleet.PoolID, after Fields) Entry {
	return Entry{Action: action, EntityKind: "token_pool", EntityID: string(id), After: after}
}

func ofSettings(p fleet.TokenPool) Fields {
	settings := Fields{
		"name": p.Name, "group": p.Group, "description": p.Description, "ttl": p.TTL.String(), "live_limit": p.LiveLimit,
		"per_hour": p.PerHour, "burst": p.Burst, "disabled": !p.DisabledAt.IsZero(),
	}
	if len(p.Tags) > 0 {
		settings["tags"] = p.Tags
	}
	return settings
}

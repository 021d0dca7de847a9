// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import (
	"fmt"
	"maps"
	"strconv"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// RolloutCreated is what a planned rollout leaves behind.
func RolloutCreated(by fleet.By, r fleet.Rollout) (Entry, fleet.Event) {
	return ofRollout("rollout.create", r, rolloutFields(r)),
		OfRollout(r, fleet.Event{
			At: by.At, Kind: fleet.EventRolloutCreated, Message: fmt.Sprintf("rollout of %s planned for %d agents", rolledOut(r), r.Plan.Agents),
			Attributes: map[string]string{"digest": r.Plan.Digest},
		})
}

// RolloutStarted is what the start leaves behind; its entry has the digest of what was planned.
func RolloutStarted(by fleet.By, r fleet.Rollout) (Entry, fleet.Event) {
	return ofRollout("rollout.start", r, rolloutFields(r)),
		OfRollout(r, fleet.Event{
			At: by.At, Kind: fleet.EventRolloutStarted, Message: fmt.Sprintf("rollout of %s started for %d agents", rolledOut(r), r.Plan.Agents),
			Attributes: map[string]string{"digest": r.Plan.Digest},
		})
}

// RolloutSuperseded is what a rollout leaves behind in whose place another one starts.
func RolloutSuperseded(by fleet.By, r fleet.Rollout) (Entry, fleet.Event) {
	return ofRollout("rollout.abort", r, Fields{"state": r.State, "reason": r.Reason}),
		OfRollout(r, fleet.Event{At: by.At, Kind: fleet.EventRolloutAborted, Message: r.Reason})
}

// RolloutSteered is the entry of what somebody decided for a rollout.
func RolloutSteered(action string, before, after fleet.Rollout) Entry {
	entry := ofRollout(action, after, Fields{"state": after.State, "wave": after.Wave, "reason": after.Reason, "extended": after.Extended.String()})
	entry.Before = Fields{"state": before.State, "wave": before.Wave, "reason": before.Reason, "extended": before.Extended.String()}
	return entry
}

// OfRollout is an event that says which rollout it is about, and in which group.
func OfRollout(r fleet.Rollout, e fleet.Event) fleet.Event {
	e.Tenant = r.Tenant
	attributes := map[string]string{
		"rollout": string(r.ID), "group": string(r.Definition.Group), "config": string(r.Definition.Config),
		"version": strconv.Itoa(r.Definition.Version), "wave": strconv.Itoa(r.Wave),
	}
	maps.Copy(attributes, e.Attributes)
	e.Attributes = attributes
	return e
}

func rolledOut(r fleet.Rollout) string {
	return fmt.Sprintf("%s@%d", r.Definition.ConfigName, r.Definition.Version)
}

func ofRollout(action string, r fleet.Rollout, after Fields) Entry {
	return Entry{Action: action, EntityKind: "rollout", EntityID: string(r.ID), After: after}
}

func rolloutFields(r fleet.Rollout) Fields {
	fields := Fields{
		"kind": r.Kind, "group": r.Definition.Group, "group_name": r.Definition.GroupName, "config": r.Definition.Config,
		"name": r.Definition.ConfigName, "version": r.Definition.Version, "agents": r.Plan.Agents, "digest": r.Plan.Digest,
	}
	if r.Of != "" {
		fields["of"] = r.Of
	}
	return fields
}

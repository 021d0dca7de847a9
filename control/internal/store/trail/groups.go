// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import (
	"fmt"
	"strconv"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/column"
)

// GroupCreated is the entry of a new group.
func GroupCreated(g fleet.Group) Entry { return ofGroup("group.create", g.ID, groupFields(g)) }

// GroupUpdated is the entry of a group that is defined otherwise.
func GroupUpdated(before, after fleet.Group) Entry {
	entry := ofGroup("group.update", after.ID, groupFields(after))
	entry.Before = groupFields(before)
	return entry
}

// GroupDeleted is the entry of a group that is gone, until it is undeleted.
func GroupDeleted(g fleet.Group) Entry {
	entry := ofGroup("group.delete", g.ID, nil)
	entry.Before = groupFields(g)
	return entry
}

// GroupUndeleted is the entry of a deleted group that is back.
func GroupUndeleted(g fleet.Group) Entry { return ofGroup("group.undelete", g.ID, groupFields(g)) }

// MembersMoved is the entry, in the name of the group that was asked to change, of agents that are in the group to from
// now on; they left if that is none.
func MembersMoved(about fleet.GroupID, agents []fleet.AgentID, to fleet.GroupID) Entry {
	action := "group.add_members"
	if to == "" {
		action = "group.remove_members"
	}
	return ofGroup(action, about, Fields{"agents": agents})
}

// Placed is the entry, in the name of a dynamic group, of agents that it chose, or of those that are in no group any more
// because it does not choose them.
func Placed(about fleet.GroupID, agents []fleet.AgentID, chosen bool) Entry {
	action := "group.place_members"
	if !chosen {
		action = "group.release_members"
	}
	return ofGroup(action, about, Fields{"agents": agents})
}

// DefaultGiven is the entry of agents that were assigned the default of the group they joined.
func DefaultGiven(g fleet.Group, version int, agents []fleet.AgentID) Entry {
	return ofGroup("group.give_default", g.ID, Fields{"config": g.Default.Config, "name": g.Default.ConfigName, "version": version, "agents": agents})
}

// GotDefault is the event of one of them.
func GotDefault(by fleet.By, g fleet.Group, version int, agent fleet.AgentID) fleet.Event {
	return fleet.Event{
		Tenant: by.Tenant, At: by.At, Kind: fleet.EventAssigned, Agent: agent,
		Message:    fmt.Sprintf("%s@%d is the default of its group", g.Default.ConfigName, version),
		Attributes: map[string]string{"target": column.TargetDefault, "id": string(g.ID), "config": string(g.Default.Config), "version": strconv.Itoa(version)},
	}
}

// LeftGroup is the message of an agent that is in no group any more.
const LeftGroup = "Left its group"

// Moved is the event of one agent whose group is another; "" stands for none.
func Moved(by fleet.By, agent fleet.AgentID, from, to fleet.GroupID) fleet.Event {
	message := "Joined a group"
	if to == "" {
		message = LeftGroup
	}
	return fleet.Event{
		Tenant: by.Tenant, At: by.At, Kind: fleet.EventGroupChanged, Agent: agent, Message: message,
		Attributes: map[string]string{"from": string(from), "to": string(to)},
	}
}

func ofGroup(action string, id fleet.GroupID, after Fields) Entry {
	return Entry{Action: action, EntityKind: "group", EntityID: string(id), After: after}
}

func groupFields(g fleet.Group) Fields {
	fields := Fields{"name": g.Name, "description": g.Description}
	if g.Dynamic() {
		fields["selector"], fields["priority"] = g.Selector, g.Priority
	}
	if g.Default.Config != "" {
		fields["default_config"], fields["default_version"], fields["default_on_claims"] = g.Default.Config, g.Default.Version, g.DefaultOnClaims
	}
	return fields
}

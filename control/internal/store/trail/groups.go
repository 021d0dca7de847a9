// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import "gitlab.com/ampora/ampora/control/internal/fleet"

// GroupCreated is the entry of a new group.
func GroupCreated(g fleet.Group) Entry { return ofGroup("group.create", g.ID, groupFields(g)) }

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

func groupFields(g fleet.Group) Fields { return Fields{"name": g.Name, "description": g.Description} }

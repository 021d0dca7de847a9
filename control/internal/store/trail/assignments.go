// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import (
	"fmt"
	"strconv"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/column"
)

// Assigned is what an assignment leaves behind, a new one or one that replaced another.
func Assigned(by fleet.By, a fleet.Assignment) (Entry, fleet.Event) {
	kind, _ := column.Target(a.Target)
	return ofAssignment(by, a, "assignment.assign", fmt.Sprintf("%s@%d assigned to the %s", a.ConfigName, a.Version, kind))
}

// Unassigned is what an assignment leaves behind that was removed.
func Unassigned(by fleet.By, a fleet.Assignment) (Entry, fleet.Event) {
	kind, _ := column.Target(a.Target)
	return ofAssignment(by, a, "assignment.unassign", "assignment of the "+kind+" removed")
}

func ofAssignment(by fleet.By, a fleet.Assignment, action, message string) (Entry, fleet.Event) {
	kind, id := column.Target(a.Target)
	entry := Entry{
		Action: action, EntityKind: "assignment", EntityID: id,
		After: Fields{"target": kind, "config": a.Config, "name": a.ConfigName, "version": a.Version, "generation": a.Generation},
	}
	return entry, fleet.Event{
		Tenant: by.Tenant, At: by.At, Kind: fleet.EventAssigned, Agent: a.Target.Agent, Message: message,
		Attributes: map[string]string{"target": kind, "id": id, "config": string(a.Config), "version": strconv.Itoa(a.Version)},
	}
}

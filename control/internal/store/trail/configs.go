// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import (
	"fmt"
	"strconv"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// ConfigCreated is the entry of a new configuration.
func ConfigCreated(c fleet.Config) Entry {
	return Entry{
		Action: "config.create", EntityKind: "config", EntityID: string(c.ID),
		After: Fields{"name": c.Name, "description": c.Description, "kind": c.Kind},
	}
}

// VersionCreated is the entry of a new draft.
func VersionCreated(v fleet.ConfigVersion) Entry {
	if v.RestoredFrom != 0 {
		return ofVersion("config_version.restore", v, versionFields(v))
	}
	return ofVersion("config_version.create", v, versionFields(v))
}

// VersionUpdated is the entry of a draft that was before.
func VersionUpdated(before, v fleet.ConfigVersion) Entry {
	entry := ofVersion("config_version.update", v, versionFields(v))
	entry.Before = versionFields(before)
	return entry
}

// VersionPublished is what a version leaves behind that may be assigned from now on.
func VersionPublished(by fleet.By, v fleet.ConfigVersion) (Entry, fleet.Event) {
	return ofVersion("config_version.publish", v, versionFields(v)), fleet.Event{
		Tenant: by.Tenant, At: by.At, Kind: fleet.EventConfigPublished, Message: fmt.Sprintf("version %d published", v.Version),
		Attributes: map[string]string{"config": string(v.Config), "version": strconv.Itoa(v.Version)},
	}
}

// VersionArchived is the entry of a version that may not be assigned any more.
func VersionArchived(v fleet.ConfigVersion) Entry { return ofVersion("config_version.archive", v, nil) }

// VersionUnarchived is the entry of a version that may be assigned again.
func VersionUnarchived(v fleet.ConfigVersion) Entry {
	return ofVersion("config_version.unarchive", v, versionFields(v))
}

func ofVersion(action string, v fleet.ConfigVersion, after Fields) Entry {
	id := string(v.Config) + "/" + strconv.Itoa(v.Version)
	return Entry{Action: action, EntityKind: "config_version", EntityID: id, After: after}
}

func versionFields(v fleet.ConfigVersion) Fields {
	fields := Fields{"state": v.State, "hash": v.Hash.String(), "revision": v.Revision, "note": v.Note}
	if len(v.Waived) > 0 {
		fields["waived"] = v.Waived
	}
	if v.RestoredFrom != 0 {
		fields["restored_from"] = v.RestoredFrom
	}
	return fields
}

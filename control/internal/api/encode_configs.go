// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strconv"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

var configKinds = word[fleet.ConfigKind, amporav1.ConfigKind]{
	{fleet.KindCollector, amporav1.ConfigKind_CONFIG_KIND_COLLECTOR},
	{fleet.KindOpaque, amporav1.ConfigKind_CONFIG_KIND_OPAQUE},
}

var versionStates = word[fleet.VersionState, amporav1.VersionState]{
	{fleet.VersionDraft, amporav1.VersionState_VERSION_STATE_DRAFT},
	{fleet.VersionPublished, amporav1.VersionState_VERSION_STATE_PUBLISHED},
	{fleet.VersionArchived, amporav1.VersionState_VERSION_STATE_ARCHIVED},
}

// kindFrom reads a kind; a request that names none means a collector.
func kindFrom(k amporav1.ConfigKind) fleet.ConfigKind {
	if k == amporav1.ConfigKind_CONFIG_KIND_UNSPECIFIED {
		return fleet.KindCollector
	}
	return configKinds.decode(k)
}

func config(c fleet.Config) *amporav1.Config {
	return &amporav1.Config{
		Id: string(c.ID), Name: c.Name, Description: c.Description, Kind: configKinds.encode(c.Kind),
		CreatedAt: moment(c.CreatedAt), LatestPublished: count(c.LatestPublished), Latest: count(c.Latest),
	}
}

func version(v fleet.ConfigVersion) *amporav1.ConfigVersion {
	return &amporav1.ConfigVersion{
		ConfigId:    string(v.Config),
		Version:     count(v.Version),
		State:       versionStates.encode(v.State),
		ContentHash: hashText(v.Hash),
		OfferHash:   hashText(v.Offer),
		Size:        v.Size,
		ContentType: v.ContentType,
		Revision:    count(v.Revision),
		Note:        v.Note,
		CreatedBy:   v.CreatedBy,
		CreatedAt:   moment(v.CreatedAt),
		PublishedAt: moment(v.PublishedAt),
	}
}

// versionName is a version as the audit log names it: "<config id>/<number>".
func versionName(v fleet.ConfigVersion) string {
	return string(v.Config) + "/" + strconv.Itoa(v.Version)
}

// defaultFrom reads a default; none if no configuration is named.
func defaultFrom(d *amporav1.DefaultConfig) fleet.DefaultConfig {
	if d.GetConfigId() == "" {
		return fleet.DefaultConfig{}
	}
	return fleet.DefaultConfig{Config: fleet.ConfigID(d.GetConfigId()), Version: int(d.GetVersion())}
}

// targetFrom reads a target; a rule of the message holds it to exactly one of the two.
func targetFrom(t *amporav1.Target) fleet.Target {
	return fleet.Target{Agent: fleet.AgentID(t.GetAgentId()), Group: fleet.GroupID(t.GetGroupId())}
}

func target(t fleet.Target) *amporav1.Target {
	if t.Agent != "" {
		return &amporav1.Target{Target: &amporav1.Target_AgentId{AgentId: string(t.Agent)}}
	}
	return &amporav1.Target{Target: &amporav1.Target_GroupId{GroupId: string(t.Group)}}
}

func assignment(a fleet.Assignment) *amporav1.Assignment {
	return &amporav1.Assignment{
		Target: target(a.Target), ConfigId: string(a.Config), ConfigName: a.ConfigName, Version: count(a.Version),
		OfferHash: hashText(a.Offer), CreatedBy: a.CreatedBy, CreatedAt: moment(a.CreatedAt), Generation: int64(a.Generation), Default: a.Target.Default,
	}
}

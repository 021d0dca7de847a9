// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strconv"

	"gitlab.com/ampora/ampora/control/internal/collector"
	library "gitlab.com/ampora/ampora/control/internal/configs"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/validator"
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

		SemanticHash: hashText(v.Semantic),
		RestoredFrom: count(v.RestoredFrom),
		Waived:       v.Waived,
		Templated:    v.Templated,
		ChangedBy:    v.ChangedBy,
		ChangedAt:    moment(v.ChangedAt),
	}
}

var severities = word[collector.Severity, amporav1.FindingSeverity]{
	{collector.Error, amporav1.FindingSeverity_FINDING_SEVERITY_ERROR},
	{collector.Warning, amporav1.FindingSeverity_FINDING_SEVERITY_WARNING},
	{collector.Info, amporav1.FindingSeverity_FINDING_SEVERITY_INFO},
}

func finding(f collector.Finding) *amporav1.ConfigFinding {
	return &amporav1.ConfigFinding{
		Rule: f.Rule, Severity: severities.encode(f.Severity), Path: f.Path, Line: count(f.Line), Column: count(f.Column),
		Message: f.Message, Fix: f.Fix,
	}
}

func buildVerdict(b library.BuildVerdict) *amporav1.BuildVerdict {
	return &amporav1.BuildVerdict{
		ServiceName: b.ServiceName, ServiceVersion: b.ServiceVersion, Agents: int64(b.Agents), ExampleAgentId: string(b.Example),
		Known: b.Components != nil, Missing: each(b.Missing, finding), Collector: collectorVerdict(b.Collector),
	}
}

var collectorOutcomes = word[validator.Outcome, amporav1.CollectorOutcome]{
	{validator.Accepted, amporav1.CollectorOutcome_COLLECTOR_OUTCOME_ACCEPTED},
	{validator.Refused, amporav1.CollectorOutcome_COLLECTOR_OUTCOME_REFUSED},
	{validator.Uncertain, amporav1.CollectorOutcome_COLLECTOR_OUTCOME_UNCERTAIN},
	{validator.Stopped, amporav1.CollectorOutcome_COLLECTOR_OUTCOME_STOPPED},
	{validator.NotAsked, amporav1.CollectorOutcome_COLLECTOR_OUTCOME_NOT_ASKED},
}

// collectorVerdict is nothing where nobody could be asked.
func collectorVerdict(v validator.Verdict) *amporav1.CollectorVerdict {
	if v.Outcome == "" {
		return nil
	}
	return &amporav1.CollectorVerdict{Outcome: collectorOutcomes.encode(v.Outcome), Findings: each(v.Findings, finding), Why: v.Why}
}

// sourceFrom reads a source; a rule of the message holds it to exactly one of the two.
func sourceFrom(s *amporav1.ConfigSource) library.Source {
	if v := s.GetVersion(); v != nil {
		return library.Source{Ref: library.Ref{Config: fleet.ConfigID(v.GetConfigId()), Version: int(v.GetVersion())}}
	}
	return library.Source{Body: s.GetBody()}
}

// sideFrom reads a side; a rule of the message holds it to exactly one of the four.
func sideFrom(s *amporav1.ConfigSide) library.Side {
	side := library.Side{
		Source:   library.Source{Body: s.GetBody()},
		Assigned: fleet.AgentID(s.GetAssignedToAgent()), Effective: fleet.AgentID(s.GetEffectiveOnAgent()),
	}
	if v := s.GetVersion(); v != nil {
		side.Ref = library.Ref{Config: fleet.ConfigID(v.GetConfigId()), Version: int(v.GetVersion())}
	}
	return side
}

func change(c collector.Change) *amporav1.ConfigChange {
	return &amporav1.ConfigChange{Kind: string(c.Kind), Path: c.Path, Before: c.Before, After: c.After, Sentence: c.Sentence}
}

// audienceFrom reads an audience: nil for none, the zero target for all.
func audienceFrom(a *amporav1.ConfigAudience) *fleet.Target {
	if a == nil {
		return nil
	}
	return &fleet.Target{Agent: fleet.AgentID(a.GetAgentId()), Group: fleet.GroupID(a.GetGroupId())}
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

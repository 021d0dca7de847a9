// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Configs keeps configurations, their versions and who shall get them.
type Configs interface {
	// CreateConfig stores a configuration and, if first is not nil, its first draft. ErrExists if the name is taken.
	CreateConfig(ctx context.Context, by fleet.By, c fleet.Config, first *fleet.ConfigVersion) (fleet.Config, error)
	// Config finds by id or name. ErrNotFound.
	Config(ctx context.Context, tenant fleet.TenantID, idOrName string) (fleet.Config, error)
	// Configs lists by name.
	Configs(ctx context.Context, tenant fleet.TenantID, f fleet.ConfigFilter, page fleet.Page) (list []fleet.Config, next string, err error)
	// CreateConfigVersion stores v as the next draft and returns it with its number. Its body must be stored. ErrNotFound.
	CreateConfigVersion(ctx context.Context, by fleet.By, v fleet.ConfigVersion) (fleet.ConfigVersion, error)
	// UpdateConfigVersion replaces hashes, offer, size and note of a draft whose revision is v.Revision, and raises it.
	// ErrNotFound; ErrState if it is no draft; ErrConflict if the revision is another.
	UpdateConfigVersion(ctx context.Context, by fleet.By, v fleet.ConfigVersion) (fleet.ConfigVersion, error)
	// ConfigVersion returns one version. ErrNotFound.
	ConfigVersion(ctx context.Context, tenant fleet.TenantID, id fleet.ConfigID, version int) (fleet.ConfigVersion, error)
	// ConfigVersions lists newest first.
	ConfigVersions(ctx context.Context, tenant fleet.TenantID, id fleet.ConfigID, f fleet.VersionFilter, page fleet.Page) (list []fleet.ConfigVersion, next string, err error)
	// PublishConfigVersion: draft to published, with what was found. ErrNotFound, ErrState, ErrConflict.
	PublishConfigVersion(ctx context.Context, by fleet.By, p fleet.Publication) (fleet.ConfigVersion, error)
	// ArchiveConfigVersion: published to archived. ErrState also while it is assigned, or the default of a group.
	ArchiveConfigVersion(ctx context.Context, by fleet.By, id fleet.ConfigID, version int) (fleet.ConfigVersion, error)
	// UnarchiveConfigVersion: archived to published, as it was. ErrNotFound, ErrState.
	UnarchiveConfigVersion(ctx context.Context, by fleet.By, id fleet.ConfigID, version int) (fleet.ConfigVersion, error)

	// Assign points the target, which is no default, at a published version (a.Version 0: the newest), raises the generation and wakes the
	// engine for every agent it decides for. ErrNotFound; ErrState if the version is not published; ErrLimit if a group
	// has more than limit members. It returns how many agents it decides for.
	Assign(ctx context.Context, by fleet.By, a fleet.Assignment, limit int) (fleet.Assignment, int, error)
	// Unassign removes the assignment and wakes the engine. ErrNotFound; ErrExists if a rollout is active in the group.
	Unassign(ctx context.Context, by fleet.By, t fleet.Target) error
	// Assignments lists by target.
	Assignments(ctx context.Context, tenant fleet.TenantID, page fleet.Page) (list []fleet.Assignment, next string, err error)
}

// ConfigRules keeps what a tenant forbids in configurations.
type ConfigRules interface {
	// PutConfigRule stores a rule, in the place of one with its id. ErrState if the tenant has fleet.MaxConfigRules others.
	PutConfigRule(ctx context.Context, by fleet.By, r fleet.ConfigRule) (fleet.ConfigRule, error)
	// DeleteConfigRule forgets a rule. ErrNotFound.
	DeleteConfigRule(ctx context.Context, by fleet.By, id string) error
	// ConfigRules returns all of a tenant by id.
	ConfigRules(ctx context.Context, tenant fleet.TenantID) ([]fleet.ConfigRule, error)
}

// Bodies keeps content-addressed bytes, sealed with the tenant's data key by the caller: the store sees no clear text.
type Bodies interface {
	// PutBodies stores those that are new. Idempotent.
	PutBodies(ctx context.Context, tenant fleet.TenantID, at time.Time, bodies []SealedBody) error
	// Body returns one. ErrNotFound.
	Body(ctx context.Context, tenant fleet.TenantID, hash fleet.ContentHash) (SealedBody, error)
}

// SealedBody is a body as it is stored.
type SealedBody struct {
	Hash   fleet.ContentHash // of the clear bytes
	Size   int64             // of the clear bytes
	Sealed []byte
}

// Drift keeps how what agents run differs from what they shall run. An agent is due when what it says it runs changes, and
// when a grant of its settles.
type Drift interface {
	// DueDrift returns what is to be compared for up to max agents of all tenants that are due at now, those first that have
	// been due longest.
	DueDrift(ctx context.Context, now time.Time, max int) ([]fleet.DriftLook, error)
	// PutDrift writes verdicts on agents of the tenant, with an event for each that drifts now or does no more, and says how
	// many it wrote. Left out is what was looked at in another version; that agent stays due.
	PutDrift(ctx context.Context, tenant fleet.TenantID, found []DriftVerdict, at time.Time) (int, error)
	// DriftOf returns the verdict on an agent, DriftUnknown if there is none. ErrNotFound if there is no such agent.
	DriftOf(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) (fleet.Drift, error)
	// DriftCounts counts agents of a target, all of the tenant for the zero one, by state. Agents without a verdict are of
	// state DriftUnknown.
	DriftCounts(ctx context.Context, tenant fleet.TenantID, of fleet.Target) (map[fleet.DriftState]int, error)
}

// DriftVerdict is what came of a look.
type DriftVerdict struct {
	On    fleet.DriftLook
	Drift fleet.Drift
}

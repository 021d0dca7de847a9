// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Fleet reads agents and changes what an operator may change of them.
type Fleet interface {
	// Agent returns one agent with session, gateway lease, group name and delivery. ErrNotFound.
	Agent(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) (fleet.Agent, error)
	// Agents lists by id. Presence is judged at now.
	Agents(ctx context.Context, tenant fleet.TenantID, f fleet.AgentFilter, now time.Time, page fleet.Page) (list []fleet.Agent, next string, err error)
	// CountAgents counts whom the filter selects, and no further than to most.
	CountAgents(ctx context.Context, tenant fleet.TenantID, f fleet.AgentFilter, now time.Time, most int) (int, error)
	// Parts returns what the agent last said, by kind.
	Parts(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) (map[fleet.PartKind]fleet.Part, error)
	// Builds groups the agents of a target, all of the tenant for the zero one, by name, version and what they say they were
	// built with: the most frequent first, at most max. total is how many agents there are, in any build.
	Builds(ctx context.Context, tenant fleet.TenantID, of fleet.Target, max int) (builds []fleet.Build, total int, err error)
	// Attempts returns the ledger of an agent, newest first, at most 100.
	Attempts(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) ([]fleet.Attempt, error)
	// ClearAttempts clears what blocks, wakes the engine and says how many lines that were. ErrNotFound.
	ClearAttempts(ctx context.Context, by fleet.By, id fleet.AgentID) (int, error)
	// AllowChildren sets how many further agents the identity may speak for. ErrNotFound; ErrState for a child.
	AllowChildren(ctx context.Context, by fleet.By, id fleet.AgentID, n int) (fleet.Agent, error)
	// ReleaseQuarantine lets a quarantined agent in again and forgets its takeovers. ErrNotFound; ErrState if it is not
	// quarantined.
	ReleaseQuarantine(ctx context.Context, by fleet.By, id fleet.AgentID) (fleet.Agent, error)
}

// Bulk does one thing to many agents.
type Bulk interface {
	// Act does to the selected agents what can be done to each, and says who was left alone and why; of a preview it only
	// says it. There is one audit event, which names every agent, and an event for each agent that it was done to; nothing is
	// written if it was done to none. A restart counts in disruption budgets for as long as its command may wait, and none
	// is done that would have one overdrawn, whatever happens meanwhile. ErrTooMany if more than Most are selected;
	// ErrConflict if another selection is expected.
	Act(ctx context.Context, by fleet.By, act fleet.Act) (fleet.ActOutcome, error)
}

// Groups keeps groups, and who is in the static ones. Whoever joins a group with a default is assigned that with it, in
// the place of what it got from the group before; a default of which no version is published any more is left out. Of whom
// waits there for a rollout see Rollouts; who leaves a group waits there no more. Each token that is redeemed is an act.
type Groups interface {
	// CreateGroup stores a group. ErrExists if one that is not deleted has the name; ErrNotFound if its default is no
	// version, ErrState if it is not published.
	CreateGroup(ctx context.Context, by fleet.By, g fleet.Group) (fleet.Group, error)
	// Group finds by id, or by name among those not deleted. ErrNotFound.
	Group(ctx context.Context, tenant fleet.TenantID, idOrName string) (fleet.Group, error)
	// Groups lists by name, deleted ones too if asked.
	Groups(ctx context.Context, tenant fleet.TenantID, deleted bool, page fleet.Page) (list []fleet.Group, next string, err error)
	// UpdateGroup gives a group that is not deleted another definition in the place of the one that was read: what operators
	// write, but for the name. Members keep what they have. ErrNotFound, ErrState as of CreateGroup; ErrConflict if it is
	// defined otherwise by now; ErrDynamic if a static group would become dynamic, or the other way round.
	UpdateGroup(ctx context.Context, by fleet.By, was, is fleet.Group) (fleet.Group, error)
	// DeleteGroup marks the group deleted, frees its name, removes its assignment and its members. ErrNotFound; ErrExists if a
	// rollout is active in it.
	DeleteGroup(ctx context.Context, by fleet.By, id fleet.GroupID) error
	// UndeleteGroup brings it back empty. ErrNotFound; ErrExists if the name is taken by now.
	UndeleteGroup(ctx context.Context, by fleet.By, id fleet.GroupID) (fleet.Group, error)
	// AddGroupMembers moves agents into a static group and wakes the engine for them. ErrNotFound if the group or any agent
	// is none; ErrDynamic.
	AddGroupMembers(ctx context.Context, by fleet.By, id fleet.GroupID, agents []fleet.AgentID, limit int) (fleet.Group, error)
	// RemoveGroupMembers takes those of the agents out of a static group that are in it. ErrNotFound if the group is none;
	// ErrDynamic.
	RemoveGroupMembers(ctx context.Context, by fleet.By, id fleet.GroupID, agents []fleet.AgentID) (fleet.Group, error)
}

// Grouping is what dynamic groups choose their members with. It is noted when something changes that decides for an agent:
// by reports, enrolments, tags and static groups that it joins or leaves, in the transaction of the change, if the tenant
// has a dynamic group. Every change of a dynamic group, or of its assignment, is a new generation, and all agents are due.
type Grouping interface {
	// GroupingsDue names the tenants of whose agents some are to be looked at, or all at now.
	GroupingsDue(ctx context.Context, now time.Time) ([]fleet.TenantID, error)
	// Choosers returns the tenant's dynamic groups; the zero ones if it never had any.
	Choosers(ctx context.Context, tenant fleet.TenantID) (fleet.Choosers, error)
	// Candidates returns agents of the tenant by id, after the one given, at most max: those of which something changed,
	// or all.
	Candidates(ctx context.Context, tenant fleet.TenantID, of Candidacy, after fleet.AgentID, max int) ([]fleet.Candidate, error)
	// Place puts agents where they are to be, under the generation that was decided on, settles the notes and says how many
	// it moved. It wakes the engine for those that moved; audit and events go along. ErrConflict, and nothing is written, if
	// the generation is another. Left out, and noted as changed, is an agent that is not where it was. One call is one act.
	// Of several that place an agent at once, one does.
	Place(ctx context.Context, tenant fleet.TenantID, p Placing) (moved int, err error)
	// FinishGrouping notes that all agents were looked at under the generation, what the selectors failed of, and when that is
	// done again. ErrConflict if the generation is another.
	FinishGrouping(ctx context.Context, tenant fleet.TenantID, generation int64, failing map[fleet.GroupID]fleet.SelectorFailure, next time.Time) error
	// LabelsInUse returns the keys of the tenant's labels or tags, or the values of a key, with the number of agents that
	// have them: the most frequent first, at most max.
	LabelsInUse(ctx context.Context, tenant fleet.TenantID, kind LabelKind, key string, max int) ([]LabelUse, error)
}

// Candidacy says which agents are asked for, and what of them.
type Candidacy struct {
	// ChangedOnly asks for those of which something changed.
	ChangedOnly bool
	// Tags and Labels say that those are wanted, too.
	Tags, Labels bool
}

// Placing is a lot of placements that were decided under a generation.
type Placing struct {
	Generation int64
	Placements []fleet.Placement
	Limit      int // of agents that one act may change
	At         time.Time
}

// LabelKind says whether labels, which agents claim, or tags are meant.
type LabelKind int

// The kinds.
const (
	Labels LabelKind = iota + 1
	Tags
)

// LabelUse is a key or a value, and how many agents have it.
type LabelUse struct {
	Text   string
	Agents int
}

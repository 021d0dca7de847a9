// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// Group is a set of agents; an agent is in at most one. A static group has the members that were put into it; a dynamic
// one has a selector, and chooses among the agents that are in no static group.
type Group struct {
	Tenant      TenantID
	ID          GroupID
	Name        string
	Description string
	// Selector is an expression over what is known of an agent; empty for a static group, which it stays.
	Selector string
	// Priority decides where several selectors choose an agent: the highest, then the group that is older by its id.
	Priority int
	// Default is what agents get that join; DefaultOnClaims says that they may get it for what they claim of themselves.
	Default         DefaultConfig
	DefaultOnClaims bool
	CreatedAt       time.Time
	DeletedAt       time.Time

	// Read-only, derived: how many are members, how many of them wait for a rollout to let them have what the group gives,
	// whether it has an assignment, and whether that is under a rollout that is not completed.
	MemberCount  int
	WaitingCount int
	Assigned     bool
	Settling     bool
	Failing      SelectorFailure
}

// Dynamic says that the group chooses its members.
func (g Group) Dynamic() bool { return g.Selector != "" }

// Gives says that the group changes whoever joins it, by its assignment or its default.
func (g Group) Gives() bool { return g.Assigned || g.Default.Config != "" }

// DefaultConfig is a version of a configuration; the zero one is none.
type DefaultConfig struct {
	Config     ConfigID
	ConfigName string // read-only, joined
	Version    int    // 0: the newest that is published when it is given
}

// SelectorFailure is what became of evaluating a selector for agents, when all were looked at last; zero if it went well.
type SelectorFailure struct {
	Agents int
	Since  time.Time
	Words  string // of one of them
}

// SameDefinition says that what operators write of the two is the same.
func (g Group) SameDefinition(other Group) bool {
	return g.Description == other.Description && g.Selector == other.Selector && g.Priority == other.Priority &&
		g.Default.Config == other.Default.Config && g.Default.Version == other.Default.Version && g.DefaultOnClaims == other.DefaultOnClaims
}

// Tags are keys and values that are known of an agent without asking it.
type Tags map[string]string

// Candidate is what selectors can see of an agent, and where the agent is.
type Candidate struct {
	Agent AgentID
	Group GroupID
	// Changed is the version of the note that something changed; 0: there is none.
	Changed int64

	// Verified: nothing of it is the agent's word.
	EnrolledAt time.Time
	Method     EnrolmentMethod
	Parent     AgentID
	Tags       Tags
	// Claimed by the agent.
	Labels         map[string]string
	ServiceName    string
	ServiceVersion string
	HostName       string
	Capabilities   Capabilities
}

// Placement is where an agent is to be, with where it was when that was decided.
type Placement struct {
	Agent    AgentID
	From, To GroupID
	// Changed is the note that is settled with it.
	Changed int64
}

// Choosers are a tenant's dynamic groups, as they stand under a generation.
type Choosers struct {
	Generation int64
	// DueAt is when all agents are to be looked at.
	DueAt  time.Time
	Groups []Group
}

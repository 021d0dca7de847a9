// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// RolloutSnapshot is what is known of a rollout when something is decided for it: counts and the next candidates, never
// the fleet.
type RolloutSnapshot struct {
	Rollout Rollout
	// Wave are the counts of the open wave, SoFar those of it and all before it, Rest how many agents are pending in waves
	// that are not open yet.
	Wave, SoFar Counts
	Rest        int
	// Next are pending agents of the open wave and of those before it, in order, at most CandidateLimit.
	Next []NextCandidate
	// Budgets are the tenant's disruption budgets as they are used now, by all rollouts and restarts.
	Budgets []BudgetUse
	// Schedules are those that are about the rollout's group; Calendar is what they say now (the store leaves it zero).
	Schedules []Schedule
	Calendar  Calendar
	// LookAt is the earliest Member.LookAt; zero: none.
	LookAt time.Time
	// Undoing is the state of the rollback that undoes this rollout; empty: there is none.
	Undoing RolloutState
}

// CandidateLimit is how many agents are let in at most at once.
const CandidateLimit = 1000

// NextCandidate is a pending agent with the budgets that it counts for.
type NextCandidate struct {
	Agent AgentID
	// Budgets are keys of BudgetUse. One that is disturbed by something else already is counted there and has none.
	Budgets []BudgetKey
}

// BudgetKey is a budget and the value of its label that an agent has.
type BudgetKey struct {
	Budget BudgetID
	Value  string
}

// BudgetUse is how many agents of a value of a budget's label are disturbed, and may be.
type BudgetUse struct {
	BudgetKey
	Name string
	Used int
	Most int
}

// Calendar is what maintenance windows and freezes say at a time.
type Calendar struct {
	// Closed says that no agent may be disturbed now; Words why, Until when that is over (zero: not known).
	Closed bool
	Words  string
	Until  time.Time
	// ClosesAt is when an open calendar closes; zero: not known.
	ClosesAt time.Time
}

// RolloutStep is what is done to a rollout. The zero one changes nothing.
type RolloutStep struct {
	// Rollout replaces what stands of it (state, wave, times, reason, accepted), guarded by Version and
	// RolloutTransitions; nil leaves it. Its Version and WakeAt are set by the store.
	Rollout *Rollout
	// Admit are agents of Next that are let in.
	Admit []AgentID
	// DeadlineAt is theirs.
	DeadlineAt time.Time
	// Close closes what was granted under the rollout and not sent, and lets those agents be pending again: with a pause, a
	// breach, an abort. The generation is raised.
	Close bool
	// RollBack asks for a rollback of the rollout to be made.
	RollBack bool
	Events   []Event
	// WakeAt is when to look again without being asked; zero: not.
	WakeAt time.Time
}

// MaxBudgets and MaxSchedules are how many a tenant can have: each is looked at whenever agents are to be disturbed.
const (
	MaxBudgets   = 20
	MaxSchedules = 100
)

// BudgetID is UUIDv7 text.
type BudgetID string

// Budget says how many agents of each value of a label may be disturbed at once.
type Budget struct {
	Tenant TenantID
	ID     BudgetID
	Name   string
	// Label is the key of a tag, else of a label of the agents' own. Agents without it count for no budget of it.
	Label string
	// Most is how many agents of one value, at least 1.
	Most      int
	CreatedBy string
	CreatedAt time.Time
}

// ScheduleID is UUIDv7 text.
type ScheduleID string

// ScheduleKind says what a schedule is.
type ScheduleKind string

// The kinds.
const (
	// ScheduleWindow is a maintenance window: agents of groups that have any are disturbed inside of one only.
	ScheduleWindow ScheduleKind = "window"
	// ScheduleFreeze is a time in which no agent is disturbed.
	ScheduleFreeze ScheduleKind = "freeze"
)

// Schedule is a recurring or single span of time.
type Schedule struct {
	Tenant TenantID
	ID     ScheduleID
	Name   string
	Kind   ScheduleKind
	// Groups it is about; none: all of the tenant.
	Groups []GroupID
	// Exactly one of Cron (five fields), Rule (an RFC 5545 RRULE with From as its DTSTART) and From with Until is set. The
	// first two recur, each time for Length.
	Cron   string
	Rule   string
	From   time.Time
	Until  time.Time
	Length time.Duration
	// Zone is an IANA time zone.
	Zone      string
	CreatedBy string
	CreatedAt time.Time
}

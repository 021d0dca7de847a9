// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// MemberState is where an agent stands in a rollout.
type MemberState string

// The states. An agent is let in with MemberAdmitted: from then on it may be granted the version.
const (
	MemberPending      MemberState = "pending"
	MemberAdmitted     MemberState = "admitted"
	MemberPushed       MemberState = "pushed" // its gateway wrote the offer to it
	MemberApplying     MemberState = "applying"
	MemberApplied      MemberState = "applied"
	MemberFailed       MemberState = "failed" // or went back by itself, or failed on it before
	MemberSkipped      MemberState = "skipped"
	MemberDisconnected MemberState = "disconnected" // after it was pushed to, and has not come back with the version
)

// MemberTransitions is the one table of a member's life. Back to pending goes whom a pause or an abort finds let in and
// nothing sent to. What has failed may be tried again when an operator says so; what was applied may fail later.
var MemberTransitions = map[MemberState][]MemberState{
	MemberPending:      {MemberAdmitted, MemberSkipped},
	MemberAdmitted:     {MemberPending, MemberPushed, MemberApplying, MemberApplied, MemberFailed, MemberSkipped, MemberDisconnected},
	MemberPushed:       {MemberApplying, MemberApplied, MemberFailed, MemberSkipped, MemberDisconnected},
	MemberApplying:     {MemberPushed, MemberApplied, MemberFailed, MemberSkipped, MemberDisconnected},
	MemberApplied:      {MemberPushed, MemberApplying, MemberFailed, MemberDisconnected, MemberSkipped},
	MemberFailed:       {MemberPushed, MemberApplying, MemberApplied, MemberDisconnected, MemberSkipped},
	MemberSkipped:      {MemberPending},
	MemberDisconnected: {MemberPushed, MemberApplying, MemberApplied, MemberFailed, MemberSkipped},
}

// ChangeClass says how much a rollout changes what an agent runs.
type ChangeClass string

// The classes, from nothing to everything.
const (
	ChangeNone       ChangeClass = "none"       // it has these bytes already
	ChangeFormat     ChangeClass = "format"     // other bytes, the same meaning
	ChangeComponents ChangeClass = "components" // components are set otherwise
	ChangePipelines  ChangeClass = "pipelines"  // pipelines come, go, or have other members
	ChangeNew        ChangeClass = "new"        // it had no configuration of ours
	ChangeOpaque     ChangeClass = "opaque"     // it cannot be said: not of the kind collector, or a template
)

// Member is an agent in a rollout, and what is seen of it there.
type Member struct {
	Rollout RolloutID
	Agent   AgentID
	// Wave is from 1; 0 for an agent that was skipped when it was planned. Position is the place in the whole order.
	Wave     int
	Position int
	State    MemberState
	// Reason is in words, of what is skipped or has failed.
	Reason string
	// Former is what the agent was to run before, Target what it is to run now if that is not the rollout's version (of a
	// rollback).
	Former AssignedVersion
	Target AssignedVersion
	Change ChangeClass
	// Revision is raised by every change.
	Revision int64

	AdmittedAt time.Time
	PushedAt   time.Time
	DeadlineAt time.Time // for its last word
	SettledAt  time.Time // of its first last word: applied, failed, skipped
	// LookAt is when time alone next changes what is counted of it (see Elapsed); zero: never.
	LookAt time.Time

	// What is seen of it now.
	Gone      bool // away since within the disconnect gate's window
	Unhealthy bool
	Mismatch  bool // what it says it runs is not what it was given
	// HealthCounts and ConfigCounts say that the gates' windows have passed; Overdue that its deadline has, without a last
	// word.
	HealthCounts bool
	ConfigCounts bool
	Overdue      bool
}

// Answered says that the agent's last word is there.
func (m Member) Answered() bool { return m.State == MemberApplied || m.State == MemberFailed }

// Touched says that the version may have reached the agent.
func (m Member) Touched() bool {
	return m.State != MemberPending && m.State != MemberSkipped
}

// Succeeded says that it applied the version, and is well with it after the windows of the gates.
func (m Member) Succeeded() bool {
	return m.State == MemberApplied && m.HealthCounts && m.ConfigCounts && !m.Unhealthy && !m.Mismatch && !m.Gone
}

// Disturbed says that the agent may be worse off for the rollout at this moment: budgets count it. It is over when the
// agent has answered and is well after the windows of the gates. One that nothing was pushed to by its deadline, or that
// failed before and gets nothing, is not; one that was pushed to and does not answer is.
func (m Member) Disturbed() bool {
	if m.PushedAt.IsZero() {
		return m.Touched() && !m.Answered() && !m.Overdue
	}
	return m.Touched() && !(m.Answered() && m.HealthCounts && !m.Unhealthy && !m.Gone)
}

// Elapsed is what time alone makes of the member: which windows of the gates have passed, whether it is overdue, and when
// to look again. Windows run from the push, so they count nothing of an agent that nothing was pushed to.
func (m Member) Elapsed(gates Gates, now time.Time) Member {
	m.LookAt = time.Time{}
	if !m.Touched() {
		return m
	}
	if !m.PushedAt.IsZero() {
		m.HealthCounts = m.HealthCounts || m.passed(m.PushedAt.Add(gates.Unhealthy.window()), now)
		m.ConfigCounts = m.ConfigCounts || m.passed(m.PushedAt.Add(gates.Mismatch.window()), now)
	}
	m.Overdue = !m.Answered() && !m.DeadlineAt.IsZero() && m.passed(m.DeadlineAt, now)
	return m
}

// passed reports whether at is over; if not, the member is looked at then, or before.
func (m *Member) passed(at, now time.Time) bool {
	if !now.Before(at) {
		return true
	}
	if m.LookAt.IsZero() || at.Before(m.LookAt) {
		m.LookAt = at
	}
	return false
}

// Counts are numbers of agents of a wave, or of several.
type Counts struct {
	// Agents are all of them but those that are skipped.
	Agents  int `json:"agents,omitzero"`
	Skipped int `json:"skipped,omitzero"`
	Pending int `json:"pending,omitzero"`
	Touched int `json:"touched,omitzero"`
	// InFlight were let in and neither have answered nor are overdue nor gone; Watched are those that a window of a gate is
	// still open for.
	InFlight int `json:"in_flight,omitzero"`
	Watched  int `json:"watched,omitzero"`
	Applied  int `json:"applied,omitzero"`
	// Succeeded: see Member.Succeeded.
	Succeeded int `json:"succeeded,omitzero"`
	Overdue   int `json:"overdue,omitzero"`
	// What the gates count.
	Failed    int `json:"failed,omitzero"`
	Gone      int `json:"gone,omitzero"`
	Mismatch  int `json:"mismatch,omitzero"`
	Unhealthy int `json:"unhealthy,omitzero"`
}

// Tally is what one member adds to the counts of its wave.
func Tally(m Member) Counts {
	is := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	touched := m.Touched()
	return Counts{
		Agents:    is(m.State != MemberSkipped),
		Skipped:   is(m.State == MemberSkipped),
		Pending:   is(m.State == MemberPending),
		Touched:   is(touched),
		InFlight:  is(touched && !m.Answered() && !m.Overdue && !m.Gone),
		Watched:   is(touched && m.State == MemberApplied && !(m.HealthCounts && m.ConfigCounts)),
		Applied:   is(m.State == MemberApplied),
		Succeeded: is(m.Succeeded()),
		Overdue:   is(touched && m.Overdue && !m.Answered()),
		Failed:    is(m.State == MemberFailed),
		Gone:      is(touched && m.Gone),
		Mismatch:  is(touched && m.Mismatch && m.ConfigCounts),
		Unhealthy: is(touched && m.Unhealthy && m.HealthCounts),
	}
}

// Plus adds, Minus takes away, field by field.
func (c Counts) Plus(o Counts) Counts { return c.with(o, 1) }

// Minus takes away, field by field.
func (c Counts) Minus(o Counts) Counts { return c.with(o, -1) }

func (c Counts) with(o Counts, by int) Counts {
	return Counts{
		Agents: c.Agents + by*o.Agents, Skipped: c.Skipped + by*o.Skipped, Pending: c.Pending + by*o.Pending, Touched: c.Touched + by*o.Touched,
		InFlight: c.InFlight + by*o.InFlight, Watched: c.Watched + by*o.Watched, Applied: c.Applied + by*o.Applied,
		Succeeded: c.Succeeded + by*o.Succeeded, Overdue: c.Overdue + by*o.Overdue, Failed: c.Failed + by*o.Failed,
		Gone: c.Gone + by*o.Gone, Mismatch: c.Mismatch + by*o.Mismatch, Unhealthy: c.Unhealthy + by*o.Unhealthy,
	}
}

// MemberFilter selects members; every field that is set must hold.
type MemberFilter struct {
	Wave  int
	State MemberState
	// Stragglers are those that were let in and have not answered, longest first; Problems those that a gate counts.
	Stragglers bool
	Problems   bool
}

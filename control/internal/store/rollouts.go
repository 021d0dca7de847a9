// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Rollouts keeps rollouts, who is in them, and the counts of each wave, which are changed with the members in one
// transaction: they are always the sum of fleet.Tally over the members.
//
// An agent of a group whose assignment is under a rollout is held (fleet.Situation.Held) while the rollout has not let it
// in or is stopped, and while it waits: whoever joins a group whose rollout is not completed waits, as does everybody of
// more than a limit of agents that join a group with an assignment or a default at once. One that has an assignment of its
// own is never held.
type Rollouts interface {
	// RolloutCandidates returns what a plan has to know of agents, by id. ErrNotFound if the group, the rollout or the version
	// is none. Change is left empty: the caller knows what versions mean.
	RolloutCandidates(ctx context.Context, tenant fleet.TenantID, of RolloutScope) ([]fleet.RolloutCandidate, error)
	// CreateRollout stores a pending rollout with its members. ErrNotFound if group or version is none, ErrState if the
	// version is not published; of a rollback, if the rollout it undoes cannot be rolled back or is being so already.
	CreateRollout(ctx context.Context, by fleet.By, r fleet.Rollout, members []fleet.Member) (fleet.Rollout, error)
	// Rollout returns one. ErrNotFound.
	Rollout(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID) (fleet.Rollout, error)
	// Rollouts lists newest first.
	Rollouts(ctx context.Context, tenant fleet.TenantID, f fleet.RolloutFilter, page fleet.Page) (list []fleet.Rollout, next string, err error)
	// RolloutWaves returns the counts of each wave, in order; wave 0 are those that were skipped when it was planned.
	RolloutWaves(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID) ([]fleet.WaveCounts, error)
	// Members lists the members of a rollout by position, those of MemberFilter.Stragglers by how long they were let in.
	Members(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID, f fleet.MemberFilter, page fleet.Page) (list []MemberView, next string, err error)
	// StartRollout makes a pending rollout begin: what it rolls out is from now on what its group is assigned, under the
	// rollout; its members are held but for the first wave, which is due; members of the group that the plan does not know wait.
	// Given members take the place of those that were planned. The rollback of a rollout makes that roll back. Audit and event
	// go along, with the digest. ErrNotFound; ErrState if it is not pending or its version is not published any more; ErrExists
	// if another rollout is active in the group, and Supersede is not set: then that is aborted. ErrConflict if Version is
	// another by now.
	StartRollout(ctx context.Context, by fleet.By, s RolloutStart) (fleet.Rollout, error)
	// Steer does what somebody decides for a rollout that is locked meanwhile: after it was committed, nothing that it closed
	// is granted or sent. An error of decide is returned as it is, and nothing written. The audit record has the action.
	// ErrNotFound; ErrState if the rollout may not become what the step says (fleet.RolloutTransitions).
	Steer(ctx context.Context, by fleet.By, id fleet.RolloutID, action string, decide func(fleet.RolloutSnapshot) (fleet.RolloutStep, error)) (fleet.Rollout, error)
	// AdvanceRollouts takes up to max rollouts of all tenants that are due at now, each in a transaction of its own, and does
	// what is decided: first for members whose LookAt has come, up to fleet.CandidateLimit of them, then for the rollout. One
	// that another process works on is passed over. It says how many it advanced. A step that closes something is decided and
	// done anew with the rollout locked against whoever grants or sends, as by Steer. One that cannot be advanced holds up no
	// other, though there is an error: it is due again after RolloutPause, or when it is woken, if it would fail again at once.
	AdvanceRollouts(ctx context.Context, now time.Time, max int, d Deciding) (int, error)
	// AddMembers puts agents that wait into a rollout that is active and not in its last wave's end, as pending members of its
	// last wave; they wait no more. It says how many it added. ErrState if the rollout is not active.
	AddMembers(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID, members []fleet.Member, at time.Time) (int, error)
	// GroupsWaiting returns the groups of all tenants with agents that wait and are online, and their assignments' rollouts.
	GroupsWaiting(ctx context.Context, now time.Time) ([]GroupWaiting, error)
	// Release lets agents that wait for a group have what it is assigned, wakes the engine for them, and says how many that
	// were. ErrLimit, and nothing is written, if more than limit wait and are online; those that are not online go on waiting.
	Release(ctx context.Context, tenant fleet.TenantID, group fleet.GroupID, limit int, at time.Time) (int, error)
}

// RolloutPause is how long a rollout is left alone that could not be advanced, and cannot be at once.
const RolloutPause = 30 * time.Second

// RolloutScope says which agents are asked for.
type RolloutScope struct {
	Group fleet.GroupID
	// Waiting narrows to those that wait and are online.
	Waiting bool
	// Touched narrows to those that this rollout touched, with what each had before as Target.
	Touched fleet.RolloutID
	// Config and Version are what would be rolled out: Blocked is about it. Not of Touched.
	Config  fleet.ConfigID
	Version int
	// Spread is the key of the label to read as such, Blast those to read as that; tags come before labels.
	Spread string
	Blast  []string
}

// RolloutStart starts a rollout.
type RolloutStart struct {
	Rollout fleet.RolloutID
	// Version of the row that was looked at.
	Version int64
	// Plan and Members take the place of what was planned before; nil: that holds.
	Plan    *fleet.RolloutPlan
	Members []fleet.Member
	// Supersede aborts what is active in the group.
	Supersede bool
}

// Deciding is who decides for rollouts. Both are pure.
type Deciding struct {
	// Elapse is what time alone makes of a member.
	Elapse func(m fleet.Member, of fleet.RolloutDefinition, now time.Time) fleet.Member
	Decide func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep
}

// MemberView is a member with what lists show beside.
type MemberView struct {
	fleet.Member
	HostName    string
	ServiceName string
}

// GroupWaiting is a group with agents that wait.
type GroupWaiting struct {
	Tenant fleet.TenantID
	Group  fleet.GroupID
	Name   string
	// Online is how many wait and are online.
	Online int
	// Assigned is what the group is assigned, or its default; Rollout and State are those of the rollout that the assignment is
	// under, empty if none.
	Assigned fleet.AssignedVersion
	Rollout  fleet.RolloutID
	State    fleet.RolloutState
	Late     fleet.Late
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// OfRolloutStep is what a rollout becomes by a step, at a time: as the step says, if it may. ErrConflict if the step was
// decided on another version of the row.
func OfRolloutStep(was fleet.Rollout, s fleet.RolloutStep) (is fleet.Rollout, err error) {
	is = was
	if s.Rollout != nil {
		is = *s.Rollout
		is.Tenant, is.ID, is.Kind, is.Of, is.Definition, is.Plan, is.Former = was.Tenant, was.ID, was.Kind, was.Of, was.Definition, was.Plan, was.Former
		is.CreatedBy, is.CreatedAt, is.StartedBy, is.StartedAt = was.CreatedBy, was.CreatedAt, was.StartedBy, was.StartedAt
		is.Generation = was.Generation
		switch {
		case s.Rollout.Version != was.Version:
			return was, fmt.Errorf("rollout %s: %w", was.ID, store.ErrConflict)
		case is.State != was.State && !slices.Contains(fleet.RolloutTransitions[was.State], is.State):
			return was, fmt.Errorf("a rollout that is %s cannot become %s: %w", was.State, is.State, store.ErrState)
		}
	}
	is.WantsRollback = is.WantsRollback || s.RollBack
	if s.Close {
		is.Generation++
	}
	if s.Rollout != nil || s.Close || s.RollBack {
		is.Version = was.Version + 1
	}
	is.WakeAt = s.WakeAt
	return is, nil
}

// FailsAgain says whether a step that failed would fail again if it were tried at once: not if the database was away or others
// were in the way, or nobody wanted it any more.
func FailsAgain(failure error) bool {
	for _, passing := range []error{store.ErrUnavailable, store.ErrContended, store.ErrUnknown, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(failure, passing) {
			return false
		}
	}
	return failure != nil
}

// Startable says whether a rollout can be started as it is.
func Startable(r fleet.Rollout, s store.RolloutStart) error {
	switch {
	case r.State != fleet.RolloutPending:
		return fmt.Errorf("start a rollout that is %s: %w", r.State, store.ErrState)
	case r.Version != s.Version:
		return fmt.Errorf("start rollout %s: %w", r.ID, store.ErrConflict)
	}
	return nil
}

// MakesWay is what a rollout becomes when another one starts that undoes it, or takes its place.
func MakesWay(was, starts fleet.Rollout, at time.Time) (is fleet.Rollout, err error) {
	is = was
	if starts.Kind == fleet.RolloutRollback && starts.Of == was.ID {
		is.State, is.Reason, is.WantsRollback = fleet.RolloutRollingBack, "rollout "+string(starts.ID)+" rolls it back", false
	} else {
		is.State, is.EndedAt, is.Reason = fleet.RolloutAborted, at, "rollout "+string(starts.ID)+" took its place"
	}
	return OfRolloutStep(was, fleet.RolloutStep{Rollout: &is, Close: true})
}

// Undoable says whether a rollout can be rolled back, undoing being the state of the rollback that there is; empty: none.
func Undoable(r fleet.Rollout, undoing fleet.RolloutState) error {
	switch {
	case !slices.Contains(fleet.RolloutTransitions[r.State], fleet.RolloutRollingBack):
		return fmt.Errorf("roll back a rollout that is %s: %w", r.State, store.ErrState)
	case undoing != "" && undoing != fleet.RolloutAborted:
		return fmt.Errorf("rollout %s has a rollback already: %w", r.ID, store.ErrState)
	}
	return nil
}

// Underlying is what a group is assigned, what its members that are held get, and the state of the rollout that the
// assignment is under; the zero one if nothing is assigned.
type Underlying struct {
	Assigned, Settled fleet.AssignedVersion
	State             fleet.RolloutState
}

// Begins is what a group is assigned when a rollout begins, and what members get from then on that are held and have had
// nothing. A rollback gives the group what it was assigned before the rollout that is undone, if that was anything. What is
// settled stays what it is until a rollout was completed, and is never what is only being rolled out.
func Begins(r, undone fleet.Rollout, now Underlying) (assigned, settled fleet.AssignedVersion) {
	assigned = fleet.AssignedVersion{Config: r.Definition.Config, Version: r.Definition.Version}
	switch {
	case r.Kind == fleet.RolloutRollback && undone.Former.Config != "":
		return undone.Former, now.Settled
	case r.Kind == fleet.RolloutRollback:
		return now.Assigned, now.Settled
	case now.Assigned == assigned, now.State != "" && now.State != fleet.RolloutCompleted:
		return assigned, now.Settled
	default:
		return assigned, now.Assigned
	}
}

// Counted is the snapshot of a rollout with the counts of its waves. Those that were skipped by its plan count for nothing.
func Counted(r fleet.Rollout, waves []fleet.WaveCounts) fleet.RolloutSnapshot {
	s := fleet.RolloutSnapshot{Rollout: r}
	for _, w := range waves {
		switch {
		case w.Wave == 0:
		case w.Wave > r.Wave:
			s.Rest += w.Counts.Pending
		default:
			s.SoFar = s.SoFar.Plus(w.Counts)
			if w.Wave == r.Wave {
				s.Wave = w.Counts
			}
		}
	}
	return s
}

// MemberChange is a member that becomes another.
type MemberChange struct{ Was, Is fleet.Member }

// Changed is a member with its next revision.
func Changed(was, is fleet.Member) MemberChange {
	is.Revision = was.Revision + 1
	return MemberChange{was, is}
}

// Watched says that what the agent says wakes the engine, Disturbed that budgets count it: while its rollout lasts.
func Watched(m fleet.Member, of fleet.RolloutState) bool { return m.Touched() && !of.Over() }

// Disturbed says that budgets count the agent.
func Disturbed(m fleet.Member, of fleet.RolloutState) bool { return m.Disturbed() && !of.Over() }

// WaveKey is a wave of a rollout.
type WaveKey struct {
	Rollout fleet.RolloutID
	Wave    int
}

// Delta is what the counts of a wave change by.
type Delta struct {
	WaveKey
	Counts fleet.Counts
}

// Deltas are what changes of members change the counts of their waves by, in the order in which waves are locked.
func Deltas(changes []MemberChange) (deltas []Delta) {
	sums := map[WaveKey]fleet.Counts{}
	for _, c := range changes {
		was, is := WaveKey{c.Was.Rollout, c.Was.Wave}, WaveKey{c.Is.Rollout, c.Is.Wave}
		if c.Was.Rollout != "" { // it is no new one
			sums[was] = sums[was].Minus(fleet.Tally(c.Was))
		}
		sums[is] = sums[is].Plus(fleet.Tally(c.Is))
	}
	return inOrder(sums)
}

// Sums are the counts of the waves of members, in order.
func Sums(members []fleet.Member) []Delta {
	sums := map[WaveKey]fleet.Counts{}
	for _, m := range members {
		key := WaveKey{m.Rollout, m.Wave}
		sums[key] = sums[key].Plus(fleet.Tally(m))
	}
	return inOrder(sums)
}

func inOrder(sums map[WaveKey]fleet.Counts) (deltas []Delta) {
	for key, counts := range sums {
		if counts != (fleet.Counts{}) {
			deltas = append(deltas, Delta{key, counts})
		}
	}
	slices.SortFunc(deltas, func(a, b Delta) int {
		return cmp.Or(cmp.Compare(a.Rollout, b.Rollout), cmp.Compare(a.Wave, b.Wave))
	})
	return deltas
}

// LetIn is a pending member that is let in.
func LetIn(m fleet.Member, at, deadline time.Time) MemberChange {
	is := m
	is.State, is.AdmittedAt, is.DeadlineAt, is.LookAt = fleet.MemberAdmitted, at, deadline, deadline
	return Changed(m, is)
}

// PutBack is a member that was let in, and not sent anything, when its rollout was closed.
func PutBack(m fleet.Member) MemberChange {
	is := m
	is.State, is.AdmittedAt, is.DeadlineAt, is.LookAt, is.Overdue = fleet.MemberPending, time.Time{}, time.Time{}, time.Time{}, false
	return Changed(m, is)
}

// LeftOut is a member that takes no part any more.
func LeftOut(m fleet.Member, why string, at time.Time) MemberChange {
	is := m
	is.State, is.Reason, is.LookAt = fleet.MemberSkipped, why, time.Time{}
	if is.SettledAt.IsZero() {
		is.SettledAt = at
	}
	return Changed(m, is)
}

// Why members are left out.
const (
	HasOwn    = "has an assignment of its own"
	LeftGroup = "left the group"
)

// Place is where agents come into a rollout under way: its last wave, and the last position that is taken.
type Place struct {
	Rollout    fleet.RolloutID
	Wave, Last int
}

// Joining are those of the agents that waited, as pending members at the end of the rollout's last wave: who is none there,
// or was left out.
func Joining(agents []fleet.Member, at Place, there []fleet.Member, waited []fleet.AgentID) (changes []MemberChange) {
	was, waits := make(map[fleet.AgentID]fleet.Member, len(there)), make(map[fleet.AgentID]bool, len(waited))
	for _, m := range there {
		was[m.Agent] = m
	}
	for _, agent := range waited {
		waits[agent] = true
	}
	for _, is := range agents {
		m, known := was[is.Agent]
		if !waits[is.Agent] || known && m.State != fleet.MemberSkipped {
			continue
		}
		delete(waits, is.Agent)
		at.Last++
		is.Rollout, is.Wave, is.Position, is.State = at.Rollout, at.Wave, at.Last, fleet.MemberPending
		changes = append(changes, Changed(m, is)) // of one that is new m is none
	}
	return changes
}

// InFlightNamed is how many agents that had been sent something when a rollout was closed are named.
const InFlightNamed = 20

// WithInFlight adds to the words of why a rollout was closed who had been sent the version before, and may take it still.
func WithInFlight(reason string, agents []fleet.AgentID) string {
	if len(agents) == 0 {
		return reason
	}
	named := agents[:min(len(agents), InFlightNamed)]
	words := make([]string, len(named))
	for i, a := range named {
		words[i] = string(a)
	}
	more := ""
	if len(agents) > len(named) {
		more = ", …"
	}
	return strings.TrimPrefix(fmt.Sprintf("%s; %d had been sent it before: %s%s", reason, len(agents), strings.Join(words, ", "), more), "; ")
}

// Standstill is the place of an agent with regard to the rollout of its group's assignment.
type Standstill struct {
	// Waits says that it waits to be let in to what its group is assigned.
	Waits  bool
	Member *fleet.Member
	Under  fleet.Under
}

// OfGroup completes the situation of an agent to which its group's assignment, or its default, applies.
func OfGroup(s fleet.Situation, at Standstill) fleet.Situation {
	settledLong := at.Under.State == fleet.RolloutCompleted && at.Member != nil && at.Member.State == fleet.MemberSkipped
	if at.Member != nil && !settledLong {
		s.Member, s.Under = at.Member, at.Under
	}
	s.Held = held(s, at)
	return s
}

func held(s fleet.Situation, at Standstill) string {
	has := s.Assigned != nil && s.Grant != nil && s.Grant.State == fleet.GrantOpen && s.Grant.Version.Offer == s.Assigned.Offer
	switch {
	case at.Waits:
		return "it waits to be let in to what its group is assigned"
	case s.Member != nil && s.Member.State == fleet.MemberPending:
		return "its rollout has not let it in yet"
	case s.Member != nil && s.Member.State == fleet.MemberSkipped:
		return "its rollout leaves it out: " + s.Member.Reason
	case at.Under.State != "" && !at.Under.State.Grants() && !has:
		return "its rollout is " + strings.ReplaceAll(string(at.Under.State), "_", " ")
	default:
		return ""
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

var (
	one = fleet.AssignedVersion{Config: "c", Version: 1}
	two = fleet.AssignedVersion{Config: "c", Version: 2}
)

var rolloutStates = []fleet.RolloutState{
	fleet.RolloutPending, fleet.RolloutInProgress, fleet.RolloutPaused, fleet.RolloutCompleted, fleet.RolloutAborted,
	fleet.RolloutRollingBack, fleet.RolloutRolledBack,
}

var memberStates = []fleet.MemberState{
	fleet.MemberPending, fleet.MemberAdmitted, fleet.MemberPushed, fleet.MemberApplying, fleet.MemberApplied, fleet.MemberFailed,
	fleet.MemberSkipped, fleet.MemberDisconnected,
}

func TestOfRolloutStep(t *testing.T) {
	was := fleet.Rollout{
		Tenant: "acme", ID: "r", Kind: fleet.RolloutForward, State: fleet.RolloutInProgress, Generation: 3, Version: 7, Wave: 1,
		Definition: fleet.RolloutDefinition{Group: "g", Config: "c", Version: 2}, Former: one, CreatedBy: "ann", StartedBy: "bob",
		CreatedAt: noon, StartedAt: noon, WakeAt: noon,
	}
	changed := func(change func(r *fleet.Rollout)) *fleet.Rollout {
		r := was
		change(&r)
		return &r
	}
	for name, c := range map[string]struct {
		step fleet.RolloutStep
		want fleet.Rollout
		err  error
	}{
		"nothing but when to look again": {
			fleet.RolloutStep{WakeAt: noon.Add(time.Hour)}, *changed(func(r *fleet.Rollout) { r.WakeAt = noon.Add(time.Hour) }), nil,
		},
		"never again": {fleet.RolloutStep{}, *changed(func(r *fleet.Rollout) { r.WakeAt = time.Time{} }), nil},
		"another wave, and nothing that is fixed": {
			fleet.RolloutStep{WakeAt: noon, Rollout: changed(func(r *fleet.Rollout) {
				r.Wave, r.Generation = 2, 99
				r.Tenant, r.ID, r.Kind, r.Of, r.Former = "other", "other", fleet.RolloutRollback, "other", two
				r.Definition, r.CreatedBy, r.StartedBy, r.CreatedAt, r.StartedAt = fleet.RolloutDefinition{}, "eve", "eve", time.Time{}, time.Time{}
			})}, *changed(func(r *fleet.Rollout) { r.Wave, r.Version = 2, 8 }), nil,
		},
		"a close": {
			fleet.RolloutStep{WakeAt: noon, Close: true, Rollout: changed(func(r *fleet.Rollout) { r.State = fleet.RolloutPaused })},
			*changed(func(r *fleet.Rollout) { r.State, r.Generation, r.Version = fleet.RolloutPaused, 4, 8 }), nil,
		},
		"one that wants a rollback": {
			fleet.RolloutStep{WakeAt: noon, RollBack: true}, *changed(func(r *fleet.Rollout) { r.WantsRollback, r.Version = true, 8 }), nil,
		},
		"of another version of the row": {
			fleet.RolloutStep{Rollout: changed(func(r *fleet.Rollout) { r.Version = 6 })}, was, store.ErrConflict,
		},
	} {
		if is, err := verdict.OfRolloutStep(was, c.step); !errors.Is(err, c.err) || !reflect.DeepEqual(is, c.want) {
			t.Errorf("%s: %+v, %v", name, is, err)
		}
	}
	for _, from := range rolloutStates {
		for _, to := range rolloutStates {
			is := fleet.Rollout{State: to}
			_, err := verdict.OfRolloutStep(fleet.Rollout{State: from}, fleet.RolloutStep{Rollout: &is})
			if may := from == to || slices.Contains(fleet.RolloutTransitions[from], to); may != (err == nil) || !may && !errors.Is(err, store.ErrState) {
				t.Errorf("from %s to %s: %v", from, to, err)
			}
		}
	}
}

func TestFailsAgain(t *testing.T) {
	for err, want := range map[error]bool{
		store.ErrState: true, store.ErrConflict: true, errors.New("a row that cannot be read"): true,
		store.ErrUnavailable: false, store.ErrContended: false, store.ErrUnknown: false, context.Canceled: false, context.DeadlineExceeded: false,
	} {
		if got := verdict.FailsAgain(fmt.Errorf("wrapped: %w", err)); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
	if verdict.FailsAgain(nil) {
		t.Error("what did not fail fails again")
	}
}

func TestWhatMakesWay(t *testing.T) {
	was := fleet.Rollout{ID: "old", State: fleet.RolloutPaused, Generation: 1, Version: 4, WantsRollback: true, WakeAt: noon}
	aborted, err := verdict.Supersedes(was, "new", noon)
	if err != nil || aborted.State != fleet.RolloutAborted || aborted.Generation != 2 || aborted.Version != 5 || !aborted.EndedAt.Equal(noon) ||
		!strings.Contains(aborted.Reason, "new") || !aborted.WakeAt.IsZero() {
		t.Errorf("superseded it is %+v, %v", aborted, err)
	}
	rolling, err := verdict.RollsBack(was, "new")
	if err != nil || rolling.State != fleet.RolloutRollingBack || rolling.Generation != 2 || rolling.Version != 5 || rolling.WantsRollback ||
		!strings.Contains(rolling.Reason, "new") {
		t.Errorf("rolled back it is %+v, %v", rolling, err)
	}
	was.State = fleet.RolloutRolledBack
	if is, err := verdict.Supersedes(was, "new", noon); !errors.Is(err, store.ErrState) || !reflect.DeepEqual(is, was) {
		t.Errorf("what is rolled back becomes %+v, %v", is, err)
	}
	if is, err := verdict.RollsBack(was, "new"); !errors.Is(err, store.ErrState) || !reflect.DeepEqual(is, was) {
		t.Errorf("what is rolled back becomes %+v, %v", is, err)
	}
}

func TestUndoable(t *testing.T) {
	for _, state := range rolloutStates {
		for _, undoing := range append([]fleet.RolloutState{""}, rolloutStates...) {
			want := slices.Contains(fleet.RolloutTransitions[state], fleet.RolloutRollingBack) && (undoing == "" || undoing == fleet.RolloutAborted)
			if err := verdict.Undoable(fleet.Rollout{State: state}, undoing); want != (err == nil) || !want && !errors.Is(err, store.ErrState) {
				t.Errorf("%s, its rollback %q: %v", state, undoing, err)
			}
		}
	}
}

func TestSettled(t *testing.T) {
	none, zero := fleet.AssignedVersion{}, fleet.AssignedVersion{Config: "c", Version: 9}
	forward := fleet.Rollout{Kind: fleet.RolloutForward, Definition: fleet.RolloutDefinition{Config: two.Config, Version: two.Version}}
	back := forward
	back.Kind = fleet.RolloutRollback
	for name, c := range map[string]struct {
		r                 fleet.Rollout
		assigned, settled fleet.AssignedVersion
		state             fleet.RolloutState
		want              fleet.AssignedVersion
	}{
		"nothing was assigned":              {forward, none, none, "", none},
		"assigned without a rollout":        {forward, one, none, "", one},
		"assigned by one that is completed": {forward, one, zero, fleet.RolloutCompleted, one},
		"by one that was stopped":           {forward, one, zero, fleet.RolloutAborted, zero},
		"by one that was rolled back":       {forward, one, zero, fleet.RolloutRolledBack, zero},
		"the same version again":            {forward, two, zero, fleet.RolloutCompleted, zero},
		"a rollback":                        {back, one, zero, fleet.RolloutCompleted, zero},
	} {
		if got := verdict.Settled(c.r, c.assigned, c.settled, c.state); got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestDeltasAreWhatMembersAddUpTo(t *testing.T) {
	member := func(wave int, state fleet.MemberState) fleet.Member {
		return fleet.Member{Rollout: "r", Wave: wave, State: state}
	}
	other := member(1, fleet.MemberPending)
	other.Rollout = "q"
	moved := verdict.Changed(member(2, fleet.MemberPending), member(2, fleet.MemberApplied))
	deltas := verdict.Deltas([]verdict.MemberChange{
		{Is: member(3, fleet.MemberPending)}, // a new one
		moved,                                //
		verdict.Changed(member(0, fleet.MemberSkipped), member(3, fleet.MemberPending)), // from wave to wave
		verdict.Changed(member(1, fleet.MemberPushed), member(1, fleet.MemberApplying)), // counts the same
		{Is: other},
	})
	want := []verdict.Delta{
		{verdict.WaveKey{"q", 1}, fleet.Counts{Agents: 1, Pending: 1}},
		{verdict.WaveKey{"r", 0}, fleet.Counts{Skipped: -1}},
		{verdict.WaveKey{"r", 2}, fleet.Tally(moved.Is).Minus(fleet.Tally(moved.Was))},
		{verdict.WaveKey{"r", 3}, fleet.Counts{Agents: 2, Pending: 2}},
	}
	if !reflect.DeepEqual(deltas, want) {
		t.Errorf("got %+v, want %+v", deltas, want)
	}
	sums := verdict.Sums([]fleet.Member{member(2, fleet.MemberPending), member(1, fleet.MemberPending), member(2, fleet.MemberPending)})
	if want := []verdict.Delta{
		{verdict.WaveKey{"r", 1}, fleet.Counts{Agents: 1, Pending: 1}}, {verdict.WaveKey{"r", 2}, fleet.Counts{Agents: 2, Pending: 2}},
	}; !reflect.DeepEqual(sums, want) {
		t.Errorf("got %+v, want %+v", sums, want)
	}
}

func TestHowMembersChange(t *testing.T) {
	was := fleet.Member{Rollout: "r", Agent: "a", Wave: 1, Position: 4, State: fleet.MemberPending, Revision: 5}
	in := verdict.LetIn(was, noon, noon.Add(time.Minute))
	want := was
	want.State, want.AdmittedAt, want.DeadlineAt, want.LookAt, want.Revision = fleet.MemberAdmitted, noon, noon.Add(time.Minute), noon.Add(time.Minute), 6
	if in.Was != was || in.Is != want {
		t.Errorf("let in: %+v", in)
	}
	in.Is.Overdue = true
	want = was
	want.Revision = 7
	if back := verdict.PutBack(in.Is); back.Is != want {
		t.Errorf("put back: %+v", back)
	}
	out := verdict.LeftOut(in.Is, "left", noon)
	if out.Is.State != fleet.MemberSkipped || out.Is.Reason != "left" || !out.Is.SettledAt.Equal(noon) || !out.Is.LookAt.IsZero() {
		t.Errorf("left out: %+v", out)
	}
	if again := verdict.LeftOut(out.Is, "left", noon.Add(time.Hour)); !again.Is.SettledAt.Equal(noon) {
		t.Errorf("its first last word was at %s", again.Is.SettledAt)
	}
}

func TestJoining(t *testing.T) {
	new := fleet.Member{Rollout: "r", Agent: "a", Wave: 1, Position: 1, State: fleet.MemberSkipped, Change: fleet.ChangeNew}
	if c, joins := verdict.Joining(nil, new, 3, 9); !joins || c.Is.Wave != 3 || c.Is.Position != 9 || c.Is.State != fleet.MemberPending || c.Is.Revision != 1 || c.Was.Rollout != "" {
		t.Errorf("a new one: %+v, %v", c, joins)
	}
	for _, state := range memberStates {
		was := fleet.Member{Rollout: "r", Agent: "a", State: state, Revision: 4, Reason: "away"}
		c, joins := verdict.Joining(&was, new, 3, 9)
		if joins != (state == fleet.MemberSkipped) || joins && (c.Is.Revision != 5 || c.Is.State != fleet.MemberPending || c.Is.Reason != "" || c.Was != was) {
			t.Errorf("one that is %s: %+v, %v", state, c, joins)
		}
	}
}

func TestWithInFlight(t *testing.T) {
	agents := func(n int) (ids []fleet.AgentID) {
		for i := range n {
			ids = append(ids, fleet.AgentID(fmt.Sprint("a", i)))
		}
		return ids
	}
	for _, c := range []struct {
		reason string
		agents []fleet.AgentID
		want   string
	}{
		{"because", nil, "because"},
		{"because", agents(2), "because; 2 had been sent it before: a0, a1"},
		{"", agents(1), "1 had been sent it before: a0"},
	} {
		if got := verdict.WithInFlight(c.reason, c.agents); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	many := verdict.WithInFlight("because", agents(verdict.InFlightNamed+1))
	if !strings.Contains(many, "; 21 had") || !strings.HasSuffix(many, "a19, …") {
		t.Errorf("of many: %q", many)
	}
}

// TestWatchedAndDisturbedEndWithTheRollout: whatever is seen of a member.
func TestWatchedAndDisturbedEndWithTheRollout(t *testing.T) {
	for _, state := range memberStates {
		m := fleet.Member{State: state, PushedAt: noon}
		for _, of := range rolloutStates {
			if got, want := verdict.Watched(m, of), m.Touched() && !of.Over(); got != want {
				t.Errorf("%s in one that is %s is watched: %v", state, of, got)
			}
			if got, want := verdict.Disturbed(m, of), m.Disturbed() && !of.Over(); got != want {
				t.Errorf("%s in one that is %s is disturbed: %v", state, of, got)
			}
		}
	}
}

func TestWhoIsHeld(t *testing.T) {
	version := func(n byte) *fleet.VersionRef {
		return &fleet.VersionRef{Config: "c", Version: int(n), Offer: fleet.OfferHash{n}}
	}
	granted := func(n byte, state fleet.GrantState) *fleet.Grant {
		return &fleet.Grant{Version: *version(n), State: state}
	}
	member := func(s fleet.MemberState) *fleet.Member { return &fleet.Member{State: s, Reason: "away"} }
	under := func(s fleet.RolloutState) fleet.Under { return fleet.Under{State: s} }
	for name, c := range map[string]struct {
		grant *fleet.Grant
		at    verdict.Standstill
		held  string // contains; empty: not held
		part  bool   // it is a member as far as deciding goes
	}{
		"no rollout":                      {nil, verdict.Standstill{}, "", false},
		"it waits":                        {nil, verdict.Standstill{Waits: true}, "waits", false},
		"it waits, and was left out":      {nil, verdict.Standstill{Waits: true, Member: member(fleet.MemberSkipped), Under: under(fleet.RolloutInProgress)}, "waits", true},
		"not let in":                      {nil, verdict.Standstill{Member: member(fleet.MemberPending), Under: under(fleet.RolloutInProgress)}, "not let it in", true},
		"left out":                        {nil, verdict.Standstill{Member: member(fleet.MemberSkipped), Under: under(fleet.RolloutInProgress)}, "leaves it out: away", true},
		"left out, of one that completed": {nil, verdict.Standstill{Member: member(fleet.MemberSkipped), Under: under(fleet.RolloutCompleted)}, "", false},
		"let in":                          {nil, verdict.Standstill{Member: member(fleet.MemberAdmitted), Under: under(fleet.RolloutInProgress)}, "", true},
		"let in, and then it was paused":  {nil, verdict.Standstill{Member: member(fleet.MemberAdmitted), Under: under(fleet.RolloutPaused)}, "is paused", true},
		"paused while it had an offer":    {granted(2, fleet.GrantOpen), verdict.Standstill{Member: member(fleet.MemberPushed), Under: under(fleet.RolloutPaused)}, "", true},
		"paused while it had another":     {granted(1, fleet.GrantOpen), verdict.Standstill{Member: member(fleet.MemberAdmitted), Under: under(fleet.RolloutPaused)}, "is paused", true},
		"paused when it had applied":      {granted(2, fleet.GrantMet), verdict.Standstill{Member: member(fleet.MemberApplied), Under: under(fleet.RolloutPaused)}, "is paused", true},
		"rolling back":                    {nil, verdict.Standstill{Under: under(fleet.RolloutRollingBack)}, "is rolling back", false},
		"completed":                       {nil, verdict.Standstill{Member: member(fleet.MemberApplied), Under: under(fleet.RolloutCompleted)}, "", true},
	} {
		got := verdict.OfGroup(fleet.Situation{Assigned: version(2), Grant: c.grant}, c.at)
		if (c.held == "") != (got.Held == "") || !strings.Contains(got.Held, c.held) {
			t.Errorf("%s: held %q", name, got.Held)
		}
		if (got.Member != nil) != c.part || c.part && got.Under != c.at.Under {
			t.Errorf("%s: it is %+v under %+v", name, got.Member, got.Under)
		}
	}
}

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
	other, back := fleet.Rollout{ID: "new", Kind: fleet.RolloutForward}, fleet.Rollout{ID: "new", Kind: fleet.RolloutRollback, Of: "old"}
	aborted, err := verdict.MakesWay(was, other, noon)
	if err != nil || aborted.State != fleet.RolloutAborted || aborted.Generation != 2 || aborted.Version != 5 || !aborted.EndedAt.Equal(noon) ||
		!strings.Contains(aborted.Reason, "new") || !aborted.WakeAt.IsZero() {
		t.Errorf("superseded it is %+v, %v", aborted, err)
	}
	rolling, err := verdict.MakesWay(was, back, noon)
	if err != nil || rolling.State != fleet.RolloutRollingBack || rolling.Generation != 2 || rolling.Version != 5 || rolling.WantsRollback ||
		!strings.Contains(rolling.Reason, "new") {
		t.Errorf("rolled back it is %+v, %v", rolling, err)
	}
	was.State = fleet.RolloutRolledBack
	for _, starts := range []fleet.Rollout{other, back} {
		if is, err := verdict.MakesWay(was, starts, noon); !errors.Is(err, store.ErrState) || !reflect.DeepEqual(is, was) {
			t.Errorf("what is rolled back becomes %+v, %v", is, err)
		}
	}
	back.Of = "older"
	was.State = fleet.RolloutPaused
	if is, err := verdict.MakesWay(was, back, noon); err != nil || is.State != fleet.RolloutAborted {
		t.Errorf("for the rollback of another it becomes %+v, %v", is, err)
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

func TestStartable(t *testing.T) {
	for _, state := range rolloutStates {
		err := verdict.Startable(fleet.Rollout{State: state, Version: 4}, store.RolloutStart{Version: 4})
		if may := state == fleet.RolloutPending; may != (err == nil) || !may && !errors.Is(err, store.ErrState) {
			t.Errorf("%s: %v", state, err)
		}
	}
	if err := verdict.Startable(fleet.Rollout{State: fleet.RolloutPending, Version: 5}, store.RolloutStart{Version: 4}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("of another version of the row: %v", err)
	}
}

func TestBegins(t *testing.T) {
	none, zero := fleet.AssignedVersion{}, fleet.AssignedVersion{Config: "c", Version: 9}
	forward := fleet.Rollout{Kind: fleet.RolloutForward, Definition: fleet.RolloutDefinition{Config: two.Config, Version: two.Version}}
	back := forward
	back.Kind = fleet.RolloutRollback
	for name, c := range map[string]struct {
		r                 fleet.Rollout
		former            fleet.AssignedVersion // before what is undone
		now               verdict.Underlying
		assigned, settled fleet.AssignedVersion
	}{
		"nothing was assigned":              {forward, none, verdict.Underlying{}, two, none},
		"assigned without a rollout":        {forward, none, verdict.Underlying{one, none, ""}, two, one},
		"assigned by one that is completed": {forward, none, verdict.Underlying{one, zero, fleet.RolloutCompleted}, two, one},
		"by one that was stopped":           {forward, none, verdict.Underlying{one, zero, fleet.RolloutAborted}, two, zero},
		"by one that was rolled back":       {forward, none, verdict.Underlying{one, zero, fleet.RolloutRolledBack}, two, zero},
		"the same version again":            {forward, none, verdict.Underlying{two, zero, fleet.RolloutCompleted}, two, zero},
		"a rollback":                        {back, one, verdict.Underlying{two, zero, fleet.RolloutCompleted}, one, zero},
		"a rollback to nothing":             {back, none, verdict.Underlying{two, none, fleet.RolloutPaused}, two, none},
		"and nothing is assigned by now":    {back, none, verdict.Underlying{}, none, none},
	} {
		assigned, settled := verdict.Begins(c.r, fleet.Rollout{Former: c.former}, c.now)
		if assigned != c.assigned || settled != c.settled {
			t.Errorf("%s: assigned %+v, settled %+v", name, assigned, settled)
		}
	}
}

func TestCounted(t *testing.T) {
	r := fleet.Rollout{ID: "r", Wave: 2}
	got := verdict.Counted(r, []fleet.WaveCounts{
		{Wave: 0, Counts: fleet.Counts{Skipped: 7}},
		{Wave: 1, Counts: fleet.Counts{Agents: 3, Applied: 3}},
		{Wave: 2, Counts: fleet.Counts{Agents: 4, Applied: 1, Pending: 3}},
		{Wave: 3, Counts: fleet.Counts{Agents: 5, Pending: 4}},
		{Wave: 4, Counts: fleet.Counts{Agents: 6, Pending: 6}},
	})
	want := fleet.RolloutSnapshot{
		Rollout: r, Wave: fleet.Counts{Agents: 4, Applied: 1, Pending: 3}, SoFar: fleet.Counts{Agents: 7, Applied: 4, Pending: 3}, Rest: 10,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
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
	joiner := func(agent fleet.AgentID) fleet.Member {
		return fleet.Member{Agent: agent, Wave: 1, Position: 1, State: fleet.MemberSkipped, Change: fleet.ChangeNew}
	}
	at := verdict.Place{Rollout: "r", Wave: 3, Last: 8}
	changes := verdict.Joining([]fleet.Member{joiner("new"), joiner("stranger"), joiner("out"), joiner("new")}, at,
		[]fleet.Member{{Rollout: "r", Agent: "out", State: fleet.MemberSkipped, Revision: 4, Reason: "away"}}, []fleet.AgentID{"out", "new"})
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprintf("%d %s %s %d %d %s %d %q %s", c.Was.Revision, c.Is.Rollout, c.Is.Agent, c.Is.Wave, c.Is.Position, c.Is.State, c.Is.Revision, c.Is.Reason, c.Is.Change))
	}
	if want := []string{`0 r new 3 9 pending 1 "" new`, `4 r out 3 10 pending 5 "" new`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, state := range memberStates {
		there := []fleet.Member{{Rollout: "r", Agent: "a", State: state}}
		joins := len(verdict.Joining([]fleet.Member{joiner("a")}, at, there, []fleet.AgentID{"a"})) == 1
		if joins != (state == fleet.MemberSkipped) {
			t.Errorf("one that is %s joins: %v", state, joins)
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

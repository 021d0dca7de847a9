// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"errors"
	"slices"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// TestStepsUnderARollout: what is written of a member is of the revision that was seen, and what is sent is sent under the
// rollout as it was.
func TestStepsUnderARollout(t *testing.T) {
	under := fleet.Under{State: fleet.RolloutInProgress, Generation: 3}
	paused, raised := under, under
	paused.State = fleet.RolloutPaused
	raised.Generation++
	member := &fleet.Member{Rollout: "r", Agent: "a", State: fleet.MemberAdmitted, Revision: 5}
	applied := &fleet.Member{State: fleet.MemberApplied}
	grant := &fleet.Grant{Version: fleet.VersionRef{Config: "c", Version: 2}, State: fleet.GrantOpen, Generation: 1}
	sends, sees := fleet.Step{Grant: grant, Send: true}, fleet.Step{Member: applied}
	for name, c := range map[string]struct {
		on       *fleet.Member
		step     fleet.Step
		revision int64
		under    fleet.Under
		want     error
	}{
		"it sees":                            {member, sees, 5, under, nil},
		"it sees what another has seen":      {member, sees, 6, under, store.ErrConflict},
		"it sees after a pause":              {member, sees, 5, paused, nil},
		"it sends":                           {member, sends, 5, under, nil},
		"it sends to a member that changed":  {member, sends, 6, under, store.ErrConflict},
		"it sends after a pause":             {member, sends, 5, paused, store.ErrConflict},
		"it sends after a pause and on":      {member, sends, 5, raised, store.ErrConflict},
		"it does neither":                    {member, fleet.Step{}, 6, paused, nil},
		"no member, and it sends":            {nil, sends, 0, fleet.Under{}, nil},
		"no member, and it says what it saw": {nil, sees, 0, fleet.Under{}, store.ErrConflict},
	} {
		d := store.Decision{Item: store.WorkItem{Agent: "a", Version: 1}, On: fleet.Situation{Member: c.on, Under: under}, Step: c.step}
		on := map[fleet.AgentID]*verdict.Standing{"a": {Version: 1, Member: c.revision, Under: c.under}}
		todo, outcomes := verdict.OfSteps([]store.Decision{d}, on)
		if !errors.Is(outcomes[0], c.want) || (len(todo) == 1) != (c.want == nil) {
			t.Errorf("%s: %v, %d to do", name, outcomes[0], len(todo))
		}
	}
}

func TestAMemberBecomesWhatItMay(t *testing.T) {
	for _, from := range memberStates {
		for _, to := range memberStates {
			d := store.Decision{
				Item: store.WorkItem{Agent: "a", Version: 1}, On: fleet.Situation{Member: &fleet.Member{State: from}},
				Step: fleet.Step{Member: &fleet.Member{State: to}},
			}
			_, outcomes := verdict.OfSteps([]store.Decision{d}, map[fleet.AgentID]*verdict.Standing{"a": {Version: 1}})
			may := from == to || slices.Contains(fleet.MemberTransitions[from], to)
			if may != (outcomes[0] == nil) || !may && !errors.Is(outcomes[0], store.ErrState) {
				t.Errorf("from %s to %s: %v", from, to, outcomes[0])
			}
		}
	}
}

func TestMemberChangesKeepWhoItIs(t *testing.T) {
	was := fleet.Member{Rollout: "r", Agent: "a", Wave: 2, Position: 7, State: fleet.MemberPushed, Revision: 4}
	changes := verdict.MemberChanges([]store.Decision{
		{On: fleet.Situation{Member: &was}},
		{On: fleet.Situation{Member: &was}, Step: fleet.Step{Member: &fleet.Member{State: fleet.MemberApplied, Reason: "well", Wave: 9}}},
	})
	want := was
	want.State, want.Reason, want.Revision = fleet.MemberApplied, "well", 5
	if len(changes) != 1 || changes[0].Was != was || changes[0].Is != want {
		t.Errorf("got %+v", changes)
	}
}

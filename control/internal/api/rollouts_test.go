// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
	"gitlab.com/ampora/ampora/control/internal/rollouts"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/postgres/postgrestest"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

const (
	pending    = amporav1.RolloutState_ROLLOUT_STATE_PENDING
	inProgress = amporav1.RolloutState_ROLLOUT_STATE_IN_PROGRESS
	paused     = amporav1.RolloutState_ROLLOUT_STATE_PAUSED
	aborted    = amporav1.RolloutState_ROLLOUT_STATE_ABORTED
)

// rolling is a world with a group of agents and a configuration that is to be rolled out to it.
type rolling struct {
	*world
	clients
	group, config string
	members       []string
}

// onRolling runs a test on both databases.
func onRolling(t *testing.T, members int, test func(t *testing.T, w *rolling)) {
	for name, open := range map[string]func(t *testing.T) store.Store{
		"sqlite": openSQLite, "postgres": func(t *testing.T) store.Store { return postgrestest.Open(t) },
	} {
		t.Run(name, func(t *testing.T) {
			w := &rolling{world: newWorldOn(t, open(t))}
			w.clients, w.members = w.as(fleet.RoleOperator), w.world.agents(members)
			w.config = w.publish(w.clients, "edge")
			w.group = must(w.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "berlin"}))(t).GetGroup().GetId()
			must(w.groups.AddGroupMembers(t.Context(), &amporav1.AddGroupMembersRequest{Id: w.group, AgentIds: w.members}))(t)
			test(t, w)
		})
	}
}

func (w *rolling) definition(shares ...float64) *amporav1.RolloutDefinition {
	strategy := &amporav1.RolloutStrategy{Kind: amporav1.RolloutStrategyKind_ROLLOUT_STRATEGY_KIND_PERCENTAGE}
	for _, share := range shares {
		strategy.Steps = append(strategy.Steps, &amporav1.RolloutStep{Percent: share})
	}
	return &amporav1.RolloutDefinition{GroupId: w.group, ConfigId: w.config, Strategy: strategy}
}

func (w *rolling) create(shares ...float64) *amporav1.Rollout {
	w.t.Helper()
	return must(w.clients.rollouts.CreateRollout(w.t.Context(), &amporav1.CreateRolloutRequest{Definition: w.definition(shares...)}))(w.t).GetRollout()
}

func (w *rolling) start(id string) {
	w.t.Helper()
	must(w.clients.rollouts.StartRollout(w.t.Context(), &amporav1.StartRolloutRequest{Id: id}))(w.t)
}

// advance does what is due for rollouts.
func (w *rolling) advance() {
	w.t.Helper()
	for advanced := 1; advanced > 0; {
		var err error
		if advanced, err = w.store.AdvanceRollouts(w.t.Context(), w.now(), 10, store.Deciding{Elapse: rollout.Elapse, Decide: rollout.Decide}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *rolling) get(id string) *amporav1.GetRolloutResponse {
	w.t.Helper()
	return must(w.clients.rollouts.GetRollout(w.t.Context(), &amporav1.GetRolloutRequest{Id: id}))(w.t)
}

func TestAPlanIsShownAndNothingStored(t *testing.T) {
	onRolling(t, 12, func(t *testing.T, w *rolling) {
		got := must(w.clients.rollouts.PlanRollout(t.Context(), &amporav1.PlanRolloutRequest{Definition: w.definition(25, 100)}))(t)
		plan, d := got.GetPlan(), got.GetDefinition()
		if plan.GetAgents() != 12 || len(plan.GetWaves()) != 2 || plan.GetWaves()[0].GetAgents() != 3 || plan.GetDigest() == "" {
			t.Errorf("the plan is %v", plan)
		}
		if len(plan.GetChanges()) != 1 || plan.GetChanges()[0].GetChange() != amporav1.RolloutChange_ROLLOUT_CHANGE_NEW {
			t.Errorf("it changes %v", plan.GetChanges())
		}
		if d.GetVersion() != 1 || d.GetConfigName() != "edge" || d.GetGroupName() != "berlin" || d.GetOrder().GetSeed() == 0 ||
			d.GetGates().GetUnhealthy().GetWave() != 10 || d.GetDeadline().AsDuration() != fleet.DefaultDeadline {
			t.Errorf("left out and not filled in: %v", d)
		}
		if list := must(w.clients.rollouts.ListRollouts(t.Context(), &amporav1.ListRolloutsRequest{}))(t); len(list.GetRollouts()) != 0 {
			t.Errorf("stored %v", list)
		}
		_, err := w.clients.rollouts.PlanRollout(t.Context(), &amporav1.PlanRolloutRequest{Definition: w.definition(25, 50)})
		refused(t, err, connect.CodeInvalidArgument, rollouts.ReasonInvalid)
		draft := w.world.config(w.clients, "draft", runnable("d")).GetConfig().GetId()
		_, err = w.clients.rollouts.PlanRollout(t.Context(), &amporav1.PlanRolloutRequest{Definition: &amporav1.RolloutDefinition{
			GroupId: w.group, ConfigId: draft, Strategy: w.definition(100).GetStrategy(),
		}})
		refused(t, err, connect.CodeFailedPrecondition, auth.ReasonWrongState)
	})
}

func TestARolloutIsStartedAndSteered(t *testing.T) {
	onRolling(t, 12, func(t *testing.T, w *rolling) {
		id := w.create(25, 100).GetId()
		if got := w.get(id).GetRollout(); got.GetState() != pending || got.GetPlan().GetAgents() != 12 || got.GetWave() != 0 {
			t.Fatalf("made %v", got)
		}
		first := must(w.clients.rollouts.ListRolloutMembers(t.Context(), &amporav1.ListRolloutMembersRequest{Id: id, Wave: 1}))(t).GetMembers()
		if len(first) != 3 || first[0].GetState() != amporav1.RolloutMemberState_ROLLOUT_MEMBER_STATE_PENDING {
			t.Errorf("the first wave has %v", first)
		}
		w.start(id)
		w.advance()
		got := w.get(id)
		if got.GetRollout().GetState() != inProgress || got.GetRollout().GetWave() != 1 || got.GetRollout().GetStartedBy() == "" {
			t.Fatalf("started %v", got)
		}
		touched := int32(0)
		for _, wave := range got.GetWaves() {
			touched += wave.GetCounts().GetTouched()
		}
		if touched != 3 {
			t.Errorf("let in %d agents: %v", touched, got.GetWaves())
		}

		is := must(w.clients.rollouts.PauseRollout(t.Context(), &amporav1.PauseRolloutRequest{Id: id, Reason: "lunch"}))(t).GetRollout()
		if is.GetState() != paused || is.GetReason() == "" {
			t.Errorf("paused %v", is)
		}
		_, err := w.clients.rollouts.PauseRollout(t.Context(), &amporav1.PauseRolloutRequest{Id: id})
		refused(t, err, connect.CodeFailedPrecondition, rollouts.ReasonState)
		is = must(w.clients.rollouts.ResumeRollout(t.Context(), &amporav1.ResumeRolloutRequest{Id: id}))(t).GetRollout()
		if is.GetState() != inProgress {
			t.Errorf("resumed %v", is)
		}
		is = must(w.clients.rollouts.ExtendRollout(t.Context(), &amporav1.ExtendRolloutRequest{Id: id, By: durationpb.New(time.Minute)}))(t).GetRollout()
		if is.GetExtended().AsDuration() != time.Minute {
			t.Errorf("extended %v", is)
		}
		is = must(w.clients.rollouts.AdvanceRollout(t.Context(), &amporav1.AdvanceRolloutRequest{Id: id}))(t).GetRollout()
		if is.GetWave() != 2 {
			t.Errorf("advanced %v", is)
		}
		_, err = w.clients.rollouts.AdvanceRollout(t.Context(), &amporav1.AdvanceRolloutRequest{Id: id})
		refused(t, err, connect.CodeFailedPrecondition, rollouts.ReasonState)
		is = must(w.clients.rollouts.AbortRollout(t.Context(), &amporav1.AbortRolloutRequest{Id: id, Reason: "wrong"}))(t).GetRollout()
		if is.GetState() != aborted || is.GetEndedAt() == nil {
			t.Errorf("aborted %v", is)
		}
		_, err = w.clients.rollouts.StartRollout(t.Context(), &amporav1.StartRolloutRequest{Id: id})
		if about := refused(t, err, connect.CodeFailedPrecondition, rollouts.ReasonState); about["state"] != "aborted" {
			t.Errorf("refused with %v", about)
		}
	})
}

func TestAStalePlanIsNotStarted(t *testing.T) {
	onRolling(t, 12, func(t *testing.T, w *rolling) {
		id := w.create(25, 100).GetId()
		must(w.groups.RemoveGroupMembers(t.Context(), &amporav1.RemoveGroupMembersRequest{Id: w.group, AgentIds: w.members[:2]}))(t)
		_, err := w.clients.rollouts.StartRollout(t.Context(), &amporav1.StartRolloutRequest{Id: id})
		about := refused(t, err, connect.CodeFailedPrecondition, rollouts.ReasonStale)
		if about["left"] != "2" || about["of"] != "12" || about["agent/"+w.members[0]] == "" || len(about["digest"]) != 64 {
			t.Fatalf("stale with %v", about)
		}
		_, err = w.clients.rollouts.StartRollout(t.Context(), &amporav1.StartRolloutRequest{Id: id, AcceptChanges: w.get(id).GetRollout().GetPlan().GetDigest()})
		refused(t, err, connect.CodeFailedPrecondition, rollouts.ReasonStale)
		started := must(w.clients.rollouts.StartRollout(t.Context(), &amporav1.StartRolloutRequest{Id: id, AcceptChanges: about["digest"]}))(t).GetRollout()
		if started.GetPlan().GetAgents() != 10 || started.GetPlan().GetDigest() != about["digest"] {
			t.Errorf("started %v", started)
		}

		second := w.create(100).GetId()
		_, err = w.clients.rollouts.StartRollout(t.Context(), &amporav1.StartRolloutRequest{Id: second})
		if about := refused(t, err, connect.CodeFailedPrecondition, rollouts.ReasonActive); about["rollout"] != id {
			t.Errorf("in the way is %v", about)
		}
		_, err = w.assignments.Unassign(t.Context(), &amporav1.UnassignRequest{Target: groupTarget(w.group)})
		refused(t, err, connect.CodeFailedPrecondition, rollouts.ReasonActive)
		_, err = w.groups.DeleteGroup(t.Context(), &amporav1.DeleteGroupRequest{Id: w.group})
		refused(t, err, connect.CodeFailedPrecondition, rollouts.ReasonActive)
		must(w.clients.rollouts.StartRollout(t.Context(), &amporav1.StartRolloutRequest{Id: second, Supersede: true}))(t)
		if got := w.get(id).GetRollout(); got.GetState() != aborted {
			t.Errorf("superseded and not aborted: %v", got)
		}
	})
}

func TestALargeAssignmentIsARollout(t *testing.T) {
	onRolling(t, limit+1, func(t *testing.T, w *rolling) {
		request := &amporav1.AssignRequest{Target: groupTarget(w.group), ConfigId: w.config}
		done := must(w.assignments.Assign(t.Context(), request))(t)
		if done.GetRolloutId() == "" || done.GetAgents() != limit+1 || done.GetAssignment().GetVersion() != 1 || done.GetAssignment().GetConfigName() != "edge" {
			t.Fatalf("assigned %v", done)
		}
		if got := w.get(done.GetRolloutId()).GetRollout(); got.GetState() != inProgress || len(got.GetPlan().GetWaves()) != 1 {
			t.Errorf("rolled out by %v", got)
		}
		_, err := w.assignments.Assign(t.Context(), request)
		if about := refused(t, err, connect.CodeFailedPrecondition, rollouts.ReasonActive); about["rollout"] != done.GetRolloutId() {
			t.Errorf("in the way is %v", about)
		}
	})
}

func TestARolloutIsRolledBack(t *testing.T) {
	onRolling(t, 4, func(t *testing.T, w *rolling) {
		must(w.assignments.Assign(t.Context(), &amporav1.AssignRequest{Target: groupTarget(w.group), ConfigId: w.config}))(t)
		old := w.config
		w.config = w.publish(w.clients, "next")
		id := w.create(50, 100).GetId()
		_, err := w.clients.rollouts.RollBackRollout(t.Context(), &amporav1.RollBackRolloutRequest{Id: id})
		refused(t, err, connect.CodeFailedPrecondition, rollouts.ReasonState)
		w.start(id)
		w.advance()
		undo := must(w.clients.rollouts.RollBackRollout(t.Context(), &amporav1.RollBackRolloutRequest{Id: id, Note: "sorry"}))(t).GetRollout()
		if undo.GetKind() != amporav1.RolloutKind_ROLLOUT_KIND_ROLLBACK || undo.GetOf() != id || undo.GetState() != inProgress || undo.GetDefinition().GetConfigId() != old {
			t.Errorf("undone by %v", undo)
		}
		if got := w.get(id).GetRollout().GetState(); got != amporav1.RolloutState_ROLLOUT_STATE_ROLLING_BACK {
			t.Errorf("it is %v", got)
		}
	})
}

func TestARolloutIsWatchedUntilItIsOver(t *testing.T) {
	onRolling(t, 3, func(t *testing.T, w *rolling) {
		id := w.create(100).GetId()
		stream := must(w.clients.rollouts.WatchRollout(t.Context(), &amporav1.WatchRolloutRequest{Id: id}))(t)
		defer stream.Close()
		see := func(want amporav1.RolloutState) {
			t.Helper()
			got, err := stream.Receive()
			if err != nil || got.GetRollout().GetState() != want {
				t.Fatalf("saw %v %v, want %v", got.GetRollout().GetState(), err, want)
			}
		}
		see(pending)
		w.start(id)
		w.wake()
		see(inProgress)
		must(w.clients.rollouts.AbortRollout(t.Context(), &amporav1.AbortRolloutRequest{Id: id}))(t)
		w.wake()
		see(aborted)
		if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestARolloutIsSimulated(t *testing.T) {
	onRolling(t, 10, func(t *testing.T, w *rolling) {
		asked := &amporav1.SimulateRolloutRequest{Of: &amporav1.SimulateRolloutRequest_Definition{Definition: w.definition(50, 100)}}
		well := must(w.clients.rollouts.SimulateRollout(t.Context(), asked))(t)
		if well.GetState() != amporav1.RolloutState_ROLLOUT_STATE_COMPLETED || well.GetTouched() != 10 || len(well.GetWaves()) != 2 || well.GetTook().AsDuration() <= 0 {
			t.Errorf("well: %v", well)
		}
		asked.Model = &amporav1.RolloutModel{Fail: 100}
		ill := must(w.clients.rollouts.SimulateRollout(t.Context(), asked))(t)
		if ill.GetState() != paused || ill.GetReason() == "" || ill.GetTouched() != 5 {
			t.Errorf("ill: %v", ill)
		}
		asked.Of = &amporav1.SimulateRolloutRequest_RolloutId{RolloutId: w.create(50, 100).GetId()}
		must(w.clients.rollouts.SimulateRollout(t.Context(), asked))(t)
		asked.Model = &amporav1.RolloutModel{Median: durationpb.New(time.Minute), P99: durationpb.New(time.Second)}
		_, err := w.clients.rollouts.SimulateRollout(t.Context(), asked)
		refused(t, err, connect.CodeInvalidArgument, rollouts.ReasonInvalid)
	})
}

func TestWhoWaitsIsCaughtUp(t *testing.T) {
	onRolling(t, 2, func(t *testing.T, w *rolling) {
		must(w.assignments.Assign(t.Context(), &amporav1.AssignRequest{Target: groupTarget(w.group), ConfigId: w.config}))(t)
		late := w.world.agents(limit + 2)
		for _, id := range late {
			w.connect(fleet.AgentID(id), nil)
		}
		must(w.groups.AddGroupMembers(t.Context(), &amporav1.AddGroupMembersRequest{Id: w.group, AgentIds: late}))(t)
		if err := w.world.rollouts.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		list := must(w.clients.rollouts.ListRollouts(t.Context(), &amporav1.ListRolloutsRequest{GroupId: w.group}))(t).GetRollouts()
		if len(list) != 1 || list[0].GetKind() != amporav1.RolloutKind_ROLLOUT_KIND_CATCH_UP || list[0].GetState() != inProgress || list[0].GetPlan().GetAgents() != limit+2 {
			t.Fatalf("rollouts are %v", list)
		}
		if err := w.world.rollouts.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if again := must(w.clients.rollouts.ListRollouts(t.Context(), &amporav1.ListRolloutsRequest{}))(t).GetRollouts(); len(again) != 1 {
			t.Errorf("caught up twice: %v", again)
		}
	})
}

func TestLateAgentsJoinTheLastWave(t *testing.T) {
	onRolling(t, 4, func(t *testing.T, w *rolling) {
		d := w.definition(50, 100)
		d.Late = amporav1.RolloutLate_ROLLOUT_LATE_JOIN
		id := must(w.clients.rollouts.CreateRollout(t.Context(), &amporav1.CreateRolloutRequest{Definition: d}))(t).GetRollout().GetId()
		w.start(id)
		w.advance()
		late := w.world.agents(1)
		w.connect(fleet.AgentID(late[0]), nil)
		must(w.groups.AddGroupMembers(t.Context(), &amporav1.AddGroupMembersRequest{Id: w.group, AgentIds: late}))(t)
		if err := w.world.rollouts.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		last := must(w.clients.rollouts.ListRolloutMembers(t.Context(), &amporav1.ListRolloutMembersRequest{Id: id, Wave: 2}))(t).GetMembers()
		if len(last) != 3 || last[2].GetAgentId() != late[0] {
			t.Errorf("the last wave has %v", last)
		}
	})
}

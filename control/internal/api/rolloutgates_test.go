// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/engine"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollouts"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// grant lets the engine do what is due for agents.
func (w *rolling) grant() {
	w.t.Helper()
	e, err := engine.New(engine.Deps{
		Store: w.store, Log: slog.New(slog.DiscardHandler), Meter: metricnoop.Meter{}, Tracer: tracenoop.Tracer{}, Now: w.now,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.pass(time.Second)
	for stepped := 1; stepped > 0; {
		if stepped, err = e.Turn(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// online lets all members come, and the engine give them what they may have.
func (w *rolling) online() {
	w.t.Helper()
	for _, agent := range w.members {
		w.connect(fleet.AgentID(agent), map[fleet.PartKind]any{
			fleet.PartCapabilities: fleet.CapabilitySet{Bits: 3, Names: []string{"ReportsStatus", "AcceptsRemoteConfig"}},
		})
	}
	w.grant()
}

// answers lets an agent say, as its message of that number, what became of the first version of the configuration.
func (w *rolling) answers(agent string, number fleet.Sequence, state fleet.ConfigState) {
	w.t.Helper()
	v, err := w.store.ConfigVersion(w.t.Context(), tenant, fleet.ConfigID(w.config), 1)
	if err != nil {
		w.t.Fatal(err)
	}
	w.says(fleet.AgentID(agent), fleet.Stamp{Epoch: 1, Sequence: number}, map[fleet.PartKind]any{
		fleet.PartRemoteConfigStatus: fleet.RemoteConfigStatus{LastOffer: v.Offer[:], State: state, Error: "no such receiver"},
	})
	w.grant()
}

// fails lets an agent run it and then fail: of what was not delivered, as nothing is here, it could not fail at once.
func (w *rolling) fails(agent string) {
	w.t.Helper()
	w.answers(agent, 3, fleet.ConfigApplied)
	w.answers(agent, 4, fleet.ConfigFailed)
}

// breached starts a rollout in two waves of two, of which the second agent applies it and then the first fails.
func (w *rolling) breached(rollBack bool) (id string) {
	w.t.Helper()
	d := w.definition(50, 100)
	d.RollBack = rollBack
	id = must(w.clients.rollouts.CreateRollout(w.t.Context(), &amporav1.CreateRolloutRequest{Definition: d}))(w.t).GetRollout().GetId()
	w.start(id)
	w.advance()
	w.grant()
	first := w.wave(id, 1)
	w.answers(first[1].GetAgentId(), 3, fleet.ConfigApplied)
	w.fails(first[0].GetAgentId())
	w.advance()
	got := w.get(id).GetRollout()
	if got.GetState() != paused || !strings.Contains(got.GetReason(), "apply-failed 1 of 2") {
		w.t.Fatalf("with one that failed it is %v: %v", got, w.wave(id, 1))
	}
	return id
}

func (w *rolling) wave(id string, wave int32) []*amporav1.RolloutMember {
	w.t.Helper()
	return must(w.clients.rollouts.ListRolloutMembers(w.t.Context(), &amporav1.ListRolloutMembersRequest{Id: id, Wave: wave}))(w.t).GetMembers()
}

func TestABreachedGateHasToBeAccepted(t *testing.T) {
	onRolling(t, 4, func(t *testing.T, w *rolling) {
		w.online()
		id := w.breached(false)
		_, err := w.clients.rollouts.ResumeRollout(t.Context(), &amporav1.ResumeRolloutRequest{Id: id})
		refused(t, err, connect.CodeFailedPrecondition, rollouts.ReasonBreached)
		if got := w.get(id).GetRollout(); got.GetState() != paused {
			t.Errorf("refused, and it is %v", got)
		}
		must(w.clients.rollouts.ResumeRollout(t.Context(), &amporav1.ResumeRolloutRequest{Id: id, AcceptProblems: true}))(t)
		w.advance()
		if got := w.get(id).GetRollout(); got.GetState() != inProgress {
			t.Errorf("what was accepted stops it again: %v", got)
		}
		w.answers(w.wave(id, 1)[1].GetAgentId(), 4, fleet.ConfigFailed)
		w.advance()
		if got := w.get(id).GetRollout(); got.GetState() != paused {
			t.Errorf("what comes on top does not stop it: %v", got)
		}
	})
}

func TestABreachedRolloutIsRolledBackByItself(t *testing.T) {
	onRolling(t, 4, func(t *testing.T, w *rolling) {
		must(w.assignments.Assign(t.Context(), &amporav1.AssignRequest{Target: groupTarget(w.group), ConfigId: w.config}))(t)
		w.online()
		for _, agent := range w.members {
			w.answers(agent, 2, fleet.ConfigApplied)
		}
		old := w.config
		w.config = w.publish(w.clients, "next")
		id := w.breached(true)
		for range 2 { // a second look finds nothing to do
			if err := w.world.rollouts.UndoBreached(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		list := must(w.clients.rollouts.ListRollouts(t.Context(), &amporav1.ListRolloutsRequest{}))(t).GetRollouts()
		if len(list) != 2 || list[0].GetOf() != id || list[0].GetState() != inProgress || list[0].GetDefinition().GetConfigId() != old {
			t.Fatalf("rollouts are %v", list)
		}
		if got := w.get(id).GetRollout().GetState(); got != amporav1.RolloutState_ROLLOUT_STATE_ROLLING_BACK {
			t.Errorf("it is %v", got)
		}
		if shown := must(w.assignments.ListAssignments(t.Context(), &amporav1.ListAssignmentsRequest{}))(t).GetAssignments(); len(shown) != 1 || shown[0].GetConfigId() != old {
			t.Errorf("assigned is %v", shown)
		}
		if plan := list[0].GetPlan(); plan.GetAgents() != 1 {
			t.Errorf("one has it, one failed and has been put back, and what is undone is %v", plan)
		}
	})
}

// Who is let in and not yet granted anything when it is rolled back must not be taken for being there still.
func TestNobodyIsGrantedWhatIsRolledBack(t *testing.T) {
	onRolling(t, 4, func(t *testing.T, w *rolling) {
		must(w.assignments.Assign(t.Context(), &amporav1.AssignRequest{Target: groupTarget(w.group), ConfigId: w.config}))(t)
		w.grant()
		w.config = w.publish(w.clients, "next")
		id := w.create(100).GetId()
		w.start(id)
		w.advance() // all are let in, and the engine has not come by
		undo := must(w.clients.rollouts.RollBackRollout(t.Context(), &amporav1.RollBackRolloutRequest{Id: id}))(t).GetRollout()
		if undo.GetPlan().GetAgents() != 0 || len(undo.GetPlan().GetSkipped()) != 0 {
			t.Errorf("nobody was given it, and undoing it is %v", undo.GetPlan())
		}
		for _, m := range w.wave(id, 1) {
			if m.GetState() != amporav1.RolloutMemberState_ROLLOUT_MEMBER_STATE_PENDING {
				t.Errorf("nothing was sent, and it is %v", m)
			}
		}
	})
}

func TestASimulationIsUnderBudgetsAndSchedules(t *testing.T) {
	onRolling(t, 6, func(t *testing.T, w *rolling) {
		admin := w.as(fleet.RoleAdmin)
		asked := &amporav1.SimulateRolloutRequest{Of: &amporav1.SimulateRolloutRequest_Definition{Definition: w.definition(100)}}
		took := func() time.Duration {
			t.Helper()
			got := must(w.clients.rollouts.SimulateRollout(t.Context(), asked))(t)
			if got.GetState() != amporav1.RolloutState_ROLLOUT_STATE_COMPLETED {
				t.Errorf("simulated %v", got)
			}
			return got.GetTook().AsDuration()
		}
		free := took()
		must(w.bulk.TagAgents(t.Context(), &amporav1.TagAgentsRequest{Targets: named(w.members...), Set: map[string]string{"zone": "a"}}))(t)
		must(admin.budgets.PutBudget(t.Context(), &amporav1.PutBudgetRequest{Budget: &amporav1.Budget{Name: "zones", Label: "zone", Most: 2}}))(t)
		if within := took(); within < 2*free {
			t.Errorf("two at a time take %s, all at once %s", within, free)
		}
		must(admin.budgets.DeleteBudget(t.Context(), &amporav1.DeleteBudgetRequest{Name: "zones"}))(t)
		must(admin.schedules.PutSchedule(t.Context(), &amporav1.PutScheduleRequest{Schedule: &amporav1.Schedule{
			Name: "year-end", Kind: amporav1.ScheduleKind_SCHEDULE_KIND_FREEZE, Zone: "UTC",
			From: timestamppb.New(w.now()), Until: timestamppb.New(w.now().Add(24 * time.Hour)),
		}}))(t)
		if frozen := took(); frozen < 24*time.Hour {
			t.Errorf("frozen for a day it takes %s", frozen)
		}
	})
}

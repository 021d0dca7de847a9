// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
)

const (
	rolloutEdge = "01890000-0000-7000-8000-0000000000f1"
	rolloutPlan = "5d0c6fbd4ba6e4c1f2f9f0a0a6f34a2c87cfd6b1e7f3f7d2c0a3a4b5c6d7e8f9"
	freshPlan   = "0f9e8d7c6b5a4a3a0c2d7f3f7e1b6dfc78c2a43f6a0a0f9f2f1c4e6ab4dbf6c0"
)

// rolloutServer knows one rollout, which stands in its second wave, and tells what a test scripts.
type rolloutServer struct {
	amporav1connect.UnimplementedRolloutServiceHandler
	*state
}

func someGate(wave, total float64, window time.Duration) *amporav1.RolloutGate {
	gate := &amporav1.RolloutGate{Wave: &wave, Total: &total}
	if window > 0 {
		gate.Window = durationpb.New(window)
	}
	return gate
}

// aDefinition is what was asked for, with whatever was left out.
func aDefinition(asked *amporav1.RolloutDefinition) *amporav1.RolloutDefinition {
	d := proto.CloneOf(asked)
	d.GroupName, d.ConfigName, d.Version = "edge", "edge", max(d.GetVersion(), 1)
	if len(d.GetStrategy().GetSteps()) == 0 && d.GetStrategy().GetKind() == amporav1.RolloutStrategyKind_ROLLOUT_STRATEGY_KIND_CANARY {
		d.Strategy.Steps = []*amporav1.RolloutStep{{Percent: 5, Dwell: durationpb.New(5 * time.Minute)}, {Percent: 25, Dwell: durationpb.New(10 * time.Minute)}, {Percent: 100}}
	}
	if d.GetGates() == nil {
		small, total := int32(5), int32(20)
		d.Gates = &amporav1.RolloutGates{
			ApplyFailed: someGate(20, 5, 0), Disconnect: someGate(20, 5, 5*time.Minute), Mismatch: someGate(20, 5, 10*time.Minute),
			Unhealthy: someGate(10, 5, 10*time.Minute), SmallWave: &small, SmallTotal: &total,
		}
	}
	if d.GetOrder().GetKind() == 0 {
		d.Order = &amporav1.RolloutOrder{Kind: amporav1.RolloutOrderKind_ROLLOUT_ORDER_KIND_RANDOM, Seed: max(d.GetOrder().GetSeed(), 7)}
	}
	if d.GetAdvance() == 0 {
		d.Advance = amporav1.RolloutAdvance_ROLLOUT_ADVANCE_AUTOMATIC
	}
	if d.GetLate() == 0 {
		d.Late = amporav1.RolloutLate_ROLLOUT_LATE_FREEZE
	}
	if d.GetDeadline() == nil {
		d.Deadline = durationpb.New(10 * time.Minute)
	}
	return d
}

func aPlan() *amporav1.RolloutPlan {
	return &amporav1.RolloutPlan{
		MadeAt: timestamppb.Now(), Agents: 40, Digest: rolloutPlan, Shortest: durationpb.New(25 * time.Minute),
		Waves:   []*amporav1.RolloutPlanWave{{Agents: 2, Dwell: durationpb.New(5 * time.Minute)}, {Agents: 8, Dwell: durationpb.New(10 * time.Minute)}, {Agents: 30}},
		Skipped: []*amporav1.RolloutSkip{{Reason: "has an assignment of its own", Agents: 1}, {Reason: "is already there", Agents: 2}},
		Changes: []*amporav1.RolloutChangeCount{
			{Change: amporav1.RolloutChange_ROLLOUT_CHANGE_COMPONENTS, Agents: 38}, {Change: amporav1.RolloutChange_ROLLOUT_CHANGE_NEW, Agents: 2},
		},
		Blast: []*amporav1.RolloutBlastRadius{{Label: "site", Value: "berlin", Agents: 30, Of: 32}, {Label: "site", Value: "bonn\x1b[A", Agents: 10, Of: 11}},
	}
}

func aRollout(state amporav1.RolloutState, wave int32, reason string) *amporav1.Rollout {
	now := time.Now()
	return &amporav1.Rollout{
		Id: rolloutEdge, Kind: amporav1.RolloutKind_ROLLOUT_KIND_FORWARD, State: state, Wave: wave, Reason: reason, Plan: aPlan(),
		Definition: aDefinition(&amporav1.RolloutDefinition{
			GroupId: groupEdge, ConfigId: configEdge, Strategy: &amporav1.RolloutStrategy{Kind: amporav1.RolloutStrategyKind_ROLLOUT_STRATEGY_KIND_CANARY},
		}),
		CreatedBy: "ada", CreatedAt: timestamppb.New(now.Add(-time.Hour)), StartedBy: "ada", StartedAt: timestamppb.New(now.Add(-20 * time.Minute)),
		WaveOpenedAt: timestamppb.New(now.Add(-10 * time.Minute)),
	}
}

func someWaves(applied, inFlight, failed int32) []*amporav1.RolloutWave {
	return []*amporav1.RolloutWave{
		{Counts: &amporav1.RolloutCounts{Skipped: 3}},
		{Wave: 1, Counts: &amporav1.RolloutCounts{Agents: 2, Touched: 2, Applied: 2, Succeeded: 2}, EndedAt: timestamppb.Now()},
		{Wave: 2, Counts: &amporav1.RolloutCounts{
			Agents: 8, Pending: 8 - applied - inFlight - failed, Touched: applied + inFlight + failed, InFlight: inFlight, Applied: applied, Failed: failed,
		}},
		{Wave: 3, Counts: &amporav1.RolloutCounts{Agents: 30, Pending: 30}},
	}
}

const inProgress = amporav1.RolloutState_ROLLOUT_STATE_IN_PROGRESS

func (s rolloutServer) PlanRollout(_ context.Context, r *amporav1.PlanRolloutRequest) (*amporav1.PlanRolloutResponse, error) {
	unlock, err := s.change()
	defer unlock()
	return &amporav1.PlanRolloutResponse{Definition: aDefinition(r.GetDefinition()), Plan: aPlan()}, err
}

func (s rolloutServer) CreateRollout(_ context.Context, r *amporav1.CreateRolloutRequest) (*amporav1.CreateRolloutResponse, error) {
	unlock, err := s.change()
	defer unlock()
	made := aRollout(amporav1.RolloutState_ROLLOUT_STATE_PENDING, 0, "")
	made.Definition, made.StartedAt, made.StartedBy, made.WaveOpenedAt = aDefinition(r.GetDefinition()), nil, "", nil
	return &amporav1.CreateRolloutResponse{Rollout: made}, err
}

// steered answers for every procedure that changes the rollout.
func (s rolloutServer) steered(id string, state amporav1.RolloutState, reason string) (*amporav1.Rollout, error) {
	unlock, err := s.change()
	defer unlock()
	if id != rolloutEdge {
		return nil, refuse(connect.CodeNotFound, "NOT_FOUND", "there is no such thing", nil)
	}
	return aRollout(state, 2, reason), err
}

func (s rolloutServer) StartRollout(_ context.Context, r *amporav1.StartRolloutRequest) (*amporav1.StartRolloutResponse, error) {
	if r.GetAcceptChanges() != freshPlan && s.stalePlan {
		return nil, refuse(connect.CodeFailedPrecondition, "PLAN_STALE", "the plan of 40 agents is not what it would be now: 2 left", map[string]string{
			"digest": freshPlan, "of": "40", "left": "2", "joined": "0", "agent/" + agentOne: "left the group",
		})
	}
	is, err := s.steered(r.GetId(), inProgress, "")
	return &amporav1.StartRolloutResponse{Rollout: is}, err
}

func (s rolloutServer) PauseRollout(_ context.Context, r *amporav1.PauseRolloutRequest) (*amporav1.PauseRolloutResponse, error) {
	is, err := s.steered(r.GetId(), amporav1.RolloutState_ROLLOUT_STATE_PAUSED, r.GetReason())
	return &amporav1.PauseRolloutResponse{Rollout: is}, err
}

func (s rolloutServer) ResumeRollout(_ context.Context, r *amporav1.ResumeRolloutRequest) (*amporav1.ResumeRolloutResponse, error) {
	is, err := s.steered(r.GetId(), inProgress, "")
	return &amporav1.ResumeRolloutResponse{Rollout: is}, err
}

func (s rolloutServer) AdvanceRollout(_ context.Context, r *amporav1.AdvanceRolloutRequest) (*amporav1.AdvanceRolloutResponse, error) {
	is, err := s.steered(r.GetId(), inProgress, "")
	return &amporav1.AdvanceRolloutResponse{Rollout: is}, err
}

func (s rolloutServer) ExtendRollout(_ context.Context, r *amporav1.ExtendRolloutRequest) (*amporav1.ExtendRolloutResponse, error) {
	is, err := s.steered(r.GetId(), inProgress, "")
	if is != nil {
		is.Extended = r.GetBy()
	}
	return &amporav1.ExtendRolloutResponse{Rollout: is}, err
}

func (s rolloutServer) AbortRollout(_ context.Context, r *amporav1.AbortRolloutRequest) (*amporav1.AbortRolloutResponse, error) {
	is, err := s.steered(r.GetId(), amporav1.RolloutState_ROLLOUT_STATE_ABORTED, r.GetReason())
	return &amporav1.AbortRolloutResponse{Rollout: is}, err
}

func (s rolloutServer) RollBackRollout(_ context.Context, r *amporav1.RollBackRolloutRequest) (*amporav1.RollBackRolloutResponse, error) {
	is, err := s.steered(r.GetId(), inProgress, "")
	if is != nil {
		is.Kind, is.Of, is.Definition.Note = amporav1.RolloutKind_ROLLOUT_KIND_ROLLBACK, r.GetId(), r.GetNote()
		is.Definition.Strategy = r.GetStrategy()
	}
	return &amporav1.RollBackRolloutResponse{Rollout: is}, err
}

func (s rolloutServer) GetRollout(_ context.Context, r *amporav1.GetRolloutRequest) (*amporav1.GetRolloutResponse, error) {
	is, err := s.steered(r.GetId(), inProgress, "")
	return &amporav1.GetRolloutResponse{Rollout: is, Waves: someWaves(3, 2, 1)}, err
}

func (s rolloutServer) ListRollouts(_ context.Context, r *amporav1.ListRolloutsRequest) (*amporav1.ListRolloutsResponse, error) {
	unlock, err := s.change()
	defer unlock()
	answer := &amporav1.ListRolloutsResponse{}
	if r.GetGroupId() == "" || r.GetGroupId() == groupEdge {
		answer.Rollouts = append(answer.Rollouts, aRollout(inProgress, 2, "wave 2 is looked at"))
	}
	return answer, err
}

func (s rolloutServer) ListRolloutMembers(_ context.Context, r *amporav1.ListRolloutMembersRequest) (*amporav1.ListRolloutMembersResponse, error) {
	unlock, err := s.change()
	defer unlock()
	all := []*amporav1.RolloutMember{
		{
			AgentId: agentOne, HostName: "web-1", Wave: 1, Position: 1, State: amporav1.RolloutMemberState_ROLLOUT_MEMBER_STATE_APPLYING,
			Change: amporav1.RolloutChange_ROLLOUT_CHANGE_COMPONENTS, AdmittedAt: timestamppb.New(time.Now().Add(-12 * time.Minute)), Overdue: true,
		},
		{
			AgentId: agentTwo, HostName: "web\x1b]0;owned\a", Wave: 2, Position: 2, State: amporav1.RolloutMemberState_ROLLOUT_MEMBER_STATE_FAILED,
			Change: amporav1.RolloutChange_ROLLOUT_CHANGE_PIPELINES, Reason: "exporter \x1b[2J is unknown", AdmittedAt: timestamppb.New(time.Now().Add(-2 * time.Minute)),
		},
	}
	answer := &amporav1.ListRolloutMembersResponse{}
	for _, member := range all {
		if straggles := member.GetOverdue(); r.GetStragglers() && !straggles || r.GetProblems() && straggles {
			continue
		}
		answer.Members = append(answer.Members, member)
	}
	return answer, err
}

func (s rolloutServer) SimulateRollout(_ context.Context, r *amporav1.SimulateRolloutRequest) (*amporav1.SimulateRolloutResponse, error) {
	unlock, err := s.change()
	defer unlock()
	answer := &amporav1.SimulateRolloutResponse{
		State: amporav1.RolloutState_ROLLOUT_STATE_COMPLETED, Took: durationpb.New(47 * time.Minute), Touched: 40, Plan: aPlan(),
		Waves: []*amporav1.SimulatedWave{{Wave: 1, Counts: &amporav1.RolloutCounts{Agents: 2, Applied: 2}, Opened: durationpb.New(0), Ended: durationpb.New(15 * time.Minute)}},
	}
	if r.GetModel().GetFail() > 20 {
		answer.State, answer.Reason, answer.Touched, answer.Failed = amporav1.RolloutState_ROLLOUT_STATE_PAUSED, "apply-failed 1 of 2", 2, 1
		answer.Waves[0].Ended, answer.Waves[0].Counts.Failed = nil, 1
	}
	return answer, err
}

func (s rolloutServer) WatchRollout(ctx context.Context, _ *amporav1.WatchRolloutRequest, out amporav1connect.RolloutServiceWatchRolloutServerStream) error {
	for len(s.rolloutScript) > 0 {
		next := s.rolloutScript[0]
		s.rolloutScript = s.rolloutScript[1:]
		if next == nil {
			return refuse(connect.CodeUnavailable, "UNAVAILABLE", "restarting", nil)
		}
		if err := out.Send(next); err != nil {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// aWord is one answer of a stream.
func aWord(state amporav1.RolloutState, wave int32, reason string, applied, inFlight, failed int32) *amporav1.WatchRolloutResponse {
	return &amporav1.WatchRolloutResponse{Rollout: aRollout(state, wave, reason), Waves: someWaves(applied, inFlight, failed)}
}

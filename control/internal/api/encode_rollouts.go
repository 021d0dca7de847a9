// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	pure "gitlab.com/ampora/ampora/control/internal/rollout"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

var rolloutStates = word[fleet.RolloutState, amporav1.RolloutState]{
	{fleet.RolloutPending, amporav1.RolloutState_ROLLOUT_STATE_PENDING},
	{fleet.RolloutInProgress, amporav1.RolloutState_ROLLOUT_STATE_IN_PROGRESS},
	{fleet.RolloutPaused, amporav1.RolloutState_ROLLOUT_STATE_PAUSED},
	{fleet.RolloutCompleted, amporav1.RolloutState_ROLLOUT_STATE_COMPLETED},
	{fleet.RolloutAborted, amporav1.RolloutState_ROLLOUT_STATE_ABORTED},
	{fleet.RolloutRollingBack, amporav1.RolloutState_ROLLOUT_STATE_ROLLING_BACK},
	{fleet.RolloutRolledBack, amporav1.RolloutState_ROLLOUT_STATE_ROLLED_BACK},
}

var rolloutKinds = word[fleet.RolloutKind, amporav1.RolloutKind]{
	{fleet.RolloutForward, amporav1.RolloutKind_ROLLOUT_KIND_FORWARD},
	{fleet.RolloutCatchUp, amporav1.RolloutKind_ROLLOUT_KIND_CATCH_UP},
	{fleet.RolloutRollback, amporav1.RolloutKind_ROLLOUT_KIND_ROLLBACK},
}

var strategyKinds = word[fleet.StrategyKind, amporav1.RolloutStrategyKind]{
	{fleet.StrategyImmediate, amporav1.RolloutStrategyKind_ROLLOUT_STRATEGY_KIND_IMMEDIATE},
	{fleet.StrategyBatch, amporav1.RolloutStrategyKind_ROLLOUT_STRATEGY_KIND_BATCH},
	{fleet.StrategyPercentage, amporav1.RolloutStrategyKind_ROLLOUT_STRATEGY_KIND_PERCENTAGE},
	{fleet.StrategyCanary, amporav1.RolloutStrategyKind_ROLLOUT_STRATEGY_KIND_CANARY},
}

var advances = word[fleet.Advance, amporav1.RolloutAdvance]{
	{fleet.AdvanceAutomatic, amporav1.RolloutAdvance_ROLLOUT_ADVANCE_AUTOMATIC},
	{fleet.AdvanceManual, amporav1.RolloutAdvance_ROLLOUT_ADVANCE_MANUAL},
}

var orderKinds = word[fleet.OrderKind, amporav1.RolloutOrderKind]{
	{fleet.OrderRandom, amporav1.RolloutOrderKind_ROLLOUT_ORDER_KIND_RANDOM},
	{fleet.OrderHostName, amporav1.RolloutOrderKind_ROLLOUT_ORDER_KIND_HOST_NAME},
	{fleet.OrderLastSeen, amporav1.RolloutOrderKind_ROLLOUT_ORDER_KIND_LAST_SEEN},
	{fleet.OrderSpread, amporav1.RolloutOrderKind_ROLLOUT_ORDER_KIND_SPREAD},
}

var lates = word[fleet.Late, amporav1.RolloutLate]{
	{fleet.LateFreeze, amporav1.RolloutLate_ROLLOUT_LATE_FREEZE},
	{fleet.LateJoin, amporav1.RolloutLate_ROLLOUT_LATE_JOIN},
}

var memberStates = word[fleet.MemberState, amporav1.RolloutMemberState]{
	{fleet.MemberPending, amporav1.RolloutMemberState_ROLLOUT_MEMBER_STATE_PENDING},
	{fleet.MemberAdmitted, amporav1.RolloutMemberState_ROLLOUT_MEMBER_STATE_ADMITTED},
	{fleet.MemberPushed, amporav1.RolloutMemberState_ROLLOUT_MEMBER_STATE_PUSHED},
	{fleet.MemberApplying, amporav1.RolloutMemberState_ROLLOUT_MEMBER_STATE_APPLYING},
	{fleet.MemberApplied, amporav1.RolloutMemberState_ROLLOUT_MEMBER_STATE_APPLIED},
	{fleet.MemberFailed, amporav1.RolloutMemberState_ROLLOUT_MEMBER_STATE_FAILED},
	{fleet.MemberSkipped, amporav1.RolloutMemberState_ROLLOUT_MEMBER_STATE_SKIPPED},
	{fleet.MemberDisconnected, amporav1.RolloutMemberState_ROLLOUT_MEMBER_STATE_DISCONNECTED},
}

var changeClasses = word[fleet.ChangeClass, amporav1.RolloutChange]{
	{fleet.ChangeNone, amporav1.RolloutChange_ROLLOUT_CHANGE_NONE},
	{fleet.ChangeFormat, amporav1.RolloutChange_ROLLOUT_CHANGE_FORMAT},
	{fleet.ChangeComponents, amporav1.RolloutChange_ROLLOUT_CHANGE_COMPONENTS},
	{fleet.ChangePipelines, amporav1.RolloutChange_ROLLOUT_CHANGE_PIPELINES},
	{fleet.ChangeNew, amporav1.RolloutChange_ROLLOUT_CHANGE_NEW},
	{fleet.ChangeOpaque, amporav1.RolloutChange_ROLLOUT_CHANGE_OPAQUE},
}

// duration is a time on the wire; none is absent.
func duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func rollout(r fleet.Rollout) *amporav1.Rollout {
	return &amporav1.Rollout{
		Id: string(r.ID), Kind: rolloutKinds.encode(r.Kind), Of: string(r.Of), Definition: rolloutDefinition(r.Definition),
		State: rolloutStates.encode(r.State), Reason: r.Reason, Plan: rolloutPlan(r.Plan),
		Wave: count(r.Wave), WaveOpenedAt: moment(r.WaveOpenedAt), FilledAt: moment(r.FilledAt), Extended: duration(r.Extended),
		Former: assignedVersion(r.Former), WantsRollback: r.WantsRollback,
		CreatedBy: r.CreatedBy, CreatedAt: moment(r.CreatedAt), StartedBy: r.StartedBy, StartedAt: moment(r.StartedAt),
		EndedAt: moment(r.EndedAt), WakeAt: moment(r.WakeAt),
	}
}

func assignedVersion(v fleet.AssignedVersion) *amporav1.RolloutVersion {
	if v == (fleet.AssignedVersion{}) {
		return nil
	}
	return &amporav1.RolloutVersion{ConfigId: string(v.Config), Version: count(v.Version)}
}

func rolloutDefinition(d fleet.RolloutDefinition) *amporav1.RolloutDefinition {
	return &amporav1.RolloutDefinition{
		GroupId: string(d.Group), GroupName: d.GroupName, ConfigId: string(d.Config), ConfigName: d.ConfigName, Version: count(d.Version),
		Strategy: &amporav1.RolloutStrategy{
			Kind: strategyKinds.encode(d.Strategy.Kind), Size: count(d.Strategy.Size), Dwell: duration(d.Strategy.Dwell),
			Steps: each(d.Strategy.Steps, func(s fleet.WaveStep) *amporav1.RolloutStep {
				return &amporav1.RolloutStep{Percent: s.Percent, Dwell: duration(s.Dwell)}
			}),
		},
		Advance: advances.encode(d.Advance),
		Order:   &amporav1.RolloutOrder{Kind: orderKinds.encode(d.Order.Kind), Seed: d.Order.Seed, Label: d.Order.Label},
		Gates:   rolloutGates(d.Gates), Late: lates.encode(d.Late), Deadline: duration(d.Deadline), RollBack: d.RollBack, Note: d.Note,
	}
}

func rolloutGates(g fleet.Gates) *amporav1.RolloutGates {
	small, total := count(g.SmallWave), count(g.SmallTotal)
	return &amporav1.RolloutGates{
		ApplyFailed: rolloutGate(g.ApplyFailed), Disconnect: rolloutGate(g.Disconnect),
		Mismatch: rolloutGate(g.Mismatch), Unhealthy: rolloutGate(g.Unhealthy), SmallWave: &small, SmallTotal: &total,
	}
}

func rolloutGate(g fleet.Gate) *amporav1.RolloutGate {
	return &amporav1.RolloutGate{Off: g.Off, Wave: &g.Wave, Total: &g.Total, Window: duration(g.Window)}
}

func rolloutPlan(p fleet.RolloutPlan) *amporav1.RolloutPlan {
	encoded := &amporav1.RolloutPlan{
		MadeAt: moment(p.MadeAt), Agents: count(p.Agents), Shortest: duration(p.Shortest), Digest: p.Digest,
		Waves: each(p.Waves, func(w fleet.PlanWave) *amporav1.RolloutPlanWave {
			return &amporav1.RolloutPlanWave{Agents: count(w.Agents), Dwell: duration(w.Dwell)}
		}),
		Blast: each(p.Blast, func(b fleet.BlastRadius) *amporav1.RolloutBlastRadius {
			return &amporav1.RolloutBlastRadius{Label: b.Label, Value: b.Value, Agents: count(b.Agents), Of: count(b.Of)}
		}),
	}
	for _, reason := range slices.Sorted(maps.Keys(p.Skipped)) {
		encoded.Skipped = append(encoded.Skipped, &amporav1.RolloutSkip{Reason: reason, Agents: count(p.Skipped[reason])})
	}
	for _, class := range changeClasses {
		if n := p.Changes[class.word]; n > 0 {
			encoded.Changes = append(encoded.Changes, &amporav1.RolloutChangeCount{Change: class.value, Agents: count(n)})
		}
	}
	return encoded
}

func rolloutWave(w fleet.WaveCounts) *amporav1.RolloutWave {
	return &amporav1.RolloutWave{Wave: count(w.Wave), Counts: rolloutCounts(w.Counts), OpenedAt: moment(w.OpenedAt), EndedAt: moment(w.EndedAt)}
}

func rolloutCounts(c fleet.Counts) *amporav1.RolloutCounts {
	return &amporav1.RolloutCounts{
		Agents: count(c.Agents), Skipped: count(c.Skipped), Pending: count(c.Pending), Touched: count(c.Touched),
		InFlight: count(c.InFlight), Watched: count(c.Watched), Applied: count(c.Applied), Succeeded: count(c.Succeeded), Overdue: count(c.Overdue),
		Failed: count(c.Failed), Gone: count(c.Gone), Mismatch: count(c.Mismatch), Unhealthy: count(c.Unhealthy),
	}
}

func rolloutMember(m store.MemberView) *amporav1.RolloutMember {
	return &amporav1.RolloutMember{
		AgentId: string(m.Agent), HostName: m.HostName, ServiceName: m.ServiceName, Wave: count(m.Wave), Position: count(m.Position),
		State: memberStates.encode(m.State), Reason: m.Reason, Former: assignedVersion(m.Former), Target: assignedVersion(m.Target),
		Change: changeClasses.encode(m.Change), AdmittedAt: moment(m.AdmittedAt), PushedAt: moment(m.PushedAt),
		DeadlineAt: moment(m.DeadlineAt), SettledAt: moment(m.SettledAt),
		Gone: m.Gone, Unhealthy: m.Unhealthy, Mismatch: m.Mismatch, Overdue: m.Overdue, Succeeded: m.Succeeded(),
	}
}

func rolloutFrom(d *amporav1.RolloutDefinition) fleet.RolloutDefinition {
	return fleet.RolloutDefinition{
		Group: fleet.GroupID(d.GetGroupId()), Config: fleet.ConfigID(d.GetConfigId()), Version: int(d.GetVersion()),
		Strategy: strategyFrom(d.GetStrategy()), Advance: advances.decode(d.GetAdvance()),
		Order: fleet.Order{Kind: orderKinds.decode(d.GetOrder().GetKind()), Seed: d.GetOrder().GetSeed(), Label: d.GetOrder().GetLabel()},
		Gates: gatesFrom(d.GetGates()), Late: lates.decode(d.GetLate()), Deadline: d.GetDeadline().AsDuration(), RollBack: d.GetRollBack(), Note: d.GetNote(),
	}
}

func strategyFrom(s *amporav1.RolloutStrategy) fleet.Strategy {
	strategy := fleet.Strategy{Kind: strategyKinds.decode(s.GetKind()), Size: int(s.GetSize()), Dwell: s.GetDwell().AsDuration()}
	for _, step := range s.GetSteps() {
		strategy.Steps = append(strategy.Steps, fleet.WaveStep{Percent: step.GetPercent(), Dwell: step.GetDwell().AsDuration()})
	}
	return strategy
}

// gatesFrom reads gates; what is left out is as by default.
func gatesFrom(g *amporav1.RolloutGates) fleet.Gates {
	gates := fleet.DefaultGates()
	gateFrom(&gates.ApplyFailed, g.GetApplyFailed())
	gateFrom(&gates.Disconnect, g.GetDisconnect())
	gateFrom(&gates.Mismatch, g.GetMismatch())
	gateFrom(&gates.Unhealthy, g.GetUnhealthy())
	if g != nil && g.SmallWave != nil {
		gates.SmallWave = int(g.GetSmallWave())
	}
	if g != nil && g.SmallTotal != nil {
		gates.SmallTotal = int(g.GetSmallTotal())
	}
	return gates
}

func gateFrom(gate *fleet.Gate, g *amporav1.RolloutGate) {
	if g == nil {
		return
	}
	gate.Off = g.GetOff()
	if g.Wave != nil {
		gate.Wave = g.GetWave()
	}
	if g.Total != nil {
		gate.Total = g.GetTotal()
	}
	if g.GetWindow() != nil {
		gate.Window = g.GetWindow().AsDuration()
	}
	if gate.Off {
		*gate = fleet.Gate{Off: true}
	}
}

// modelFrom reads a model, whose shares are percent on the wire.
func modelFrom(m *amporav1.RolloutModel) pure.Model {
	return pure.Model{
		Seed: m.GetSeed(), Failing: m.GetFail() / 100, Unhealthy: m.GetUnhealthy() / 100, Silent: m.GetSilent() / 100,
		Answers: pure.AnswerTimes{Min: m.GetQuickest().AsDuration(), Median: m.GetMedian().AsDuration(), P99: m.GetP99().AsDuration()},
	}
}

func simulated(s pure.Simulation) *amporav1.SimulateRolloutResponse {
	return &amporav1.SimulateRolloutResponse{
		State: rolloutStates.encode(s.State), Reason: s.Reason, Took: durationpb.New(s.Took), Touched: count(s.Counts.Touched),
		Failed: count(s.Counts.Failed), Plan: rolloutPlan(s.Plan),
		Waves: each(s.Waves, func(w pure.SimulatedWave) *amporav1.SimulatedWave {
			return &amporav1.SimulatedWave{Wave: count(w.Wave), Counts: rolloutCounts(w.Counts), Opened: durationpb.New(w.Opened), Ended: duration(w.Ended)}
		}),
	}
}

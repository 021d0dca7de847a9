// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) rolloutProperties(rollout *amporav1.Rollout) view {
	definition := rollout.GetDefinition()
	shown := &properties{}
	shown.add("id", or(rollout.GetId()))
	shown.add("kind", word(rollout.GetKind()))
	shown.add("of", or(rollout.GetOf()))
	shown.add("group", or(definition.GetGroupName()))
	shown.add("config", rolledOut(rollout))
	shown.add("state", word(rollout.GetState()))
	shown.add("reason", or(rollout.GetReason()))
	shown.add("wave", waveOf(rollout))
	shown.add("wave opened", relative(p.now(), rollout.GetWaveOpenedAt()))
	shown.add("dwell extended", lasting(rollout.GetExtended()))
	addDefinition(shown, definition)
	shown.add("agents", number(rollout.GetPlan().GetAgents()))
	shown.add("plan", or(rollout.GetPlan().GetDigest()))
	shown.add("created", madeBy(relative(p.now(), rollout.GetCreatedAt()), rollout.GetCreatedBy()))
	shown.add("started", madeBy(relative(p.now(), rollout.GetStartedAt()), rollout.GetStartedBy()))
	shown.add("ended", relative(p.now(), rollout.GetEndedAt()))
	return shown
}

func madeBy(when, who string) string {
	if when == none || who == "" {
		return when
	}
	return when + " by " + escape(who)
}

func rolledOut(rollout *amporav1.Rollout) string {
	return fmt.Sprintf("%s@%d", escape(rollout.GetDefinition().GetConfigName()), rollout.GetDefinition().GetVersion())
}

// waveOf is the open wave of how many.
func waveOf(rollout *amporav1.Rollout) string {
	if rollout.GetWave() == 0 {
		return none
	}
	return fmt.Sprintf("%d of %d", rollout.GetWave(), len(rollout.GetPlan().GetWaves()))
}

func lasting(d *durationpb.Duration) string {
	if d.AsDuration() == 0 {
		return none
	}
	return exactly(d.AsDuration())
}

// addDefinition shows how a rollout goes about it.
func addDefinition(shown *properties, definition *amporav1.RolloutDefinition) {
	shown.add("strategy", strategyWords(definition.GetStrategy()))
	shown.add("advance", word(definition.GetAdvance()))
	order := word(definition.GetOrder().GetKind())
	if label := definition.GetOrder().GetLabel(); label != "" {
		order += " over " + escape(label)
	}
	shown.add("order", order+", seed "+strconv.FormatUint(definition.GetOrder().GetSeed(), 10))
	for _, gate := range gatesOf(definition.GetGates()) {
		shown.add("gate "+gate.name, gate.words())
	}
	shown.add("late agents", word(definition.GetLate()))
	shown.add("deadline", lasting(definition.GetDeadline()))
	if definition.GetRollBack() {
		shown.add("breach", "rolls back by itself")
	}
	shown.add("note", or(definition.GetNote()))
}

func strategyWords(strategy *amporav1.RolloutStrategy) string {
	text := word(strategy.GetKind())
	if strategy.GetKind() == amporav1.RolloutStrategyKind_ROLLOUT_STRATEGY_KIND_BATCH {
		text += fmt.Sprintf(" of %d", strategy.GetSize())
	}
	var steps []string
	for _, step := range strategy.GetSteps() {
		words := percent(step.GetPercent())
		if step.GetDwell().AsDuration() > 0 {
			words += "/" + exactly(step.GetDwell().AsDuration())
		}
		steps = append(steps, words)
	}
	if len(steps) > 0 {
		text += " " + strings.Join(steps, ",")
	}
	if strategy.GetDwell().AsDuration() > 0 {
		text += ", dwell " + exactly(strategy.GetDwell().AsDuration())
	}
	return text
}

// percent is a share as flags take it.
func percent(share float64) string { return strconv.FormatFloat(share, 'f', -1, 64) + "%" }

// gateWith is a gate with its name and what it counts.
type gateWith struct {
	name  string
	gate  *amporav1.RolloutGate
	count func(*amporav1.RolloutCounts) int32
}

func gatesOf(gates *amporav1.RolloutGates) []gateWith {
	return []gateWith{
		{"apply-failed", gates.GetApplyFailed(), (*amporav1.RolloutCounts).GetFailed},
		{"disconnect", gates.GetDisconnect(), (*amporav1.RolloutCounts).GetGone},
		{"mismatch", gates.GetMismatch(), (*amporav1.RolloutCounts).GetMismatch},
		{"unhealthy", gates.GetUnhealthy(), (*amporav1.RolloutCounts).GetUnhealthy},
	}
}

// words are a gate as the flag takes it.
func (g gateWith) words() string {
	if g.gate.GetOff() {
		return "off"
	}
	text := percent(g.gate.GetWave()) + ",total=" + percent(g.gate.GetTotal())
	if window := g.gate.GetWindow().AsDuration(); window > 0 {
		text += ",window=" + exactly(window)
	}
	return text
}

// planView shows the waves of a plan, whom it skips, what it changes, and where.
func planView(definition *amporav1.RolloutDefinition, plan *amporav1.RolloutPlan) view {
	shown := &properties{}
	shown.add("config", fmt.Sprintf("%s@%d", escape(definition.GetConfigName()), definition.GetVersion()))
	shown.add("group", or(definition.GetGroupName()))
	addDefinition(shown, definition)
	shown.add("agents", strconv.Itoa(int(plan.GetAgents())))
	shown.add("at least", lasting(plan.GetShortest()))
	shown.add("plan", or(plan.GetDigest()))

	parts := views{shown, line(""), planWaves(plan)}
	if len(plan.GetChanges()) > 0 {
		t := newTable("CHANGE", "AGENTS")
		for _, change := range plan.GetChanges() {
			t.row(word(change.GetChange()), number(change.GetAgents()))
		}
		parts = append(parts, line(""), t)
	}
	if len(plan.GetSkipped()) > 0 {
		t := newTable("SKIPPED", "BECAUSE")
		for _, skip := range plan.GetSkipped() {
			t.row(number(skip.GetAgents()), or(skip.GetReason()))
		}
		parts = append(parts, line(""), t)
	}
	if len(plan.GetBlast()) > 0 {
		t := newTable("WHERE", "AGENTS", "OF")
		for _, blast := range plan.GetBlast() {
			t.row(escape(blast.GetLabel()+"="+blast.GetValue()), number(blast.GetAgents()), number(blast.GetOf()))
		}
		parts = append(parts, line(""), t)
	}
	return parts
}

func planWaves(plan *amporav1.RolloutPlan) view {
	t := newTable("WAVE", "AGENTS", "SO FAR", "DWELL")
	sum := int32(0)
	for i, wave := range plan.GetWaves() {
		sum += wave.GetAgents()
		t.row(strconv.Itoa(i+1), number(wave.GetAgents()), number(sum), lasting(wave.GetDwell()))
	}
	return t
}

// waveTable shows the counts of each wave.
func waveTable(rollout *amporav1.Rollout, waves []*amporav1.RolloutWave) view {
	t := newTable("WAVE", "STATE", "AGENTS", "PENDING", "IN FLIGHT", "APPLIED", "SUCCEEDED", "FAILED", "GONE", "MISMATCH", "UNHEALTHY", "OVERDUE", "SKIPPED")
	for _, wave := range waves {
		counts := wave.GetCounts()
		t.row(strconv.Itoa(int(wave.GetWave())), waveState(rollout, wave), number(counts.GetAgents()), number(counts.GetPending()), number(counts.GetInFlight()),
			number(counts.GetApplied()), number(counts.GetSucceeded()), number(counts.GetFailed()), number(counts.GetGone()),
			number(counts.GetMismatch()), number(counts.GetUnhealthy()), number(counts.GetOverdue()), number(counts.GetSkipped()))
	}
	return t
}

func waveState(rollout *amporav1.Rollout, wave *amporav1.RolloutWave) string {
	switch {
	case wave.GetWave() == 0:
		return "skipped"
	case wave.GetEndedAt() != nil || wave.GetWave() < rollout.GetWave():
		return "ended"
	case wave.GetWave() == rollout.GetWave():
		return "open"
	default:
		return none
	}
}

// since is the time between two, in full seconds.
func since(from, to time.Time) string { return exactly(to.Sub(from).Round(time.Second)) }

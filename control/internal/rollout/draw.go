// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Why an agent is skipped when it is planned. What else there is to say of one is in its member's reason.
const (
	SkippedOwn         = "has an assignment of its own"
	SkippedNotAccepted = "does not accept remote configuration"
	SkippedFailed      = "failed on it before"
	SkippedThere       = "is already there"
	SkippedNothing     = "had no configuration of ours before"
)

// Draw plans a rollout: who is in which wave, in which order, who is skipped and why, and what that changes. Equal
// arguments, but for the time, make equal plans.
func Draw(kind fleet.RolloutKind, def fleet.RolloutDefinition, candidates []fleet.RolloutCandidate, now time.Time) (fleet.RolloutPlan, []fleet.Member) {
	plan := fleet.RolloutPlan{MadeAt: now, Skipped: map[string]int{}, Changes: map[fleet.ChangeClass]int{}}
	var taken []fleet.RolloutCandidate
	var skipped []fleet.Member
	for _, c := range ordered(def.Order, candidates) {
		if why, words := skip(kind, c); why != "" {
			plan.Skipped[why]++
			m := planned(c, fleet.MemberSkipped)
			m.Reason, m.SettledAt = words, now
			skipped = append(skipped, m)
			continue
		}
		taken = append(taken, c)
		plan.Changes[c.Change]++
	}
	plan.Agents = len(taken)
	plan.Blast = blast(candidates, taken)
	members := make([]fleet.Member, 0, len(candidates))
	for i, size := range waves(def.Strategy, len(taken)) {
		wave := i + 1
		dwell := def.Strategy.DwellOf(wave)
		plan.Waves = append(plan.Waves, fleet.PlanWave{Agents: size, Dwell: dwell})
		plan.Shortest += max(dwell, windows(def.Gates))
		for _, c := range taken[len(members) : len(members)+size] {
			m := planned(c, fleet.MemberPending)
			m.Wave, m.Position = wave, len(members)+1
			members = append(members, m)
		}
	}
	for _, m := range skipped {
		m.Position = len(members) + 1
		members = append(members, m)
	}
	plan.Digest = digest(def, members)
	return plan, members
}

func planned(c fleet.RolloutCandidate, state fleet.MemberState) fleet.Member {
	return fleet.Member{Agent: c.Agent, State: state, Former: c.Runs, Target: c.Target, Change: c.Change}
}

// skip says why an agent is in no wave: as it is counted, and in all words.
func skip(kind fleet.RolloutKind, c fleet.RolloutCandidate) (why, words string) {
	switch {
	case c.Own:
		why = SkippedOwn
	case kind == fleet.RolloutRollback && c.Target == fleet.AssignedVersion{}:
		why = SkippedNothing
	case c.AcceptsConfig != nil && !*c.AcceptsConfig:
		why = SkippedNotAccepted
	case c.Blocked != "":
		return SkippedFailed, SkippedFailed + ": " + c.Blocked
	case c.Change == fleet.ChangeNone:
		why = SkippedThere
	}
	return why, why
}

// waves are the sizes of the waves of so many agents. None is empty: shares that round to nobody take one agent, and there
// are fewer waves than steps if there are fewer agents.
func waves(s fleet.Strategy, agents int) []int {
	var sizes []int
	reached := 0
	reach := func(upTo int) {
		if upTo = min(max(upTo, reached+1), agents); upTo > reached {
			sizes, reached = append(sizes, upTo-reached), upTo
		}
	}
	switch s.Kind {
	case fleet.StrategyPercentage, fleet.StrategyCanary:
		for _, step := range s.Steps {
			reach(int(step.Percent * float64(agents) / 100))
		}
	case fleet.StrategyBatch:
		for reached < agents {
			reach(reached + s.Size)
		}
	case fleet.StrategyImmediate:
	}
	reach(agents)
	return sizes
}

// windows is how long after the push the gates look at an agent.
func windows(g fleet.Gates) time.Duration {
	longest := time.Duration(0)
	for _, is := range gates(g) {
		if !is.gate.Off {
			longest = max(longest, is.gate.Window)
		}
	}
	return longest
}

// digest is over all that an operator agrees to: the definition, and each agent with wave, class and whether it is taken.
func digest(def fleet.RolloutDefinition, members []fleet.Member) string {
	def.GroupName, def.ConfigName = "", "" // what things are called is no part of it
	h := sha256.New()
	text, err := json.Marshal(def)
	if err != nil {
		panic(err) // a definition has no value that JSON does not
	}
	h.Write(text)
	for _, m := range members {
		fmt.Fprintf(h, "\n%s %d %s %s %d %t", m.Agent, m.Wave, m.Change, m.Target.Config, m.Target.Version, m.State == fleet.MemberPending)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
)

func candidates(n int, edit ...func(i int, c *fleet.RolloutCandidate)) []fleet.RolloutCandidate {
	list := make([]fleet.RolloutCandidate, n)
	for i := range list {
		list[i] = fleet.RolloutCandidate{
			Agent: fleet.AgentID(fmt.Sprintf("a%05d", i)), HostName: fmt.Sprintf("host-%05d", n-i), LastSeenAt: start.Add(time.Duration(i) * time.Second),
			Change: fleet.ChangePipelines,
		}
		for _, e := range edit {
			e(i, &list[i])
		}
	}
	return list
}

func TestWaves(t *testing.T) {
	percentage := fleet.Strategy{Kind: fleet.StrategyPercentage, Steps: fleet.DefaultSteps(fleet.StrategyPercentage)}
	for _, c := range []struct {
		name     string
		strategy fleet.Strategy
		agents   int
		want     string
	}{
		{"immediate", fleet.Strategy{Kind: fleet.StrategyImmediate}, 7, "[7]"},
		{"nobody", fleet.Strategy{Kind: fleet.StrategyImmediate}, 0, "[]"},
		{"batch", fleet.Strategy{Kind: fleet.StrategyBatch, Size: 5}, 12, "[5 5 2]"},
		{"percentage", percentage, 1000, "[50 200 250 500]"},
		{"percentage of few", percentage, 10, "[1 1 3 5]"},
		{"percentage of fewer than steps", percentage, 3, "[1 1 1]"},
		{"percentage of nobody", percentage, 0, "[]"},
		{"canary", fleet.Strategy{Kind: fleet.StrategyCanary, Steps: fleet.DefaultSteps(fleet.StrategyCanary)}, 100, "[5 20 25 50]"},
	} {
		plan, members := rollout.Draw(fleet.RolloutForward, definition(func(d *fleet.RolloutDefinition) { d.Strategy = c.strategy }), candidates(c.agents), start)
		sizes := []int{}
		for _, w := range plan.Waves {
			sizes = append(sizes, w.Agents)
		}
		check(t, c.name, fmt.Sprint(sizes), c.want)
		check(t, c.name+": members", len(members), c.agents)
		check(t, c.name+": agents", plan.Agents, c.agents)
	}
}

func TestOrder(t *testing.T) {
	first := func(by fleet.Order, list []fleet.RolloutCandidate) []fleet.AgentID {
		_, members := rollout.Draw(fleet.RolloutForward, definition(func(d *fleet.RolloutDefinition) { d.Order = by }), list, start)
		agents := make([]fleet.AgentID, len(members))
		for i, m := range members {
			check(t, "position", m.Position, i+1)
			agents[i] = m.Agent
		}
		return agents
	}
	list := candidates(50)
	check(t, "by host name", first(fleet.Order{Kind: fleet.OrderHostName}, list)[0], "a00049")
	check(t, "by last seen", first(fleet.Order{Kind: fleet.OrderLastSeen}, list)[0], "a00049")
	random := fleet.Order{Kind: fleet.OrderRandom, Seed: 7}
	once := first(random, list)
	shuffled := slices.Clone(list)
	slices.Reverse(shuffled)
	if !slices.Equal(once, first(random, shuffled)) {
		t.Error("the same seed and agents make another order")
	}
	if slices.Equal(once, first(fleet.Order{Kind: fleet.OrderRandom, Seed: 8}, list)) || slices.IsSorted(once) {
		t.Error("another seed makes the same order, or it is no order by chance")
	}
	without := slices.DeleteFunc(slices.Clone(once), func(a fleet.AgentID) bool { return a == "a00010" })
	if !slices.Equal(without, first(random, slices.Delete(slices.Clone(list), 10, 11))) {
		t.Error("an agent that left shuffles the others")
	}
}

// A site takes of each wave about what it has of the fleet.
func TestSpread(t *testing.T) {
	sites := []string{"berlin", "berlin", "berlin", "oslo"}
	list := candidates(400, func(i int, c *fleet.RolloutCandidate) { c.Spread = sites[i%4] })
	def := definition(func(d *fleet.RolloutDefinition) { d.Order = fleet.Order{Kind: fleet.OrderSpread, Label: "site"} })
	_, members := rollout.Draw(fleet.RolloutForward, def, list, start)
	at := map[fleet.AgentID]string{}
	for _, c := range list {
		at[c.Agent] = c.Spread
	}
	of := map[int]map[string]int{}
	for _, m := range members {
		if of[m.Wave] == nil {
			of[m.Wave] = map[string]int{}
		}
		of[m.Wave][at[m.Agent]]++
	}
	for wave, want := range map[int]string{1: "map[berlin:15 oslo:5]", 2: "map[berlin:60 oslo:20]"} {
		check(t, fmt.Sprintf("wave %d", wave), fmt.Sprint(of[wave]), want)
	}
}

func TestSkips(t *testing.T) {
	no := false
	list := candidates(8, func(i int, c *fleet.RolloutCandidate) {
		switch i {
		case 1:
			c.Own = true
		case 2:
			c.AcceptsConfig = &no
		case 3:
			c.Blocked = "no such receiver"
		case 4:
			c.Change = fleet.ChangeNone
		case 5:
			c.Target = fleet.AssignedVersion{Config: "c", Version: 2}
		}
	})
	plan, members := rollout.Draw(fleet.RolloutForward, definition(), list, start)
	check(t, "agents", plan.Agents, 4)
	for why, want := range map[string]string{
		rollout.SkippedOwn: "a00001", rollout.SkippedNotAccepted: "a00002", rollout.SkippedFailed: "a00003", rollout.SkippedThere: "a00004",
	} {
		check(t, why, plan.Skipped[why], 1)
		i := slices.IndexFunc(members, func(m fleet.Member) bool { return m.State == fleet.MemberSkipped && strings.HasPrefix(m.Reason, why) })
		if i < 0 || string(members[i].Agent) != want || members[i].Wave != 0 {
			t.Errorf("%s: %+v", why, members)
		}
	}
	plan, _ = rollout.Draw(fleet.RolloutRollback, definition(), list, start)
	check(t, "agents of a rollback", plan.Agents, 1)
	check(t, "skipped by a rollback", plan.Skipped[rollout.SkippedNothing], 6)
}

func TestBlastRadius(t *testing.T) {
	list := candidates(300, func(i int, c *fleet.RolloutCandidate) {
		c.Blast = map[string]string{"site": "s" + fmt.Sprint(i%3), "host": fmt.Sprint(i)}
		c.Own = i%2 == 0
	})
	plan, _ := rollout.Draw(fleet.RolloutForward, definition(), list, start)
	check(t, "values", len(plan.Blast), rollout.BlastLimit)
	check(t, "the first", fmt.Sprintf("%+v", plan.Blast[0]), "{Label:site Value:s0 Agents:50 Of:100}")
	check(t, "shortest", plan.Shortest, 60*time.Minute)
	check(t, "classes", plan.Changes[fleet.ChangePipelines], 150)
}

func TestCompare(t *testing.T) {
	draw := func(list []fleet.RolloutCandidate) (fleet.RolloutPlan, []fleet.Member) {
		return rollout.Draw(fleet.RolloutForward, definition(func(d *fleet.RolloutDefinition) { d.Order.Kind = fleet.OrderHostName }), list, start)
	}
	// Host names go down, so the last agent comes first.
	was, before := draw(candidates(1000))
	text := func(list []fleet.RolloutCandidate) (string, bool) {
		is, after := draw(list)
		check(t, "equal digests", was.Digest == is.Digest, len(list) == 1000 && !slices.ContainsFunc(list, func(c fleet.RolloutCandidate) bool {
			return c.Own || c.Change != fleet.ChangePipelines
		}))
		d := rollout.Compare(was, before, is, after)
		return fmt.Sprintf("joined %d left %d moved %d reclassed %d turned %d", d.Joined, d.Left, d.Moved, d.Reclassed, d.Turned), rollout.Stale(d, fleet.DefaultStale)
	}
	for _, c := range []struct {
		name  string
		list  []fleet.RolloutCandidate
		want  string
		stale bool
	}{
		{"the same", candidates(1000), "joined 0 left 0 moved 0 reclassed 0 turned 0", false},
		{"ten are of another class", candidates(1000, func(i int, c *fleet.RolloutCandidate) {
			if i < 10 {
				c.Change = fleet.ChangeFormat
			}
		}), "joined 0 left 0 moved 0 reclassed 10 turned 0", false},
		{"eleven are", candidates(1000, func(i int, c *fleet.RolloutCandidate) {
			if i < 11 {
				c.Change = fleet.ChangeFormat
			}
		}), "joined 0 left 0 moved 0 reclassed 11 turned 0", true},
		{"one of the last wave is skipped", candidates(1000, func(i int, c *fleet.RolloutCandidate) { c.Own = i == 0 }), "joined 0 left 0 moved 3 reclassed 0 turned 1", false},
		{"one left", candidates(1000)[1:], "joined 0 left 1 moved 3 reclassed 0 turned 0", false},
		{"many joined", append(candidates(1000), fleet.RolloutCandidate{Agent: "new", HostName: "zz", Change: fleet.ChangeNew}), "joined 1 left 0 moved 0 reclassed 0 turned 0", false},
	} {
		got, stale := text(c.list)
		check(t, c.name, got, c.want)
		check(t, c.name+": stale", stale, c.stale)
	}
	check(t, "another definition", rollout.Stale(fleet.PlanDelta{Definition: []string{"the version was archived"}, Of: 1000}, fleet.DefaultStale), true)
}

func TestCheck(t *testing.T) {
	if err := rollout.Check(definition()); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	for field, edit := range map[string]func(*fleet.RolloutDefinition){
		"group":                           func(d *fleet.RolloutDefinition) { d.Group = "" },
		"version":                         func(d *fleet.RolloutDefinition) { d.Version = 0 },
		"late":                            func(d *fleet.RolloutDefinition) { d.Late = "never" },
		"deadline":                        func(d *fleet.RolloutDefinition) { d.Deadline = 0 },
		"strategy.kind":                   func(d *fleet.RolloutDefinition) { d.Strategy = fleet.Strategy{Kind: "all"} },
		"strategy.size is at":             func(d *fleet.RolloutDefinition) { d.Strategy = fleet.Strategy{Kind: fleet.StrategyBatch} },
		"strategy.size is for":            func(d *fleet.RolloutDefinition) { d.Strategy.Size = 4 },
		"strategy.steps are":              func(d *fleet.RolloutDefinition) { d.Strategy.Kind = fleet.StrategyImmediate },
		"strategy.steps end":              func(d *fleet.RolloutDefinition) { d.Strategy.Steps = d.Strategy.Steps[:2] },
		"strategy.steps[1].percent":       func(d *fleet.RolloutDefinition) { d.Strategy.Steps[1].Percent = 5 },
		"strategy.steps[0].percent":       func(d *fleet.RolloutDefinition) { d.Strategy.Steps[0].Percent = math.NaN() },
		"strategy.steps[2].dwell":         func(d *fleet.RolloutDefinition) { d.Strategy.Steps[2].Dwell = -1 },
		"strategy.dwell":                  func(d *fleet.RolloutDefinition) { d.Strategy.Dwell = rollout.Longest + 1 },
		"advance is":                      func(d *fleet.RolloutDefinition) { d.Advance = "" },
		"advance of a canary":             func(d *fleet.RolloutDefinition) { d.Advance = fleet.AdvanceManual },
		"order.kind":                      func(d *fleet.RolloutDefinition) { d.Order.Kind = "" },
		"order.label is missing":          func(d *fleet.RolloutDefinition) { d.Order.Kind = fleet.OrderSpread },
		"order.label is for":              func(d *fleet.RolloutDefinition) { d.Order.Label = "site" },
		"gates.apply_failed.wave":         func(d *fleet.RolloutDefinition) { d.Gates.ApplyFailed.Wave = 101 },
		"gates.unhealthy.total":           func(d *fleet.RolloutDefinition) { d.Gates.Unhealthy.Total = math.NaN() },
		"gates.mismatch.window":           func(d *fleet.RolloutDefinition) { d.Gates.Mismatch.Window = -1 },
		"gates.apply_failed.window":       func(d *fleet.RolloutDefinition) { d.Gates.ApplyFailed.Window = 1 },
		"gates.disconnect.window is miss": func(d *fleet.RolloutDefinition) { d.Gates.Disconnect.Window = 0 },
		"gates.small_wave":                func(d *fleet.RolloutDefinition) { d.Gates.SmallWave = -1 },
		"gates.small_total":               func(d *fleet.RolloutDefinition) { d.Gates.SmallTotal = -1 },
		"roll_back needs a gate, and all a": func(d *fleet.RolloutDefinition) {
			off := fleet.Gate{Off: true}
			d.RollBack, d.Gates = true, fleet.Gates{ApplyFailed: off, Disconnect: off, Mismatch: off, Unhealthy: off}
		},
	} {
		err := rollout.Check(definition(edit))
		if !errors.Is(err, rollout.ErrInvalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

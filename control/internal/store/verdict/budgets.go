// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// WithinBudgets parts what an act would be done to into those that budgets have room for, in order, and those left alone.
func WithinBudgets(outcome fleet.ActOutcome, counting []fleet.NextCandidate, uses []fleet.BudgetUse) fleet.ActOutcome {
	room := map[fleet.BudgetKey]int{}
	for _, u := range uses {
		room[u.BudgetKey] = u.Most - u.Used
	}
	var done []fleet.AgentID
	for _, c := range counting {
		if slices.ContainsFunc(c.Budgets, func(k fleet.BudgetKey) bool { return room[k] <= 0 }) {
			outcome.Skipped[fleet.SkipBudget] = append(outcome.Skipped[fleet.SkipBudget], c.Agent)
			continue
		}
		for _, k := range c.Budgets {
			room[k]--
		}
		done = append(done, c.Agent)
	}
	outcome.Done = done
	return outcome
}

// Counting are agents of whom it is not known yet which budgets they count for.
func Counting(agents []fleet.AgentID) []fleet.NextCandidate {
	counting := make([]fleet.NextCandidate, len(agents))
	for i, id := range agents {
		counting[i].Agent = id
	}
	return counting
}

// CountedFor is that an agent counts for a budget.
type CountedFor struct {
	Agent fleet.AgentID
	Use   fleet.BudgetUse // nothing of it is used
}

// CountFor writes to agents what they count for, and adds to the uses those of which nothing is used yet.
func CountFor(next []fleet.NextCandidate, counted []CountedFor, uses []fleet.BudgetUse) []fleet.BudgetUse {
	known := map[fleet.BudgetKey]bool{}
	for _, u := range uses {
		known[u.BudgetKey] = true
	}
	at := map[fleet.AgentID]int{}
	for i := range next {
		at[next[i].Agent] = i
	}
	for _, c := range counted {
		i := at[c.Agent]
		next[i].Budgets = append(next[i].Budgets, c.Use.BudgetKey)
		if !known[c.Use.BudgetKey] {
			known[c.Use.BudgetKey] = true
			uses = append(uses, c.Use)
		}
	}
	return uses
}

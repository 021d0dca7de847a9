// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// RolloutCandidate is what a plan has to know of an agent.
type RolloutCandidate struct {
	Agent      AgentID
	HostName   string
	LastSeenAt time.Time
	Online     bool
	// AcceptsConfig is nil until the agent said what it can do.
	AcceptsConfig *bool
	// Spread is the value of the order's label; Blast the labels and tags that the blast radius is told by.
	Spread string
	Blast  map[string]string
	// Own says that the agent has an assignment of its own, which comes before its group's.
	Own bool
	// Runs is what it was last granted and has not failed on; zero: nothing of ours. RunsOffer is that as it was offered.
	Runs      AssignedVersion
	RunsOffer OfferHash
	// Blocked says in words that the version failed on it before; empty: it did not.
	Blocked string
	// Change is how much the version changes what it runs.
	Change ChangeClass
	// Target of a rollback: what it is to have again.
	Target AssignedVersion
}

// RolloutPlan is the summary of a plan. The agents stand in the members.
type RolloutPlan struct {
	MadeAt time.Time  `json:"made_at"`
	Waves  []PlanWave `json:"waves"`
	// Agents are those in waves.
	Agents  int                 `json:"agents"`
	Skipped map[string]int      `json:"skipped,omitempty"` // by reason
	Changes map[ChangeClass]int `json:"changes,omitempty"`
	// Blast is how many agents of each value of a label change: label, value, agents, most first, bounded.
	Blast []BlastRadius `json:"blast,omitempty"`
	// Shortest is how long it takes at least if every agent answers at once.
	Shortest time.Duration `json:"shortest"`
	// Digest is the lower-case hexadecimal SHA-256 over the definition and every agent with wave, class and eligibility, in
	// order: equal digests, equal plans.
	Digest string `json:"digest"`
}

// PlanWave is a wave of a plan.
type PlanWave struct {
	Agents int           `json:"agents"`
	Dwell  time.Duration `json:"dwell,omitzero"`
}

// BlastRadius is how many agents that have a value of a label the rollout changes, of how many in its group.
type BlastRadius struct {
	Label  string `json:"label"`
	Value  string `json:"value"`
	Agents int    `json:"agents"`
	Of     int    `json:"of"`
}

// PlanDelta is how one plan differs from another.
type PlanDelta struct {
	// Definition names what of the definition is otherwise, such as a version that was archived.
	Definition []string
	// Joined, Left, Moved (to another wave), Reclassed and Turned (eligible or not) are numbers of agents; Sample shows some.
	Joined, Left, Moved, Reclassed, Turned int
	Sample                                 []PlanChange
	// Of is how many agents the older plan has.
	Of int
}

// PlanChange is what is otherwise of one agent.
type PlanChange struct {
	Agent AgentID
	Words string
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// DriftState says how what an agent runs differs from what it shall run.
type DriftState string

// The states.
const (
	// DriftNone: there is nothing to compare. Nothing is assigned, or the agent does not say that it runs it.
	DriftNone DriftState = "none"
	// DriftUnknown: it cannot be said. The agent does not report what it runs, or in a way that cannot be compared.
	DriftUnknown DriftState = "unknown"
	// DriftInSync: the agent runs what was assigned, with defaults filled in, references replaced and secrets hidden.
	DriftInSync DriftState = "in_sync"
	// DriftDrifted: something that was assigned is otherwise in what it runs.
	DriftDrifted DriftState = "drifted"
)

// DriftStates are all of them.
var DriftStates = []DriftState{DriftNone, DriftUnknown, DriftInSync, DriftDrifted}

// Drift is the verdict on an agent.
type Drift struct {
	State DriftState
	// Changes is how many differences there are; Summary has the first of them in words, DriftSentences at most.
	Changes int
	Summary []string
	// Since is when the state became this one, LookedAt when it was last looked at.
	Since    time.Time
	LookedAt time.Time
}

// DriftSentences is how many differences are kept in words.
const DriftSentences = 3

// DriftDelay is how long it is waited after an agent has said what it runs: the word that it has applied a version comes
// later, and more of its report may.
const DriftDelay = 10 * time.Second

// DriftLook is what is to be compared for an agent.
type DriftLook struct {
	Tenant TenantID
	Agent  AgentID
	// Version is the one of the row that was read.
	Version int64
	Was     DriftState
	// Assigned is the body that the agent says it has applied, of a configuration of the kind; zero if it says so of none
	// that it shall run.
	Assigned ContentHash
	Kind     ConfigKind
	// Effective is what it says it runs; nil if it never said.
	Effective *EffectiveConfig
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// RolloutID names a rollout: UUIDv7 text.
type RolloutID string

// RolloutState is where a rollout stands.
type RolloutState string

// The states.
const (
	RolloutPending     RolloutState = "pending"      // planned, not started
	RolloutInProgress  RolloutState = "in_progress"  // agents are let in, wave by wave
	RolloutPaused      RolloutState = "paused"       // by an operator or a gate; nothing is granted
	RolloutCompleted   RolloutState = "completed"    // the last wave has ended
	RolloutAborted     RolloutState = "aborted"      // by an operator; who was touched keeps the new version
	RolloutRollingBack RolloutState = "rolling_back" // another rollout gives those who were touched their former version
	RolloutRolledBack  RolloutState = "rolled_back"
)

// RolloutTransitions is the one table of a rollout's life: it feeds the guards of the stores, the diagram in the
// documentation and the tests. A rollout that rolls back becomes aborted if the rollout that does it is aborted itself.
var RolloutTransitions = map[RolloutState][]RolloutState{
	RolloutPending:     {RolloutInProgress, RolloutAborted},
	RolloutInProgress:  {RolloutPaused, RolloutCompleted, RolloutAborted, RolloutRollingBack},
	RolloutPaused:      {RolloutInProgress, RolloutAborted, RolloutRollingBack},
	RolloutCompleted:   {RolloutRollingBack},
	RolloutAborted:     {RolloutRollingBack},
	RolloutRollingBack: {RolloutRolledBack, RolloutAborted},
	RolloutRolledBack:  {},
}

// Over says that the rollout does nothing any more by itself.
func (s RolloutState) Over() bool {
	return s == RolloutCompleted || s == RolloutAborted || s == RolloutRolledBack
}

// Active says that the rollout decides for its group: no other may start there.
func (s RolloutState) Active() bool {
	return s == RolloutInProgress || s == RolloutPaused
}

// Grants says that agents which the rollout has let in may be granted its version.
func (s RolloutState) Grants() bool { return s == RolloutInProgress || s == RolloutCompleted }

// RolloutKind says what a rollout is for.
type RolloutKind string

// The kinds.
const (
	// RolloutForward brings a version to the members of a group.
	RolloutForward RolloutKind = "forward"
	// RolloutCatchUp brings what a group is assigned to members that wait for it (late, offline, skipped, moved).
	RolloutCatchUp RolloutKind = "catch_up"
	// RolloutRollback gives the agents that another one touched what each had before.
	RolloutRollback RolloutKind = "rollback"
)

// Rollout brings a published version to a group: wave by wave, and it stops by itself when agents fail.
type Rollout struct {
	Tenant TenantID
	ID     RolloutID
	Kind   RolloutKind
	// Of is the rollout that a rollback undoes, or a catch-up completes; empty for a forward one.
	Of         RolloutID
	Definition RolloutDefinition
	State      RolloutState
	// Generation is raised by everything that closes grants, in its transaction: whatever acts on a grant of the rollout
	// checks it.
	Generation Generation
	// Version is of the row: raised by every change of what stands here, but not by what agents do.
	Version int64
	// Wave is the one that is open, from 1; 0 before the start.
	Wave int
	// WaveOpenedAt is when it was opened, FilledAt when the last of its agents was let in (zero: not yet), Extended how long
	// an operator made its dwell besides.
	WaveOpenedAt time.Time
	FilledAt     time.Time
	Extended     time.Duration
	// Accepted are the problems that an operator took note of when resuming: the gates count what comes on top.
	Accepted Accepted
	// Reason says in words and numbers why it stands as it does: why it is paused, what it waits for.
	Reason string
	// WantsRollback says that a breach asked for a rollback, which is not made yet.
	WantsRollback bool
	// Plan is what was planned; its digest is in the audit record of the start.
	Plan RolloutPlan
	// Former is what the group was assigned before the start; zero: nothing.
	Former    AssignedVersion
	CreatedBy string
	CreatedAt time.Time
	StartedBy string
	StartedAt time.Time
	EndedAt   time.Time
	WakeAt    time.Time // when it is looked at next by itself; zero: when something happens
}

// AssignedVersion names a version of a configuration; the zero one is none.
type AssignedVersion struct {
	Config  ConfigID `json:"config,omitzero"`
	Version int      `json:"version,omitzero"`
}

// Accepted are problems, by scope, that do not count any more.
type Accepted struct {
	Wave   int    `json:"wave,omitzero"` // the one that OfWave is about
	OfWave Counts `json:"of_wave,omitzero"`
	SoFar  Counts `json:"so_far,omitzero"`
}

// RolloutDefinition is what an operator says. Durations are JSON integers of nanoseconds.
type RolloutDefinition struct {
	Group      GroupID  `json:"group"`
	GroupName  string   `json:"group_name"` // read-only, as it was called when the rollout was made
	Config     ConfigID `json:"config"`
	ConfigName string   `json:"config_name"` // read-only
	Version    int      `json:"version"`

	Strategy Strategy `json:"strategy"`
	Advance  Advance  `json:"advance"`
	Order    Order    `json:"order"`
	Gates    Gates    `json:"gates"`
	Late     Late     `json:"late"`
	// Deadline is how long an agent may take from being let in to its last word; later it is a straggler, which is listed
	// and holds up nothing.
	Deadline time.Duration `json:"deadline"`
	// RollBack says that a breach makes a rollback, by itself.
	RollBack bool   `json:"roll_back,omitzero"`
	Note     string `json:"note,omitzero"`
}

// StrategyKind is how a rollout parts its agents into waves.
type StrategyKind string

// The strategies.
const (
	// StrategyImmediate is one wave of all.
	StrategyImmediate StrategyKind = "immediate"
	// StrategyBatch is waves of Size agents.
	StrategyBatch StrategyKind = "batch"
	// StrategyPercentage is waves by share of the membership, cumulative.
	StrategyPercentage StrategyKind = "percentage"
	// StrategyCanary is the same with a dwell for each, and advances by itself.
	StrategyCanary StrategyKind = "canary"
)

// Strategy parts agents into waves.
type Strategy struct {
	Kind StrategyKind `json:"kind"`
	// Size of a batch.
	Size int `json:"size,omitzero"`
	// Steps of StrategyPercentage and StrategyCanary; the last has Percent 100.
	Steps []WaveStep `json:"steps,omitempty"`
	// Dwell of every wave that no step says otherwise of.
	Dwell time.Duration `json:"dwell,omitzero"`
}

// WaveStep is one wave of a strategy by shares.
type WaveStep struct {
	// Percent of the membership that is reached with it, more than 0 and at most 100; each more than the one before.
	Percent float64       `json:"percent"`
	Dwell   time.Duration `json:"dwell,omitzero"`
}

// DwellOf is how long a wave, from 1, is at least looked at after the last of its agents was let in.
func (s Strategy) DwellOf(wave int) time.Duration {
	if wave >= 1 && wave <= len(s.Steps) && s.Steps[wave-1].Dwell > 0 {
		return s.Steps[wave-1].Dwell
	}
	return s.Dwell
}

// Advance says who opens the next wave.
type Advance string

// The ways.
const (
	// AdvanceAutomatic: the next wave opens when the one before has ended: its dwell and its gates' windows have passed.
	AdvanceAutomatic Advance = "automatic"
	// AdvanceManual: when it has ended and an operator says so.
	AdvanceManual Advance = "manual"
)

// OrderKind is by what agents are ordered.
type OrderKind string

// The orders. All are the same each time for the same seed and agents.
const (
	OrderRandom   OrderKind = "random"
	OrderHostName OrderKind = "host_name"
	OrderLastSeen OrderKind = "last_seen" // those that were seen last come first
	// OrderSpread takes turns among the values of a label or tag, so that none of them takes a wave alone.
	OrderSpread OrderKind = "spread"
)

// Order is the order in which agents are let in.
type Order struct {
	Kind OrderKind `json:"kind"`
	Seed uint64    `json:"seed,omitzero"`
	// Label is the key of OrderSpread: a tag, else a label of the agent's own.
	Label string `json:"label,omitzero"`
}

// Late says what becomes of agents that join the group after the plan was made.
type Late string

// The ways.
const (
	LateFreeze Late = "freeze" // they wait for a catch-up
	LateJoin   Late = "join"   // they are added to the last wave
)

// Gate stops a rollout when more than a share of agents has a problem. Percentages are from 0 to 100 and compared
// strictly; 100 never stops.
type Gate struct {
	Off bool `json:"off,omitzero"`
	// Wave is the share of the current wave, Total that of all agents let in so far.
	Wave  float64 `json:"wave"`
	Total float64 `json:"total"`
	// Window is, for disconnects, how long after the push one counts; else how long after the push an agent's problem is
	// first counted. None for failures, which count at once.
	Window time.Duration `json:"window,omitzero"`
}

// window is how long problems do not count: a gate that is off has none.
func (g Gate) window() time.Duration {
	if g.Off {
		return 0
	}
	return g.Window
}

// Gates are the four.
type Gates struct {
	ApplyFailed Gate `json:"apply_failed"`
	Disconnect  Gate `json:"disconnect"`
	Mismatch    Gate `json:"mismatch"`
	Unhealthy   Gate `json:"unhealthy"`
	// SmallWave: a wave of fewer agents is stopped by one problem. SmallTotal: the total counts from so many agents on.
	SmallWave  int `json:"small_wave"`
	SmallTotal int `json:"small_total"`
}

// The defaults (product specification, section 8).
const (
	DefaultBatch    = 5
	DefaultDeadline = 10 * time.Minute
	DefaultStale    = 1.0 // percent of the planned agents that may have changed since the plan
)

// DefaultGates are on.
func DefaultGates() Gates {
	return Gates{
		ApplyFailed: Gate{Wave: 20, Total: 5},
		Disconnect:  Gate{Wave: 20, Total: 5, Window: 5 * time.Minute},
		Mismatch:    Gate{Wave: 20, Total: 5, Window: 10 * time.Minute},
		Unhealthy:   Gate{Wave: 10, Total: 5, Window: 10 * time.Minute},
		SmallWave:   5, SmallTotal: 20,
	}
}

// DefaultSteps are those of a strategy by shares.
func DefaultSteps(kind StrategyKind) []WaveStep {
	switch kind {
	case StrategyPercentage:
		return []WaveStep{{Percent: 5}, {Percent: 25}, {Percent: 50}, {Percent: 100}}
	case StrategyCanary:
		return []WaveStep{{5, 5 * time.Minute}, {25, 10 * time.Minute}, {50, 30 * time.Minute}, {Percent: 100}}
	default:
		return nil
	}
}

// RolloutFilter selects rollouts; every field that is set must hold.
type RolloutFilter struct {
	Group  GroupID
	States []RolloutState
	// WantsRollback: see Rollout.
	WantsRollback bool
}

// WaveCounts are the counts of one wave, with when it was opened and when it ended.
type WaveCounts struct {
	Wave     int
	Counts   Counts
	OpenedAt time.Time
	EndedAt  time.Time
}

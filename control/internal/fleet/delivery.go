// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// VersionRef names a published version and what an agent would be offered for it.
type VersionRef struct {
	Config     ConfigID
	ConfigName string
	Version    int
	Offer      OfferHash
	Hash       ContentHash
	Size       int64
	Type       string // content type
	// Templated says that it is no offer yet: what is known of the agent is to be put in first.
	Templated bool `json:",omitzero"`
}

// GrantState is where a grant stands.
type GrantState string

// The states of a grant. Only an open one is acted upon.
const (
	GrantOpen   GrantState = "open"
	GrantMet    GrantState = "met"    // the agent reported it applied
	GrantFailed GrantState = "failed" // the agent reported it failed, or went back by itself
	GrantClosed GrantState = "closed" // withdrawn: another took its place, or nothing is assigned any more
)

// GrantTransitions is the one table of a grant's life: it feeds the guard of the stores and the tests. A grant goes from
// open to open when another takes its place, and from met to failed when what ran does not run any more.
var GrantTransitions = map[GrantState][]GrantState{
	GrantOpen:   {GrantOpen, GrantMet, GrantFailed, GrantClosed},
	GrantMet:    {GrantOpen, GrantFailed, GrantClosed},
	GrantFailed: {GrantOpen, GrantClosed},
	GrantClosed: {GrantOpen},
}

// GrantReason says why the engine opened a grant.
type GrantReason string

// The reasons.
const (
	// GrantAssigned: the assigned version.
	GrantAssigned GrantReason = "assigned"
	// GrantPushed: the assigned version once more, because an operator wants it sent.
	GrantPushed GrantReason = "pushed"
	// GrantRestore: the last good version, after the assigned one failed.
	GrantRestore GrantReason = "restore"
)

// Grant says: this agent may get this version now. There is at most one per agent; the engine alone writes it.
// Generation grows with every change, and whatever acts on a grant checks it.
type Grant struct {
	Version    VersionRef
	State      GrantState
	Reason     GrantReason
	Generation Generation
	OpenedAt   time.Time
	// Seen is the stamp of the status that was on record when the grant was opened: only a later word can fail it.
	Seen Stamp
	// SentAt is when the offer last went to the agent's gateway, DeliveredAt when the gateway wrote it to the agent.
	// These two are written by the outbox and the inbox, never by the engine.
	SentAt      time.Time
	DeliveredAt time.Time
	// ApplyingAt is when the agent said it is applying it.
	ApplyingAt time.Time
	SettledAt  time.Time
	Message    string
	// Rollout and Wave are those under which it was opened; empty: none.
	Rollout RolloutID
	Wave    int
}

// AttemptOutcome is what became of a version on an agent.
type AttemptOutcome string

// The outcomes.
const (
	AttemptOffered    AttemptOutcome = "offered"
	AttemptApplying   AttemptOutcome = "applying"
	AttemptApplied    AttemptOutcome = "applied"
	AttemptFailed     AttemptOutcome = "failed"
	AttemptRolledBack AttemptOutcome = "rolled_back"
	// AttemptSuperseded: another version took its place before the agent's last word on it.
	AttemptSuperseded AttemptOutcome = "superseded"
)

// Attempt is the ledger's line for one agent and one offer. A version that failed or was rolled back is never offered
// to that agent again unless an operator clears the line.
type Attempt struct {
	Version   VersionRef
	Outcome   AttemptOutcome
	Message   string // the agent's own words
	FirstAt   time.Time
	LastAt    time.Time
	ClearedAt time.Time
}

// Blocks reports whether the version must not be offered.
func (a Attempt) Blocks() bool {
	return a.ClearedAt.IsZero() && (a.Outcome == AttemptFailed || a.Outcome == AttemptRolledBack)
}

// DeliveryState tells assignment, grant and report as one word.
type DeliveryState string

// The states.
const (
	DeliveryNone       DeliveryState = "none"
	DeliveryPending    DeliveryState = "pending"
	DeliverySent       DeliveryState = "sent"
	DeliveryApplying   DeliveryState = "applying"
	DeliveryApplied    DeliveryState = "applied"
	DeliveryFailed     DeliveryState = "failed"
	DeliveryRolledBack DeliveryState = "rolled_back"
	DeliverySkipped    DeliveryState = "skipped"
)

// Delivery is the summary the engine keeps on the agent's row.
type Delivery struct {
	State   DeliveryState
	Desired VersionRef
	// Through is "agent", "group" or "default": where the assignment stands.
	Through string
	Message string
	Since   time.Time
	// Restored is what the agent was put back to after a failure.
	Restored VersionRef `json:",omitzero"`
}

// Dispatch is one offer on its way: a due outbox row with what the sender must know.
type Dispatch struct {
	Tenant     TenantID
	Agent      AgentID
	Kind       DispatchKind
	Generation Generation
	Version    VersionRef // for configurations
	Reason     string     // for closes
	ExpiresAt  time.Time  // of what is not sent later; zero: it does not expire
	Gateway    GatewayID
	Transport  Transport // an agent that polls may come to any gateway
	Epoch      Epoch
	Tries      int
	Trace      Traceparent
}

// DispatchKind is what is to be sent.
type DispatchKind string

// The kinds; the outbox keeps the latest of each per agent.
const (
	DispatchConfig    DispatchKind = "config"
	DispatchFullState DispatchKind = "full_state"
	DispatchClose     DispatchKind = "close"
	DispatchRenew     DispatchKind = "renew"
	DispatchRestart   DispatchKind = "restart" // sent at most once
)

// DispatchKinds are all of them.
var DispatchKinds = []DispatchKind{DispatchConfig, DispatchFullState, DispatchClose, DispatchRenew, DispatchRestart}

// DeliveryReport is a gateway's word on a dispatch.
type DeliveryReport struct {
	Tenant     TenantID
	Agent      AgentID
	Epoch      Epoch
	Gateway    GatewayID
	BootID     uint64
	Kind       DispatchKind
	Offer      OfferHash
	Settings   []byte // of a renewal: the hash of what was offered
	Generation Generation
	Outcome    DeliveryOutcome
	At         time.Time
}

// DeliveryOutcome is what became of a dispatch at the gateway.
type DeliveryOutcome string

// The outcomes.
const (
	Delivered       DeliveryOutcome = "delivered"
	NotCapable      DeliveryOutcome = "not_capable"
	BodyUnavailable DeliveryOutcome = "body_unavailable"
	Refused         DeliveryOutcome = "refused" // of a renewal: no certificate was given
)

// Situation is what the engine knows of one agent when it decides: a bounded snapshot of assignment, grant and report.
type Situation struct {
	Tenant TenantID
	Agent  AgentID
	// Assigned is what the agent shall end up with; nil: nothing. Through is as Delivery.Through.
	Assigned *VersionRef
	Through  string
	// Unrendered says why the assigned version, a template, cannot be made an offer to this agent; empty: it can.
	Unrendered string
	// Held says in words why the agent is not to be moved to what is assigned for now: its rollout has not let it in, or is
	// stopped, or it waits for a catch-up. Empty: it may have it. Settled is what its group was assigned before that, which
	// an agent gets that has had nothing; nil: nothing.
	Held    string
	Settled *VersionRef
	// Member is the agent in the rollout of its group's assignment, Under that rollout's state and generation; nil: there is
	// none, or the assignment is the agent's own.
	Member *Member
	Under  Under
	// What is known of how it is. Healthy is nil if it never said; Mismatch says that it drifts from what it was given.
	Healthy  *bool
	Mismatch bool
	Session  Session
	// Push: what is assigned is to be sent once more, whatever the agent says it runs.
	Push bool
	// Grant is the agent's grant, nil if it never had one.
	Grant *Grant
	// Status is the agent's last word on an offer, and StatusStamp when in its story it was said.
	Status      RemoteConfigStatus
	StatusStamp Stamp
	// AcceptsConfig is nil until the agent said what it can do.
	AcceptsConfig *bool
	// Undelivered is the gateway's last complaint about the open grant, empty if none.
	Undelivered DeliveryOutcome
	// Attempts of the assigned, granted and reported versions, and the last good one, by offer hash.
	Attempts map[OfferHash]Attempt
	// LastGood is the version most recently applied on this agent that is not blocked and whose body is stored.
	LastGood  *VersionRef
	Delivery  Delivery
	Attention []Attention
}

// Under is a rollout, as far as what is done for its agents depends on it.
type Under struct {
	State      RolloutState
	Generation Generation
	Gates      Gates
}

// Step is what the engine does next for one agent. The zero Step changes nothing.
type Step struct {
	// Grant replaces the agent's grant, guarded by the generation of the situation's; nil leaves it. With the same
	// generation it is the same grant, and SentAt and DeliveredAt are left as they are.
	Grant *Grant
	// Member replaces what is seen of the agent in its rollout, guarded by the revision of the situation's; nil leaves it.
	Member *Member
	// Attempts are written to the ledger.
	Attempts []Attempt
	// Send puts the grant's offer into the outbox, due at once; Withdraw takes any unsent offer out of it.
	Send     bool
	Withdraw bool
	// Delivery and Attention replace the agent's summary; nil leaves them.
	Delivery  *Delivery
	Attention *[]Attention
	Events    []Event
	// WakeAt is when to look again without being asked; zero: not.
	WakeAt time.Time
}

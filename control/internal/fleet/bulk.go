// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// Act is one thing that is done to many agents at once.
type Act struct {
	Kind ActKind
	// Agents are whom it is about; nil: whoever Filter selects.
	Agents []AgentID
	Filter AgentFilter
	// Preview only says what would be done.
	Preview bool
	// Expect is the mark of the selection that was previewed. An act on another selection is not done; empty: any.
	Expect string
	// Most is how many agents it may be about.
	Most int

	Tags TagChange // of ActTag
	// To is the group of ActMove, none if empty. It is not done if To has an assignment and would have more than Limit
	// members.
	To    GroupID
	Limit int
	// Over is how long ActDrain takes altogether, Each for each agent besides: sessions end one after the other.
	Over, Each time.Duration
	// Why is the operator's word.
	Why string
}

// ActKind is what is done.
type ActKind string

// The kinds; each is the audit action as well.
const (
	ActTag   ActKind = "agent.tag"
	ActMove  ActKind = "agent.move"
	ActPush  ActKind = "agent.force_push" // send what is assigned once more, even if it runs
	ActDrain ActKind = "agent.drain"      // end the session, so that the agent comes back elsewhere
	// ActRestart sends the restart command, at most once and within RestartLife, in which disruption budgets count the agent.
	ActRestart ActKind = "agent.restart"
)

// RestartLife is how long a restart command may wait for its agent: later nobody wants it any more.
const RestartLife = 60 * time.Second

// SampleSize is how many agents a preview shows.
const SampleSize = 50

// Skip says why an act leaves an agent alone.
type Skip string

// The reasons.
const (
	SkipNone Skip = ""
	// SkipUnknown: there is no such agent.
	SkipUnknown Skip = "NOT_FOUND"
	// SkipUnchanged: it is so already.
	SkipUnchanged Skip = "UNCHANGED"
	// SkipAway: it has no session.
	SkipAway Skip = "NOT_CONNECTED"
	// SkipUnassigned: nothing is assigned to it.
	SkipUnassigned Skip = "NOTHING_ASSIGNED"
	// SkipFailed: what is assigned failed on it, or it went back by itself. It is offered again when an operator clears that.
	SkipFailed Skip = "FAILED_BEFORE"
	// SkipNotCapable: it does not take that, or its gateway may not send it.
	SkipNotCapable Skip = "NOT_CAPABLE"
	// SkipTooManyTags: it would have more than MaxTags.
	SkipTooManyTags Skip = "TOO_MANY_TAGS"
	// SkipBudget: a disruption budget that it counts for has no room.
	SkipBudget Skip = "BUDGET_FULL"
)

// ActOutcome is what an act did, or would do.
type ActOutcome struct {
	// Mark names the selection: equal marks, equal agents.
	Mark string
	// Done are the agents it was done to, Skipped the others by why; both ascending.
	Done    []AgentID
	Skipped map[Skip][]AgentID
	// Sample is, of a preview, the first of whom it would be done to.
	Sample []Agent
}

// Matched is how many agents were selected.
func (o ActOutcome) Matched() int {
	n := len(o.Done)
	for _, agents := range o.Skipped {
		n += len(agents)
	}
	return n
}

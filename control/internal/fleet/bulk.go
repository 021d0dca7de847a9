// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

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
}

// ActKind is what is done.
type ActKind string

// The kinds; each is the audit action as well.
const (
	ActTag ActKind = "agent.tag"
)

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
	// SkipTooManyTags: it would have more than MaxTags.
	SkipTooManyTags Skip = "TOO_MANY_TAGS"
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

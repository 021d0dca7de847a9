// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

import "time"

// Extent is how much a report says.
type Extent uint8

const (
	// Partly is what has changed since the report before, or nothing.
	Partly Extent = iota
	// Described says that the agent describes itself, as it does in a full report; but parts of its state are missing that
	// it has told of before. An agent whose labels change says so, too.
	Described
	// Whole is everything that the agent has to tell.
	Whole
)

// patience is how often an agent is asked for its full state before what it calls so is taken for that: some may have no
// health although they say that they report one.
const patience = 3

// AskAgainAfter is how long a request for full state is given before it is
// repeated. Agents answer at once, so a repetition means that the first was lost.
const AskAgainAfter = 30 * time.Second

// Sequence follows the sequence_num of one agent within one session. It is a value:
// [Sequence.Next] decides and changes nothing but what it returns.
//
// OpAMP lets an agent leave out of a report whatever has not changed since the
// report before (specification, "Agent Status Compression"), so a report can be
// merged only if none was lost before it. The number says so: it grows by one with
// each message. A number that does not fit puts the session in doubt, and a session
// in doubt asks for the full state until it comes.
type Sequence struct {
	last     uint64
	known    bool // last is a number the control plane has on record
	begun    bool // a message of this session has come
	doubtful bool
	asked    time.Time // when full state was last asked for; zero: doubt that came since is to be told at once
	asks     uint8     // how often it was since the session is in doubt
}

// Step is the decision about one message.
type Step struct {
	// Relay it to the control plane. Otherwise it is only answered.
	Relay bool
	// Ask for the full state in the answer.
	Ask bool
	// Whole says that the message is the agent's full state: nothing it said before matters any more.
	Whole bool
	// Restart: the agent began to count anew. The session needs a new epoch before
	// the message is relayed, because order within an epoch is order of numbers.
	Restart bool
}

// Begin is the sequence of a new session. known says that last is on record, which
// is what lets an agent continue on another connection without its full state.
func Begin(last uint64, known bool) Sequence { return Sequence{last: last, known: known} }

// Doubt returns the sequence of a session that lost something.
func (q Sequence) Doubt() Sequence {
	q.doubtful, q.asked = true, time.Time{}
	return q
}

// Shed returns the sequence after a message that was received and thrown away.
func (q Sequence) Shed(number uint64) Sequence {
	if !q.begun || number > q.last {
		q.last = number
	}
	q.begun = true
	return q.Doubt()
}

// Next decides about the message with the number, which says so much.
func (q Sequence) Next(number uint64, extent Extent, now time.Time) (Sequence, Step) {
	if extent == Described && q.asks >= patience {
		extent = Whole
	}
	step := q.judge(number, extent)
	switch {
	case extent == Whole && step.Relay:
		q.doubtful, q.asks, step.Whole = false, 0, true
	case step.Ask && !q.doubtful:
		q = q.Doubt()
	}
	if step.Relay {
		q.last, q.begun = number, true
	}
	step.Ask = q.doubtful && (q.asked.IsZero() || now.Sub(q.asked) >= AskAgainAfter)
	if step.Ask {
		q.asked = now
		q.asks = min(q.asks+1, patience)
	}
	return q, step
}

// judge compares the number with the last one; Ask means a reason to doubt.
func (q Sequence) judge(number uint64, extent Extent) Step {
	full, described := extent == Whole, extent >= Described
	switch {
	case !q.begun:
		return Step{Relay: true, Ask: !full && !(q.known && number == q.last+1)}
	case number == q.last+1:
		return Step{Relay: true}
	case number == 0 && described:
		// Also when the last number was 0: a polling agent that restarts after its
		// first report looks like this, and a repetition costs one claim.
		return Step{Relay: true, Restart: true, Ask: !full}
	case number == q.last:
		return Step{} // repeated, because our answer was lost
	case number < q.last && described:
		return Step{Relay: true, Restart: true, Ask: !full}
	case number < q.last:
		// It would look older than what is on record. The full state will restart.
		return Step{Ask: true}
	default:
		return Step{Relay: true, Ask: !full}
	}
}

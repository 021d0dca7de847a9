// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package delivery decides, and does nothing else: from what is known of an agent and the time, what happens next to it.
//
// Its functions are pure: no clock, no I/O, no randomness outside their arguments. Called twice with the same arguments
// they say the same, and called again after their step was taken they say "nothing more" (unless the step asked to be
// called again at once), which is what lets any replica go on after any crash. Safety, as the property tests state it:
//
//   - a version that failed on an agent, or that the agent rolled back by itself, is not granted to it again until an
//     operator clears the attempt;
//   - a grant is opened only for the assigned version or for the last good one after a failure, never for nothing: an
//     empty configuration is not a thing that can be granted;
//   - an agent that cannot take a configuration is never granted one;
//   - a template is never granted: only what it became for the agent is;
//   - an agent that is held is not moved to what is assigned, and nobody is granted the version of a rollout that is
//     stopped.
package delivery

import (
	"bytes"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// AnswerDeadline is how long an agent may take from the delivery of an offer to its last word on it before a person is
// told. The grant stays open: a late answer still counts.
const AnswerDeadline = 10 * time.Minute

// Decide says what to do next for one agent.
func Decide(s fleet.Situation, now time.Time) fleet.Step {
	d := &decision{s: s, now: now, delivery: s.Delivery, attention: s.Attention}
	d.settle()
	d.grantNext()
	d.summarise()
	d.observe()
	return d.finish()
}

// decision gathers a step while it is being made.
type decision struct {
	s   fleet.Situation
	now time.Time

	step fleet.Step
	// grant is the agent's grant as it will be.
	grant     *fleet.Grant
	delivery  fleet.Delivery
	attention []fleet.Attention
}

// settle reads the agent's word against its grant.
func (d *decision) settle() {
	if d.s.Grant == nil {
		return
	}
	g := *d.s.Grant
	d.grant = &g
	switch g.State {
	case fleet.GrantOpen:
		if g.Reason == fleet.GrantPushed && g.DeliveredAt.IsZero() {
			d.settleUndelivered()
		} else {
			d.settleOpen(g)
		}
	case fleet.GrantMet:
		if d.reportsOn(g.Version.Offer) && d.s.Status.State == fleet.ConfigFailed {
			// It ran and does not any more.
			d.fail(g.Version)
		}
	case fleet.GrantFailed, fleet.GrantClosed:
	}
}

// settleUndelivered settles a push that has not reached the agent: what the agent says is of before, and it is to be sent
// whatever that is, unless it cannot be.
func (d *decision) settleUndelivered() {
	if d.s.Undelivered == fleet.NotCapable {
		d.close(fleet.GrantClosed, "the agent or its gateway does not allow it")
	}
}

func (d *decision) settleOpen(g fleet.Grant) {
	about := d.reportsOn(g.Version.Offer)
	switch {
	case about && d.s.Status.State == fleet.ConfigApplied:
		d.record(g.Version, fleet.AttemptApplied, "")
		d.close(fleet.GrantMet, "")
	case about && d.s.Status.State == fleet.ConfigFailed && (d.answers(g) || d.overdue(g)):
		d.fail(g.Version)
	case about && d.s.Status.State == fleet.ConfigApplying && d.answers(g):
		d.applying(g)
		d.watchDeadline(g)
	case d.wentBack() && d.answers(g) && (!g.ApplyingAt.IsZero() || d.overdue(g)):
		// It was applying ours and now says another one is applied: it rolled itself back. If the word "applying" passed
		// unseen between two looks, the other one is only believed to be its answer once its time is over: until then it
		// may be an old word, said again after a reconnect.
		words := "the agent went back to its former configuration by itself"
		d.record(g.Version, fleet.AttemptRolledBack, words)
		d.close(fleet.GrantFailed, words)
	default:
		d.watchDeadline(g)
	}
}

// applying notes that the agent is at work on the grant.
func (d *decision) applying(g fleet.Grant) {
	if g.ApplyingAt.IsZero() {
		d.grant.ApplyingAt = d.now
		d.step.Grant = d.grant
		d.record(g.Version, fleet.AttemptApplying, "")
	}
}

// fail settles the grant by the agent's own words.
func (d *decision) fail(v fleet.VersionRef) {
	d.record(v, fleet.AttemptFailed, d.s.Status.Error)
	d.close(fleet.GrantFailed, d.s.Status.Error)
}

// answers reports whether the agent's word is about this grant and not about an earlier offer of the same hash: it was
// said after the grant was opened, and the offer had reached the agent. (The gateway's word on the delivery wakes the
// engine too, so an answer that overtook it is only read a moment later.)
func (d *decision) answers(g fleet.Grant) bool {
	return !g.DeliveredAt.IsZero() && d.s.StatusStamp.After(g.Seen)
}

// overdue reports whether the agent has had its time. Agents say nothing to an offer of the hash they hold already, so
// an old word on it is then taken for the answer.
func (d *decision) overdue(g fleet.Grant) bool {
	return !g.DeliveredAt.IsZero() && !d.now.Before(g.DeliveredAt.Add(AnswerDeadline))
}

// wentBack reports whether the agent says a configuration other than the granted one is applied.
func (d *decision) wentBack() bool {
	return d.s.Status.State == fleet.ConfigApplied && len(d.s.Status.LastOffer) > 0
}

// watchDeadline tells a person when an agent has been silent for too long, and wakes the engine to find out.
func (d *decision) watchDeadline(g fleet.Grant) {
	if g.DeliveredAt.IsZero() {
		return
	}
	if !d.overdue(g) {
		d.step.WakeAt = g.DeliveredAt.Add(AnswerDeadline)
		return
	}
	d.remark(fleet.AttentionNoAnswer, fmt.Sprintf("no last word on %s within %s of its delivery", name(g.Version), AnswerDeadline))
}

// grantNext opens, replaces or withdraws the grant so that it says what the agent may get now.
func (d *decision) grantNext() {
	if d.s.Assigned == nil {
		d.withdraw()
		return
	}
	want := *d.s.Assigned
	if d.s.Held != "" {
		d.keep(want)
		return
	}
	if d.s.Unrendered != "" {
		d.withdraw()
		return
	}
	d.move(want)
}

// move gives the agent what it is to have, as far as that can be.
func (d *decision) move(want fleet.VersionRef) {
	switch {
	case d.pushes(want) && d.s.Push:
		d.open(want, fleet.GrantPushed)
	case d.pushes(want) && d.pushing(want):
		// until it is delivered and answered
	case d.runs(want):
		d.alreadyThere(want)
	case d.blocked(want):
		d.restore(want)
	case d.s.AcceptsConfig == nil:
		// It has not said what it can do; its first report wakes us.
	case !*d.s.AcceptsConfig:
		d.withdraw()
	default:
		d.open(want, fleet.GrantAssigned)
	}
}

// pushes reports whether want may be sent once more.
func (d *decision) pushes(want fleet.VersionRef) bool {
	return d.s.AcceptsConfig != nil && *d.s.AcceptsConfig && !d.blocked(want)
}

// pushing reports whether want is being sent because an operator wants it.
func (d *decision) pushing(want fleet.VersionRef) bool {
	g := d.grant
	return g != nil && g.State == fleet.GrantOpen && g.Reason == fleet.GrantPushed && g.Version.Offer == want.Offer
}

// alreadyThere records that the agent runs what it shall, whoever put it there.
func (d *decision) alreadyThere(want fleet.VersionRef) {
	d.record(want, fleet.AttemptApplied, "")
	if d.grant != nil && d.grant.State == fleet.GrantOpen {
		if d.grant.Version.Offer == want.Offer {
			d.close(fleet.GrantMet, "")
		} else {
			d.withdraw()
		}
	}
}

// restore puts the last good version back after the assigned one failed. An agent that rolled itself back has done
// that already and is not fought with; one without a last good version is flagged and left alone.
func (d *decision) restore(want fleet.VersionRef) {
	attempt := d.attempt(want)
	good := d.s.LastGood
	switch {
	case attempt.Outcome == fleet.AttemptRolledBack:
		d.withdraw()
		d.remark(fleet.AttentionRolledBack, fmt.Sprintf("%s: %s", name(want), attempt.Message))
	case d.restoreFailed():
		d.remark(fleet.AttentionRestoreFailed, fmt.Sprintf("%s failed and so did putting %s back; the agent is left alone", name(want), name(d.grant.Version)))
	case good == nil:
		d.withdraw()
		d.remark(fleet.AttentionNoLastGood, fmt.Sprintf("%s failed and there is no last good version to put back; the agent is left alone", name(want)))
	case d.blocked(*good):
		// It failed in this very step. The one before it is not part of the snapshot; look again at once.
		d.step.WakeAt = d.now
	case d.runs(*good):
		d.alreadyThere(*good)
		d.delivery.Restored = *good
	case d.s.AcceptsConfig != nil && *d.s.AcceptsConfig:
		d.open(*good, fleet.GrantRestore)
		d.delivery.Restored = *good
	}
}

// open makes v the open grant, unless it is already.
func (d *decision) open(v fleet.VersionRef, why fleet.GrantReason) {
	rollout, wave := d.under(v)
	if d.isOpen(v, why, rollout) || d.stopped(v) {
		return
	}
	d.supersede(v)
	d.grant = &fleet.Grant{
		Version: v, State: fleet.GrantOpen, Reason: why, Generation: d.nextGeneration(), OpenedAt: d.now, Seen: d.s.StatusStamp,
		Rollout: rollout, Wave: wave,
	}
	d.s.Undelivered = ""
	d.step.Grant = d.grant
	d.step.Send = true
	d.step.WakeAt = time.Time{}
	d.unremark(fleet.AttentionNoAnswer, fleet.AttentionBodyUnreadable)
	d.record(v, fleet.AttemptOffered, "")
	d.tell(fleet.EventConfigGranted, fmt.Sprintf("may get %s (%s)", name(v), why), v)
}

// isOpen reports whether v is granted for the same reason. One of another rollout is not the same until it is delivered:
// it may be stopped with that rollout.
func (d *decision) isOpen(v fleet.VersionRef, why fleet.GrantReason, rollout fleet.RolloutID) bool {
	g := d.grant
	return g != nil && g.State == fleet.GrantOpen && g.Version.Offer == v.Offer && g.Reason == why && (g.Rollout == rollout || !g.DeliveredAt.IsZero())
}

// supersede notes that the version of the open grant is not waited for any more.
func (d *decision) supersede(next fleet.VersionRef) {
	if d.grant == nil || d.grant.State != fleet.GrantOpen || d.grant.Version.Offer == next.Offer {
		return
	}
	switch d.attempt(d.grant.Version).Outcome {
	case fleet.AttemptOffered, fleet.AttemptApplying:
		d.record(d.grant.Version, fleet.AttemptSuperseded, "")
	default:
	}
}

// close settles the open grant.
func (d *decision) close(state fleet.GrantState, message string) {
	d.grant.State = state
	d.grant.Message = message
	d.grant.SettledAt = d.now
	d.grant.Generation = d.nextGeneration()
	d.step.Grant = d.grant
	d.step.Withdraw = true
	d.step.WakeAt = time.Time{}
	d.unremark(fleet.AttentionNoAnswer, fleet.AttentionBodyUnreadable)
	d.tell(fleet.EventConfigSettled, settledMessage(state, *d.grant), d.grant.Version)
}

func settledMessage(state fleet.GrantState, g fleet.Grant) string {
	text := fmt.Sprintf("%s: %s", name(g.Version), map[fleet.GrantState]string{
		fleet.GrantMet: "applied", fleet.GrantFailed: "failed", fleet.GrantClosed: "withdrawn",
	}[state])
	if g.Message != "" {
		text += ": " + g.Message
	}
	return text
}

// withdraw closes an open grant that nothing stands behind any more.
func (d *decision) withdraw() {
	if d.grant != nil && d.grant.State == fleet.GrantOpen {
		d.close(fleet.GrantClosed, "")
	}
}

// restoreFailed reports whether putting a last good version back has failed too. There is no second try further back
// in history: a person should look.
func (d *decision) restoreFailed() bool {
	return d.grant != nil && d.grant.Reason == fleet.GrantRestore && d.grant.State == fleet.GrantFailed
}

// summarise tells the whole as one word.
func (d *decision) summarise() {
	next := d.delivery
	next.State, next.Message, next.Through = d.word()
	if d.s.Assigned == nil {
		next.Desired = fleet.VersionRef{}
	} else {
		next.Desired = *d.s.Assigned
	}
	if next.State != fleet.DeliveryFailed {
		next.Restored = fleet.VersionRef{}
	}
	d.remarkState(next)
	old := d.s.Delivery
	next.Since = old.Since
	if next.State != old.State || next.Message != old.Message || next.Desired != old.Desired {
		next.Since = d.now
	}
	if next != old {
		d.step.Delivery = &next
	}
}

// Why an agent is skipped.
const (
	notAccepted = "the agent does not accept remote configuration"
	notOffered  = "the gateway may not offer it: the agent or the server's mask does not allow remote configuration"
)

// word is the delivery state with its message and where the assignment stands.
func (d *decision) word() (fleet.DeliveryState, string, string) {
	if d.s.Assigned == nil {
		return fleet.DeliveryNone, "", ""
	}
	want := *d.s.Assigned
	attempt := d.attempt(want)
	through := d.s.Through
	switch {
	case d.s.Unrendered != "":
		return fleet.DeliverySkipped, d.s.Unrendered, through
	case d.runs(want):
		return fleet.DeliveryApplied, "", through
	case attempt.Blocks() && attempt.Outcome == fleet.AttemptRolledBack:
		return fleet.DeliveryRolledBack, attempt.Message, through
	case attempt.Blocks():
		return fleet.DeliveryFailed, attempt.Message, through
	case d.s.AcceptsConfig != nil && !*d.s.AcceptsConfig:
		return fleet.DeliverySkipped, notAccepted, through
	case d.s.Held != "":
		return fleet.DeliveryPending, d.s.Held, through
	default:
		state, message := d.underWay()
		return state, message, through
	}
}

// underWay is how far the open grant is.
func (d *decision) underWay() (fleet.DeliveryState, string) {
	switch {
	case d.grant == nil || d.grant.State != fleet.GrantOpen:
		return fleet.DeliveryPending, ""
	case d.s.Undelivered == fleet.NotCapable:
		return fleet.DeliverySkipped, notOffered
	case !d.grant.ApplyingAt.IsZero():
		return fleet.DeliveryApplying, ""
	case !d.grant.SentAt.IsZero():
		return fleet.DeliverySent, ""
	default:
		return fleet.DeliveryPending, ""
	}
}

// remarkState keeps the standing remarks in step with the state.
func (d *decision) remarkState(next fleet.Delivery) {
	switch next.State {
	case fleet.DeliveryFailed:
		d.remark(fleet.AttentionConfigFailed, fmt.Sprintf("%s: %s", name(next.Desired), next.Message))
	case fleet.DeliveryRolledBack:
		d.unremark(fleet.AttentionConfigFailed)
	default:
		d.unremark(fleet.AttentionConfigFailed, fleet.AttentionNoLastGood, fleet.AttentionRestoreFailed, fleet.AttentionRolledBack)
	}
	switch {
	case d.s.Unrendered != "":
		d.unremark(fleet.AttentionNotCapable)
		d.remark(fleet.AttentionNotRendered, fmt.Sprintf("%s: %s", name(next.Desired), next.Message))
	case next.State == fleet.DeliverySkipped:
		d.unremark(fleet.AttentionNotRendered)
		d.remark(fleet.AttentionNotCapable, next.Message)
	default:
		d.unremark(fleet.AttentionNotCapable, fleet.AttentionNotRendered)
	}
	if d.s.Undelivered == fleet.BodyUnavailable {
		d.remark(fleet.AttentionBodyUnreadable, "its gateway could not read the configuration's bytes; it tries again")
	}
}

func (d *decision) finish() fleet.Step {
	if !sameAttention(d.attention, d.s.Attention) {
		d.step.Attention = &d.attention
	}
	return d.step
}

// runs reports whether the agent said that v is applied, and is not being moved away from it by an open grant.
func (d *decision) runs(v fleet.VersionRef) bool {
	return d.s.Status.State == fleet.ConfigApplied && d.reportsOn(v.Offer) && !d.attempt(v).Blocks()
}

func (d *decision) reportsOn(offer fleet.OfferHash) bool {
	return bytes.Equal(d.s.Status.LastOffer, offer[:])
}

func (d *decision) blocked(v fleet.VersionRef) bool { return d.attempt(v).Blocks() }

// attempt is the ledger's line for v, this step's own included.
func (d *decision) attempt(v fleet.VersionRef) fleet.Attempt {
	for _, a := range d.step.Attempts {
		if a.Version.Offer == v.Offer {
			return a
		}
	}
	return d.s.Attempts[v.Offer]
}

// record writes a line into the ledger if it says something new. A line that an operator cleared begins anew. A version
// that was applied once stays a good one while it is being offered again; only a failure takes that from it.
func (d *decision) record(v fleet.VersionRef, outcome fleet.AttemptOutcome, message string) {
	old := d.attempt(v)
	underway := outcome == fleet.AttemptOffered || outcome == fleet.AttemptApplying
	switch {
	case !old.ClearedAt.IsZero():
	case old.Outcome == outcome && old.Message == message:
		return
	case old.Outcome == fleet.AttemptApplied && underway:
		return
	}
	next := fleet.Attempt{Version: v, Outcome: outcome, Message: message, FirstAt: old.FirstAt, LastAt: d.now}
	if next.FirstAt.IsZero() {
		next.FirstAt = d.now
	}
	for i := range d.step.Attempts {
		if d.step.Attempts[i].Version.Offer == v.Offer {
			d.step.Attempts[i] = next
			return
		}
	}
	d.step.Attempts = append(d.step.Attempts, next)
}

// nextGeneration is one more than any generation the agent's grant has had.
func (d *decision) nextGeneration() fleet.Generation {
	if d.step.Grant != nil {
		return d.step.Grant.Generation + 1
	}
	if d.s.Grant != nil {
		return d.s.Grant.Generation + 1
	}
	return 1
}

func (d *decision) remark(reason, message string) {
	d.attention = fleet.WithAttention(d.attention, fleet.Attention{Reason: reason, Message: message, Since: d.now})
}

func (d *decision) unremark(reasons ...string) {
	d.attention = fleet.WithoutAttention(d.attention, reasons...)
}

func (d *decision) tell(kind fleet.EventKind, message string, v fleet.VersionRef) {
	d.step.Events = append(d.step.Events, fleet.Event{
		Tenant: d.s.Tenant, At: d.now, Kind: kind, Agent: d.s.Agent, Message: message,
		Attributes: map[string]string{"config": v.ConfigName, "version": fmt.Sprint(v.Version), "offer_hash": v.Offer.String()},
	})
}

func name(v fleet.VersionRef) string { return fmt.Sprintf("%s@%d", v.ConfigName, v.Version) }

func sameAttention(a, b []fleet.Attention) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Reason != b[i].Reason || a[i].Message != b[i].Message {
			return false
		}
	}
	return true
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package delivery

import "gitlab.com/ampora/ampora/control/internal/fleet"

// keep sees to an agent that is not to be moved to what is assigned for now: it keeps what it has.
func (d *decision) keep(assigned fleet.VersionRef) {
	switch had := d.had(); {
	case d.runs(assigned):
		// Whoever put it there; it is not taken away.
		d.alreadyThere(assigned)
	case d.blocked(assigned) && d.grant != nil && (d.grant.Version.Offer == assigned.Offer || d.grant.Reason == fleet.GrantRestore):
		d.restore(assigned)
	case d.isUnsent(assigned):
		d.withdraw()
	case d.grant != nil && d.grant.State == fleet.GrantOpen:
		// It was given that before, or it is on its way: its answer settles it.
	case had != nil && !had.Templated:
		d.s.Push = false
		d.move(*had)
	}
}

// had is what the agent was last given and is to have until it is let in; one that was given nothing gets what was
// assigned before. Nil: nothing.
func (d *decision) had() *fleet.VersionRef {
	switch {
	case d.grant != nil && d.grant.State == fleet.GrantMet:
		return &d.grant.Version
	case d.s.LastGood != nil && !d.blocked(*d.s.LastGood) && !d.isAssigned(*d.s.LastGood):
		return d.s.LastGood
	default:
		return d.s.Settled
	}
}

// isUnsent reports whether v is granted and nobody can have it yet.
func (d *decision) isUnsent(v fleet.VersionRef) bool {
	g := d.grant
	return g != nil && g.State == fleet.GrantOpen && g.Version.Offer == v.Offer && g.SentAt.IsZero() && g.DeliveredAt.IsZero()
}

// under is the rollout and the wave that a grant of v is opened under. Neither what is put back nor what an agent had
// before is: no pause shall take that from it.
func (d *decision) under(v fleet.VersionRef) (fleet.RolloutID, int) {
	if d.s.Member == nil || !d.s.Member.Touched() || !d.isAssigned(v) {
		return "", 0
	}
	return d.s.Member.Rollout, d.s.Member.Wave
}

// stopped reports whether v is what a rollout brings that grants nothing now. What an aborted one brought is kept, and
// given again to who lost it.
func (d *decision) stopped(v fleet.VersionRef) bool {
	if d.s.Member == nil || !d.isAssigned(v) || d.s.Under.State.Grants() {
		return false
	}
	kept := d.s.Under.State == fleet.RolloutAborted && d.grant != nil && d.grant.State == fleet.GrantMet && d.grant.Version.Offer == v.Offer
	return !kept
}

func (d *decision) isAssigned(v fleet.VersionRef) bool {
	return d.s.Assigned != nil && d.s.Assigned.Offer == v.Offer
}

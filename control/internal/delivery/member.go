// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// observe tells the agent's rollout what is seen of it there. A rollout that is over is told the last words that were
// still missing, and nothing else.
func (d *decision) observe() {
	if d.s.Member == nil || d.s.Assigned == nil || !d.s.Member.Touched() {
		return
	}
	over := d.s.Under.State.Over()
	if over && d.s.Member.Answered() {
		return
	}
	m := d.seen(*d.s.Member)
	if m.SettledAt.IsZero() && (m.Answered() || m.State == fleet.MemberSkipped) {
		m.SettledAt = d.now
	}
	m = m.Elapsed(d.s.Under.Gates, d.now)
	if over {
		m.LookAt = time.Time{}
	}
	if m != *d.s.Member {
		d.step.Member = &m
	}
}

// seen is the member with what is seen of it now.
func (d *decision) seen(m fleet.Member) fleet.Member {
	m.State, m.Reason = d.standing(m)
	if m.PushedAt.IsZero() {
		m.PushedAt = d.pushedAt(m)
	}
	m.Gone = d.gone(m)
	if m.Gone && m.State != fleet.MemberFailed && m.State != fleet.MemberSkipped {
		m.State = fleet.MemberDisconnected
	}
	m.Unhealthy = d.s.Healthy != nil && !*d.s.Healthy
	m.Mismatch = d.s.Mismatch && d.runs(*d.s.Assigned)
	return m
}

// standing is where the agent stands, whether it is there or not.
func (d *decision) standing(m fleet.Member) (fleet.MemberState, string) {
	want := *d.s.Assigned
	switch {
	case d.s.Unrendered != "":
		return fleet.MemberSkipped, d.s.Unrendered
	case d.runs(want):
		return fleet.MemberApplied, ""
	case d.blocked(want):
		return fleet.MemberFailed, d.failure(m)
	case d.s.AcceptsConfig != nil && !*d.s.AcceptsConfig:
		return fleet.MemberSkipped, notAccepted
	case d.s.Undelivered == fleet.NotCapable:
		return fleet.MemberSkipped, notOffered
	case m.State == fleet.MemberAdmitted && !d.delivered(want):
		return fleet.MemberAdmitted, ""
	case d.delivered(want) && !d.grant.ApplyingAt.IsZero():
		return fleet.MemberApplying, ""
	default:
		// An agent that answered and then lost it, or may try again, is where it was before its answer.
		return fleet.MemberPushed, ""
	}
}

// failure is the agent's words, or those of a time before it was let in.
func (d *decision) failure(m fleet.Member) string {
	a := d.attempt(*d.s.Assigned)
	if a.LastAt.Before(m.AdmittedAt) {
		return "failed before: " + a.Message
	}
	return a.Message
}

// delivered reports whether the granted version reached the agent and has no last word yet.
func (d *decision) delivered(want fleet.VersionRef) bool {
	g := d.grant
	return g != nil && g.State == fleet.GrantOpen && g.Version.Offer == want.Offer && !g.DeliveredAt.IsZero()
}

// pushedAt is from when the windows of the gates run: from the delivery, if that is not older than the rollout, or from the
// answer if none is on record. Nothing is pushed to an agent that failed before.
func (d *decision) pushedAt(m fleet.Member) time.Time {
	want := *d.s.Assigned
	for _, g := range []*fleet.Grant{d.grant, d.s.Grant} {
		if g == nil || g.Version.Offer != want.Offer || g.DeliveredAt.IsZero() {
			continue
		}
		if g.DeliveredAt.Before(m.AdmittedAt) {
			return m.AdmittedAt
		}
		return g.DeliveredAt
	}
	failedNow := m.State == fleet.MemberFailed && !d.attempt(want).LastAt.Before(m.AdmittedAt)
	if m.State == fleet.MemberApplied || failedNow {
		return d.now
	}
	return time.Time{}
}

// gone reports whether the agent went away soon after it was pushed to, and has not come back with its last word on the
// version. One that is on its way to another gateway is looked for once more.
func (d *decision) gone(m fleet.Member) bool {
	if m.PushedAt.IsZero() {
		return false
	}
	session := d.s.Session
	switch session.Presence(d.now) {
	case fleet.PresenceOffline:
		soon := !session.EndedAt.Before(m.PushedAt) && !session.EndedAt.After(m.PushedAt.Add(d.s.Under.Gates.Disconnect.Window))
		return m.Gone || soon
	case fleet.PresenceOnline:
		return m.Gone && !m.Answered()
	default:
		if session.EndReason == fleet.EndDrained && !session.EndedAt.IsZero() {
			d.wakeBy(session.EndedAt.Add(fleet.MoveGrace))
		}
		return m.Gone
	}
}

// wakeBy asks to be called at a time, or before.
func (d *decision) wakeBy(at time.Time) {
	if d.step.WakeAt.IsZero() || at.Before(d.step.WakeAt) {
		d.step.WakeAt = at
	}
}

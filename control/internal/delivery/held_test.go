// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/delivery"
	"gitlab.com/ampora/ampora/control/internal/fleet"
)

func held(s *fleet.Situation) { s.Held = "its rollout has not let it in" }

func settledOn(v fleet.VersionRef) func(*fleet.Situation) {
	return func(s *fleet.Situation) { s.Settled = &v }
}

func met(v fleet.VersionRef) func(*fleet.Situation) {
	return func(s *fleet.Situation) {
		granted(v, fleet.GrantAssigned, true)(s)
		s.Grant.State = fleet.GrantMet
		lastGood(v)(s)
	}
}

// An agent that is held keeps what it has, gets it again if it lost it, and is not moved.
func TestHeld(t *testing.T) {
	v1, v2, v3 := version(1), version(2), version(3)
	for _, c := range []struct {
		name  string
		given fleet.Situation
		grant string
		send  bool
		state fleet.DeliveryState
	}{
		{"it had nothing, and nothing was assigned before", situation(held), "", false, fleet.DeliveryPending},
		{"it had nothing: it gets what was assigned before", situation(held, settledOn(v2)), "open edge@2 assigned", true, fleet.DeliveryPending},
		{"it takes none", situation(held, settledOn(v2), func(s *fleet.Situation) { no := false; s.AcceptsConfig = &no }), "", false, fleet.DeliverySkipped},
		{"what was assigned before is a template", situation(held, settledOn(v2), func(s *fleet.Situation) { s.Settled.Templated = true }), "", false, fleet.DeliveryPending},
		{"what was assigned before failed on it", situation(held, settledOn(v2), attempted(v2, fleet.AttemptFailed)), "", false, fleet.DeliveryPending},
		{"it runs what it was given", situation(held, met(v2), says(fleet.ConfigApplied, v2, "", 2), settledOn(v3)), "", false, fleet.DeliveryPending},
		{"it lost what it was given", situation(held, met(v2), settledOn(v3)), "open edge@2 assigned", true, fleet.DeliveryPending},
		{"what it was given is on its way", situation(held, granted(v2, fleet.GrantAssigned, true)), "", false, fleet.DeliveryPending},
		{"what it was given is not sent yet", situation(held, granted(v2, fleet.GrantAssigned, false)), "", false, fleet.DeliveryPending},
		{"and is applied", situation(held, granted(v2, fleet.GrantAssigned, true), says(fleet.ConfigApplied, v2, "", 2)), "met edge@2 assigned", false, fleet.DeliveryPending},
		{"what it is not to have yet is not sent yet", situation(held, granted(v1, fleet.GrantAssigned, false)), "closed edge@1 assigned", false, fleet.DeliveryPending},
		{"what it is not to have yet is on its way", situation(held, granted(v1, fleet.GrantAssigned, true)), "", false, fleet.DeliveryPending},
		{"and fails: the last good version is put back", situation(held, granted(v1, fleet.GrantAssigned, true), lastGood(v2), says(fleet.ConfigFailed, v1, "no", 2)), "open edge@2 restore", true, fleet.DeliveryFailed},
		{"it runs what it is not to have yet", situation(held, says(fleet.ConfigApplied, v1, "", 2), settledOn(v2)), "", false, fleet.DeliveryApplied},
		{"a grant was closed: it keeps its last good version", situation(held, closed(v1), lastGood(v2), says(fleet.ConfigApplied, v2, "", 2), settledOn(v3)), "", false, fleet.DeliveryPending},
		{"a grant was closed, and it lost its last good version", situation(held, closed(v1), lastGood(v2), settledOn(v3)), "open edge@2 assigned", true, fleet.DeliveryPending},
		{"a push is wanted", situation(held, met(v2), says(fleet.ConfigApplied, v2, "", 2), pushed), "", false, fleet.DeliveryPending},
		{"it had what is assigned, and lost it", situation(held, met(v1)), "open edge@1 assigned", true, fleet.DeliveryPending},
		{"likewise, and the rollout is paused", situation(held, met(v1), member(fleet.MemberApplied), under(fleet.RolloutPaused)), "", false, fleet.DeliveryPending},
		{"likewise, and the rollout was aborted", situation(held, met(v1), member(fleet.MemberApplied), under(fleet.RolloutAborted)), "open edge@1 assigned", true, fleet.DeliveryPending},
	} {
		t.Run(c.name, func(t *testing.T) {
			step := delivery.Decide(c.given, start.Add(time.Second))
			check(t, "grant", grantText(step.Grant), c.grant)
			check(t, "send", step.Send, c.send)
			check(t, "delivery", stateOf(step.Delivery), c.state)
		})
	}
}

func closed(v fleet.VersionRef) func(*fleet.Situation) {
	return func(s *fleet.Situation) {
		granted(v, fleet.GrantAssigned, false)(s)
		s.Grant.State = fleet.GrantClosed
	}
}

// A grant that is opened for who was let in says under which rollout; what is put back does not.
func TestGrantsSayTheirRollout(t *testing.T) {
	v1, v2 := version(1), version(2)
	for _, c := range []struct {
		name  string
		given fleet.Situation
		grant string
		under fleet.RolloutID
	}{
		{"let in", situation(member(fleet.MemberAdmitted)), "open edge@1 assigned", "r"},
		{"stopped", situation(member(fleet.MemberAdmitted), under(fleet.RolloutPaused)), "", ""},
		{"stopped, and a push is wanted", situation(member(fleet.MemberApplied), under(fleet.RolloutPaused), met(v1), says(fleet.ConfigApplied, v1, "", 2), pushed), "", ""},
		{"under way by another rollout that may be stopped", situation(member(fleet.MemberAdmitted), granted(v1, fleet.GrantAssigned, false)), "open edge@1 assigned", "r"},
		{"under way by another rollout, and delivered", situation(member(fleet.MemberAdmitted), granted(v1, fleet.GrantAssigned, true)), "", ""},
		{"failed", situation(member(fleet.MemberPushed), lastGood(v2), granted(v1, fleet.GrantAssigned, true), says(fleet.ConfigFailed, v1, "no", 2)), "open edge@2 restore", ""},
		{"of its own", situation(granted(v1, fleet.GrantAssigned, false), func(s *fleet.Situation) { s.Grant.Rollout = "old" }), "open edge@1 assigned", ""},
	} {
		step := delivery.Decide(c.given, start)
		check(t, c.name+": the grant", grantText(step.Grant), c.grant)
		if step.Grant != nil {
			check(t, c.name+": its rollout", step.Grant.Rollout, c.under)
		}
	}
}

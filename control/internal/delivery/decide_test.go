// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/delivery"
	"gitlab.com/ampora/ampora/control/internal/fleet"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// version makes the n-th version of a configuration.
func version(n int) fleet.VersionRef {
	hash := fleet.HashOf([]byte{byte(n)})
	return fleet.VersionRef{
		Config: "c", ConfigName: "edge", Version: n, Hash: hash, Size: 1, Type: "text/yaml",
		Offer: fleet.Rendered(hash, 1, "text/yaml").OfferHash(),
	}
}

// situation is one of an agent that takes configurations and is assigned version 1.
func situation(edit ...func(*fleet.Situation)) fleet.Situation {
	yes, v1 := true, version(1)
	s := fleet.Situation{
		Tenant: "t", Agent: "a", Assigned: &v1, Through: "agent", AcceptsConfig: &yes,
		Attempts: map[fleet.OfferHash]fleet.Attempt{}, Delivery: fleet.Delivery{State: fleet.DeliveryNone},
	}
	for _, e := range edit {
		e(&s)
	}
	return s
}

func says(state fleet.ConfigState, v fleet.VersionRef, words string, sequence int) func(*fleet.Situation) {
	return func(s *fleet.Situation) {
		s.Status = fleet.RemoteConfigStatus{LastOffer: v.Offer[:], State: state, Error: words}
		s.StatusStamp = fleet.Stamp{Epoch: 1, Sequence: fleet.Sequence(sequence)}
	}
}

func granted(v fleet.VersionRef, reason fleet.GrantReason, delivered bool) func(*fleet.Situation) {
	return func(s *fleet.Situation) {
		s.Grant = &fleet.Grant{Version: v, State: fleet.GrantOpen, Reason: reason, Generation: 7, OpenedAt: start, Seen: fleet.Stamp{Epoch: 1, Sequence: 1}}
		if delivered {
			s.Grant.SentAt, s.Grant.DeliveredAt = start, start
		}
		s.Attempts[v.Offer] = fleet.Attempt{Version: v, Outcome: fleet.AttemptOffered, FirstAt: start, LastAt: start}
	}
}

func attempted(v fleet.VersionRef, outcome fleet.AttemptOutcome) func(*fleet.Situation) {
	return func(s *fleet.Situation) {
		s.Attempts[v.Offer] = fleet.Attempt{Version: v, Outcome: outcome, FirstAt: start, LastAt: start, Message: "as said before"}
	}
}

func lastGood(v fleet.VersionRef) func(*fleet.Situation) {
	return func(s *fleet.Situation) {
		s.LastGood = &v
		s.Attempts[v.Offer] = fleet.Attempt{Version: v, Outcome: fleet.AttemptApplied, FirstAt: start, LastAt: start}
	}
}

func pushed(s *fleet.Situation) { s.Push = true }

// What an operator wants sent once more is sent once more, to whom it may be sent.
func TestPush(t *testing.T) {
	v1, no := version(1), false
	runs := func(edit ...func(*fleet.Situation)) fleet.Situation {
		s := situation(says(fleet.ConfigApplied, v1, "", 1), attempted(v1, fleet.AttemptApplied))
		s.Delivery = fleet.Delivery{State: fleet.DeliveryApplied, Desired: v1, Through: "agent"}
		for _, e := range edit {
			e(&s)
		}
		return s
	}
	state := func(step fleet.Step) string {
		if step.Grant == nil {
			return ""
		}
		return string(step.Grant.State) + " " + string(step.Grant.Reason)
	}
	for _, c := range []struct {
		name  string
		given fleet.Situation
		want  string
		send  bool
	}{
		{"not asked for", runs(), "", false},
		{"asked for", runs(pushed), "open pushed", true},
		{"asked for while it is under way", runs(granted(v1, fleet.GrantPushed, false), pushed), "", false},
		{"not delivered: what the agent says is of before", runs(granted(v1, fleet.GrantPushed, false)), "", false},
		{"delivered, and it runs", runs(granted(v1, fleet.GrantPushed, true)), "met pushed", false},
		{"delivered, and it fails", runs(granted(v1, fleet.GrantPushed, true), says(fleet.ConfigFailed, v1, "no", 2)), "failed pushed", false},
		{"not taken by its gateway", runs(granted(v1, fleet.GrantPushed, false), func(s *fleet.Situation) { s.Undelivered = fleet.NotCapable }), "closed pushed", false},
		{"nothing is assigned", runs(pushed, func(s *fleet.Situation) { s.Assigned = nil }), "", false},
		{"it takes none", runs(pushed, func(s *fleet.Situation) { s.AcceptsConfig = &no }), "", false},
		{"it failed before", runs(pushed, attempted(v1, fleet.AttemptFailed)), "", false},
	} {
		step := delivery.Decide(c.given, start)
		if got := state(step); got != c.want || step.Send != c.send {
			t.Errorf("%s: the grant is %q, sent %v; want %q, %v", c.name, got, step.Send, c.want, c.send)
		}
		if step.Delivery != nil && step.Delivery.State == fleet.DeliveryPending {
			t.Errorf("%s: it is told as if it did not run", c.name)
		}
	}
}

func TestDecide(t *testing.T) {
	no := false
	v1, v2 := version(1), version(2)
	for _, c := range []struct {
		name      string
		given     fleet.Situation
		grant     string // "open edge@1 assigned", "met edge@1", … or "" for none
		send      bool
		withdraw  bool
		attempts  string
		state     fleet.DeliveryState // "" where the summary does not change
		attention string
		wake      bool
	}{
		{
			name:  "nothing is assigned: nothing happens",
			given: situation(func(s *fleet.Situation) { s.Assigned = nil }),
		},
		{
			name:  "the assigned version is granted and sent",
			given: situation(), grant: "open edge@1 assigned", send: true, attempts: "edge@1 offered", state: fleet.DeliveryPending,
		},
		{
			name:  "an agent that has not said what it can do waits",
			given: situation(func(s *fleet.Situation) { s.AcceptsConfig = nil }), state: fleet.DeliveryPending,
		},
		{
			name:  "an agent that takes no configuration is skipped with a reason",
			given: situation(func(s *fleet.Situation) { s.AcceptsConfig = &no }), state: fleet.DeliverySkipped, attention: "NOT_CAPABLE",
		},
		{
			name:  "an agent of which a template asks for what is not known is skipped with a reason",
			given: situation(func(s *fleet.Situation) { s.Unrendered = "the tag is not known" }), state: fleet.DeliverySkipped, attention: "NOT_RENDERED",
		},
		{
			name:  "an agent that runs it already gets nothing",
			given: situation(says(fleet.ConfigApplied, v1, "", 1)), attempts: "edge@1 applied", state: fleet.DeliveryApplied,
		},
		{
			name:  "an open grant is not opened twice",
			given: situation(granted(v1, fleet.GrantAssigned, false)), state: fleet.DeliveryPending,
		},
		{
			name:  "a delivered grant has a deadline",
			given: situation(granted(v1, fleet.GrantAssigned, true)), state: fleet.DeliverySent, wake: true,
		},
		{
			name:  "applying",
			given: situation(granted(v1, fleet.GrantAssigned, true), says(fleet.ConfigApplying, v1, "", 2)),
			grant: "open edge@1 assigned", attempts: "edge@1 applying", state: fleet.DeliveryApplying, wake: true,
		},
		{
			name:  "applied",
			given: situation(granted(v1, fleet.GrantAssigned, true), says(fleet.ConfigApplied, v1, "", 2)),
			grant: "met edge@1 assigned", withdraw: true, attempts: "edge@1 applied", state: fleet.DeliveryApplied,
		},
		{
			name:  "failed without a last good version: flagged and left alone",
			given: situation(granted(v1, fleet.GrantAssigned, true), says(fleet.ConfigFailed, v1, "no such receiver", 2)),
			grant: "failed edge@1 assigned", withdraw: true, attempts: "edge@1 failed", state: fleet.DeliveryFailed,
			attention: "CONFIG_FAILED NO_LAST_GOOD_CONFIG",
		},
		{
			name:  "failed: the last good version is put back",
			given: situation(granted(v1, fleet.GrantAssigned, true), says(fleet.ConfigFailed, v1, "no such receiver", 2), lastGood(v2)),
			grant: "open edge@2 restore", send: true, withdraw: true, attempts: "edge@1 failed", state: fleet.DeliveryFailed,
			attention: "CONFIG_FAILED",
		},
		{
			name: "the last good version itself fails: it is not put back, the one before it is looked for at once",
			given: situation(lastGood(v1), says(fleet.ConfigFailed, v1, "out of memory", 2), func(s *fleet.Situation) {
				s.Grant = &fleet.Grant{Version: v1, State: fleet.GrantMet, Reason: fleet.GrantAssigned, Generation: 7, OpenedAt: start}
			}),
			grant: "failed edge@1 assigned", withdraw: true, attempts: "edge@1 failed", state: fleet.DeliveryFailed,
			attention: "CONFIG_FAILED", wake: true,
		},
		{
			name:  "the last good version fails when it is offered again: the same",
			given: situation(granted(v1, fleet.GrantAssigned, true), lastGood(v1), says(fleet.ConfigFailed, v1, "out of memory", 2)),
			grant: "failed edge@1 assigned", withdraw: true, attempts: "edge@1 failed", state: fleet.DeliveryFailed,
			attention: "CONFIG_FAILED", wake: true,
		},
		{
			name:  "a failure said before the grant was opened is an old word",
			given: situation(granted(v1, fleet.GrantAssigned, true), says(fleet.ConfigFailed, v1, "long ago", 1)),
			state: fleet.DeliverySent, wake: true,
		},
		{
			name:  "a failure said before the offer arrived is an old word too",
			given: situation(granted(v1, fleet.GrantAssigned, false), says(fleet.ConfigFailed, v1, "long ago", 2)),
			state: fleet.DeliveryPending,
		},
		{
			name:  "the last good version is in place again",
			given: situation(attempted(v1, fleet.AttemptFailed), lastGood(v2), granted(v2, fleet.GrantRestore, true), lastGood(v2), says(fleet.ConfigApplied, v2, "", 3)),
			grant: "met edge@2 restore", withdraw: true, state: fleet.DeliveryFailed, attention: "CONFIG_FAILED",
		},
		{
			name:  "putting back fails as well: left alone",
			given: situation(attempted(v1, fleet.AttemptFailed), lastGood(v2), granted(v2, fleet.GrantRestore, true), says(fleet.ConfigFailed, v2, "also not", 3)),
			grant: "failed edge@2 restore", withdraw: true, attempts: "edge@2 failed", state: fleet.DeliveryFailed,
			attention: "CONFIG_FAILED RESTORE_FAILED",
		},
		{
			name: "an agent that goes back by itself is not fought with",
			given: situation(granted(v1, fleet.GrantAssigned, true), func(s *fleet.Situation) { s.Grant.ApplyingAt = start },
				attempted(v1, fleet.AttemptApplying), lastGood(v2), says(fleet.ConfigApplied, v2, "", 3)),
			grant: "failed edge@1 assigned", withdraw: true, attempts: "edge@1 rolled_back", state: fleet.DeliveryRolledBack, attention: "ROLLED_BACK",
		},
		{
			name:  "a version that failed is not offered again",
			given: situation(attempted(v1, fleet.AttemptFailed)), state: fleet.DeliveryFailed, attention: "CONFIG_FAILED NO_LAST_GOOD_CONFIG",
		},
		{
			name: "unless an operator says so",
			given: situation(attempted(v1, fleet.AttemptFailed), func(s *fleet.Situation) {
				a := s.Attempts[v1.Offer]
				a.ClearedAt = start
				s.Attempts[v1.Offer] = a
			}),
			grant: "open edge@1 assigned", send: true, attempts: "edge@1 offered", state: fleet.DeliveryPending,
		},
		{
			name:  "an assignment that was taken back closes its grant",
			given: situation(granted(v1, fleet.GrantAssigned, false), func(s *fleet.Situation) { s.Assigned = nil }),
			grant: "closed edge@1 assigned", withdraw: true,
		},
		{
			name:  "another assignment takes the place of the grant",
			given: situation(granted(v2, fleet.GrantAssigned, true)),
			grant: "open edge@1 assigned", send: true, attempts: "edge@2 superseded, edge@1 offered", state: fleet.DeliveryPending,
		},
		{
			name: "an agent that lost its configuration gets it again",
			given: situation(granted(v1, fleet.GrantAssigned, true), func(s *fleet.Situation) {
				s.Grant.State = fleet.GrantMet
				s.Attempts[v1.Offer] = fleet.Attempt{Version: v1, Outcome: fleet.AttemptApplied, FirstAt: start, LastAt: start}
				s.LastGood = &v1
			}),
			grant: "open edge@1 assigned", send: true, state: fleet.DeliveryPending,
		},
		{
			name: "a configuration that ran and then broke counts as failed",
			given: situation(granted(v1, fleet.GrantAssigned, true), func(s *fleet.Situation) { s.Grant.State = fleet.GrantMet },
				attempted(v1, fleet.AttemptApplied), says(fleet.ConfigFailed, v1, "died later", 9)),
			grant: "failed edge@1 assigned", withdraw: true, attempts: "edge@1 failed", state: fleet.DeliveryFailed,
			attention: "CONFIG_FAILED NO_LAST_GOOD_CONFIG",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			step := delivery.Decide(c.given, start.Add(time.Second))
			check(t, "grant", grantText(step.Grant), c.grant)
			check(t, "send", step.Send, c.send)
			check(t, "withdraw", step.Withdraw, c.withdraw)
			check(t, "attempts", attemptsText(step.Attempts), c.attempts)
			check(t, "delivery", stateOf(step.Delivery), c.state)
			check(t, "attention", attentionText(step.Attention), c.attention)
			check(t, "wake", !step.WakeAt.IsZero(), c.wake)
			if step.Grant != nil && c.given.Grant != nil && step.Grant.ApplyingAt.IsZero() && step.Grant.Generation <= c.given.Grant.Generation {
				t.Errorf("the generation did not grow: %d after %d", step.Grant.Generation, c.given.Grant.Generation)
			}
		})
	}
}

func TestSilenceIsToldToAPerson(t *testing.T) {
	s := situation(granted(version(1), fleet.GrantAssigned, true))
	step := delivery.Decide(s, start.Add(delivery.AnswerDeadline))
	check(t, "attention", attentionText(step.Attention), "NO_ANSWER")
	check(t, "grant", grantText(step.Grant), "")
	if !step.WakeAt.IsZero() {
		t.Errorf("woken again at %s: silence is told once", step.WakeAt)
	}
}

func TestAnOldFailureCountsOnceTheTimeIsOver(t *testing.T) {
	s := situation(granted(version(1), fleet.GrantAssigned, true), says(fleet.ConfigFailed, version(1), "still broken", 1))
	step := delivery.Decide(s, start.Add(delivery.AnswerDeadline))
	check(t, "grant", grantText(step.Grant), "failed edge@1 assigned")
	check(t, "attempts", attemptsText(step.Attempts), "edge@1 failed")
}

func check[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func grantText(g *fleet.Grant) string {
	if g == nil {
		return ""
	}
	return string(g.State) + " edge@" + string(rune('0'+g.Version.Version)) + " " + string(g.Reason)
}

func attemptsText(list []fleet.Attempt) string {
	var words []string
	for _, a := range list {
		words = append(words, "edge@"+string(rune('0'+a.Version.Version))+" "+string(a.Outcome))
	}
	return strings.Join(words, ", ")
}

func attentionText(list *[]fleet.Attention) string {
	if list == nil {
		return ""
	}
	var words []string
	for _, a := range *list {
		words = append(words, a.Reason)
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func stateOf(d *fleet.Delivery) fleet.DeliveryState {
	if d == nil {
		return ""
	}
	return d.State
}

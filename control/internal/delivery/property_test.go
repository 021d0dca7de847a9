// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/control/internal/delivery"
	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// world is an agent, its rows and everything that may happen between them, in any order.
type world struct {
	now      time.Time
	assigned int // version, 0 for none
	push     bool
	accepts  *bool
	unknown  bool // what the assigned version, a template, asks for
	grant    *fleet.Grant
	ledger   map[fleet.OfferHash]fleet.Attempt
	delivery fleet.Delivery
	remarks  []fleet.Attention

	// The agent: what it runs, what it says of which offer, how its story goes on.
	broken    map[int]bool // versions it cannot run
	selfHeals bool         // goes back by itself instead of saying FAILED
	runs      int
	status    fleet.RemoteConfigStatus
	stamp     fleet.Stamp
	inbox     *fleet.VersionRef // the offer on its way to it
}

const versions = 4

func (w *world) situation() fleet.Situation {
	s := fleet.Situation{
		Tenant: "t", Agent: "a", Through: "agent", AcceptsConfig: w.accepts, Status: w.status, StatusStamp: w.stamp,
		Attempts: maps.Clone(w.ledger), Delivery: w.delivery, Attention: w.remarks, Push: w.push,
	}
	if w.assigned > 0 {
		v := version(w.assigned)
		s.Assigned = &v
		if w.unknown {
			v.Templated, s.Unrendered = true, "it asks for what is not known"
		}
	}
	if w.grant != nil {
		g := *w.grant
		s.Grant = &g
	}
	var newest *fleet.Attempt // of two of one moment the lower hash, as the stores have it
	for _, a := range w.ledger {
		if a.Outcome != fleet.AttemptApplied {
			continue
		}
		if newest == nil || cmp.Or(newest.LastAt.Compare(a.LastAt), bytes.Compare(a.Version.Offer[:], newest.Version.Offer[:])) < 0 {
			newest = &a
		}
	}
	if newest != nil {
		s.LastGood = &newest.Version
	}
	return s
}

// decide takes one step and holds it against what is always true.
func (w *world) decide(t *rapid.T) {
	s := w.situation()
	step := delivery.Decide(s, w.now)
	w.apply(step)
	w.push = false
	if s.Grant != nil && step.Grant != nil && !slices.Contains(fleet.GrantTransitions[s.Grant.State], step.Grant.State) {
		t.Fatalf("a grant goes from %s to %s", s.Grant.State, step.Grant.State)
	}
	if step.Send {
		g := step.Grant
		switch {
		case g == nil || g.State != fleet.GrantOpen:
			t.Fatalf("sends without an open grant: %+v", step)
		case s.Attempts[g.Version.Offer].Blocks():
			t.Fatalf("grants edge@%d, which failed on this agent", g.Version.Version)
		case s.AcceptsConfig == nil || !*s.AcceptsConfig:
			t.Fatalf("grants to an agent that takes no configuration")
		case s.Assigned == nil:
			t.Fatalf("grants although nothing is assigned")
		case g.Version.Offer != s.Assigned.Offer && (s.LastGood == nil || g.Version.Offer != s.LastGood.Offer):
			t.Fatalf("grants edge@%d, which is neither assigned nor the last good one", g.Version.Version)
		case s.Unrendered != "" || g.Version.Templated:
			t.Fatalf("grants a template")
		case g.Version.Hash.IsZero():
			t.Fatalf("grants nothing")
		}
	}
	failed := func(e fleet.Event) bool {
		return step.Send && e.Kind == fleet.EventConfigSettled && strings.Contains(e.Message, ": failed") &&
			e.Attributes["offer_hash"] == step.Grant.Version.Offer.String()
	}
	if slices.ContainsFunc(step.Events, failed) {
		t.Fatalf("grants edge@%d in the step in which it failed", step.Grant.Version.Version)
	}
	if !step.WakeAt.IsZero() && !step.WakeAt.After(w.now) {
		w.decide(t) // it asked for it
		return
	}
	if again := delivery.Decide(w.situation(), w.now); again.Send || again.Grant != nil || len(again.Attempts) > 0 || again.Delivery != nil {
		t.Fatalf("decides again after its own step was taken:\nfirst %+v\nthen  %+v", step, again)
	}
}

func (w *world) apply(step fleet.Step) {
	if step.Grant != nil {
		g := *step.Grant
		w.grant = &g
	}
	for _, a := range step.Attempts {
		w.ledger[a.Version.Offer] = a
	}
	if step.Withdraw {
		w.inbox = nil
	}
	if step.Send {
		v := step.Grant.Version
		w.inbox = &v
	}
	if step.Delivery != nil {
		w.delivery = *step.Delivery
	}
	if step.Attention != nil {
		w.remarks = *step.Attention
	}
}

// say is a report of the agent on the newest offer it took.
func (w *world) say(state fleet.ConfigState, v fleet.VersionRef) {
	w.status = fleet.RemoteConfigStatus{LastOffer: v.Offer[:], State: state}
	if state == fleet.ConfigFailed {
		w.status.Error = "cannot run it"
	}
	w.stamp.Sequence++
}

// deliver brings the offer on its way to the agent.
func (w *world) deliver() {
	if w.inbox == nil || w.grant == nil || w.grant.State != fleet.GrantOpen {
		return
	}
	v := *w.inbox
	if w.grant.DeliveredAt.IsZero() {
		w.grant.SentAt, w.grant.DeliveredAt = w.now, w.now
	}
	if bytes.Equal(w.status.LastOffer, v.Offer[:]) && w.status.State != fleet.ConfigUnset {
		return // The stock agents say nothing to an offer of the hash they hold.
	}
	before := w.runs
	w.say(fleet.ConfigApplying, v)
	switch {
	case !w.broken[v.Version]:
		w.runs = v.Version
		w.say(fleet.ConfigApplied, v)
	case w.selfHeals && before > 0:
		w.say(fleet.ConfigApplied, version(before))
	default:
		w.say(fleet.ConfigFailed, v)
	}
}

func newWorld(t *rapid.T) *world {
	w := &world{now: start, ledger: map[fleet.OfferHash]fleet.Attempt{}, broken: map[int]bool{}, stamp: fleet.Stamp{Epoch: 1}}
	w.delivery.State = fleet.DeliveryNone
	for n := 1; n <= versions; n++ {
		w.broken[n] = rapid.Bool().Draw(t, "broken")
	}
	w.selfHeals = rapid.Bool().Draw(t, "selfHeals")
	return w
}

// TestSafety: whatever happens in whatever order, no step grants what must not be granted, and a step that was taken is
// not taken again.
func TestSafety(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"assign":   func(t *rapid.T) { w.assigned = rapid.IntRange(0, versions).Draw(t, "version") },
			"accept":   func(t *rapid.T) { b := rapid.Bool().Draw(t, "accepts"); w.accepts = &b },
			"template": func(t *rapid.T) { w.unknown = rapid.Bool().Draw(t, "unknown") },
			"push":     func(*rapid.T) { w.push = true },
			"deliver":  func(*rapid.T) { w.deliver() },
			"reassert": func(*rapid.T) { w.stamp = fleet.Stamp{Epoch: w.stamp.Epoch + 1} },
			"forget": func(*rapid.T) {
				w.status, w.runs = fleet.RemoteConfigStatus{}, 0
				w.stamp = fleet.Stamp{Epoch: w.stamp.Epoch + 1}
			},
			"die": func(*rapid.T) {
				if w.runs > 0 {
					w.say(fleet.ConfigFailed, version(w.runs))
				}
			},
			"clear": func(*rapid.T) {
				for h, a := range w.ledger {
					if a.Blocks() {
						a.ClearedAt = w.now
						w.ledger[h] = a
					}
				}
			},
			"wait": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 900).Draw(t, "seconds")) * time.Second)
			},
			"": func(t *rapid.T) { w.decide(t) },
		})
	})
}

// TestLiveness: left alone, with every offer arriving, an agent ends up with the assigned version if it can run it, and
// with a last good one, or its own words and a remark, if it cannot.
func TestLiveness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		yes := true
		w.accepts = &yes
		for range rapid.IntRange(1, 4).Draw(t, "assignments") {
			w.assigned = rapid.IntRange(1, versions).Draw(t, "version")
			w.push = rapid.Bool().Draw(t, "push")
			for range 6 {
				w.now = w.now.Add(time.Second)
				w.decide(t)
				w.deliver()
			}
			w.now = w.now.Add(delivery.AnswerDeadline)
			w.decide(t)
			w.deliver()
			w.decide(t)
			w.settled(t)
		}
	})
}

func (w *world) settled(t *rapid.T) {
	attempt := w.ledger[version(w.assigned).Offer]
	switch w.delivery.State {
	case fleet.DeliveryApplied:
		if w.runs != w.assigned {
			t.Fatalf("told applied, but the agent runs %d instead of %d", w.runs, w.assigned)
		}
	case fleet.DeliveryFailed:
		if !w.broken[w.assigned] || attempt.Outcome != fleet.AttemptFailed || len(w.remarks) == 0 {
			t.Fatalf("told failed without a failure on record and a remark: %+v %+v", attempt, w.remarks)
		}
		if runs := version(w.runs); w.runs > 0 && !bytes.Equal(w.status.LastOffer, runs.Offer[:]) {
			t.Fatalf("the last good version %d was not put back", w.runs)
		}
	case fleet.DeliveryRolledBack:
		if !w.selfHeals || !w.broken[w.assigned] {
			t.Fatalf("told rolled back by an agent that was not")
		}
	default:
		t.Fatalf("not settled: %+v, grant %+v, status %+v", w.delivery, w.grant, w.status)
	}
}

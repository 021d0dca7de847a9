// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package explore_test

import (
	"bytes"
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
)

// action is something that may happen next.
type action struct {
	name string
	do   func(*world)
}

// actions are all that may happen next.
func (w *world) actions(rules rules) []action {
	list := []action{{"rollouts are advanced", func(w *world) { w.advance(rules) }}}
	list = append(list, w.engines(rules)...)
	for i := range rules.agents {
		list = append(list, w.around(i)...)
	}
	list = append(list, w.operators(rules)...)
	if w.left.ticks > 0 {
		list = append(list, action{"time goes on", func(w *world) {
			w.left.ticks--
			w.now++
			for i := range rules.agents {
				w.rows.agents[i].due++ // a superset of those whose time has come
			}
		}})
	}
	return list
}

// engines read and apply, claim and send, or die in between. Two may have the same agent in hand: a claim runs out.
func (w *world) engines(rules rules) []action {
	var list []action
	for e, h := range w.hands[:rules.engines] {
		switch h.kind {
		case "step":
			list = append(list, action{fmt.Sprintf("engine %d applies its step for %s", e, id(h.agent)), func(w *world) { w.apply(e, rules) }})
		case "send":
			list = append(list, action{fmt.Sprintf("engine %d sends to %s", e, id(h.agent)), func(w *world) { w.send(e) }})
		default:
			list = append(list, w.idle(e, rules)...)
			continue
		}
		if w.left.crashes > 0 {
			list = append(list, action{fmt.Sprintf("engine %d dies", e), func(w *world) {
				w.left.crashes--
				w.hands[e] = hand{}
			}})
		}
	}
	return list
}

func (w *world) idle(e int, rules rules) []action {
	if e == 1 && w.hands[0].kind == "" {
		return nil // they are alike
	}
	var list []action
	for i := range rules.agents {
		r := w.rows.agents[i]
		if r.due > r.done {
			list = append(list, action{fmt.Sprintf("engine %d reads %s", e, id(i)), func(w *world) { w.read(e, i) }})
		}
		if r.outbox && r.grant.State == fleet.GrantOpen && r.sends == r.grant.Generation && (rules.unchecked || w.sendable(r.grant)) && w.agent[i].online {
			list = append(list, action{fmt.Sprintf("engine %d claims the offer to %s", e, id(i)), func(w *world) { w.claim(e, i) }})
		}
	}
	return list
}

// sendable is what the outbox asks before it claims: a rollout that is stopped parks what it granted.
func (w *world) sendable(g fleet.Grant) bool { return g.Rollout == "" || w.rows.rollout.State.Grants() }

func (w *world) claim(e, i int) {
	r := &w.rows.agents[i]
	if r.grant.Rollout != "" && !w.rows.rollout.State.Grants() {
		w.fail("an offer to %s is claimed under a rollout that is %s", id(i), w.rows.rollout.State)
	}
	if r.attempts[r.grant.Version.Version-1].Blocks() {
		w.fail("what failed on %s is offered to it again", id(i))
	}
	r.tries = 1
	w.hands[e] = hand{kind: "send", agent: i, generation: r.grant.Generation}
	w.hands[e].step.Grant = &fleet.Grant{Version: r.grant.Version}
}

// send brings an offer onto the way, and notes that it did.
func (w *world) send(e int) {
	h := w.hands[e]
	w.hands[e] = hand{}
	r, a := &w.rows.agents[h.agent], &w.agent[h.agent]
	if r.grant.Generation == h.generation {
		r.grant.SentAt = w.at()
		r.outbox = false
	}
	if a.online && h.generation > a.offer { // a gateway takes no older one than it had
		a.offered, a.offer, a.offerOf = true, h.generation, h.step.Grant.Version.Version
	}
}

// around is what happens at one agent and on the way from it.
func (w *world) around(i int) []action {
	var list []action
	add := func(name string, do func(w *world, a *agent, r *row)) {
		list = append(list, action{fmt.Sprintf(name, id(i)), func(w *world) { do(w, &w.agent[i], &w.rows.agents[i]) }})
	}
	a := w.agent[i]
	if a.offered {
		add("%s takes its offer", func(_ *world, a *agent, _ *row) { a.take() })
	}
	if a.tells {
		add("it is recorded that %s was written to", func(w *world, a *agent, r *row) { w.recordDelivery(a, r) })
	}
	if a.says {
		add("%s is heard", func(w *world, a *agent, r *row) {
			a.says = false
			w.record(r, a.status, a.stamp)
		})
		if w.left.duplicates > 0 && !a.again {
			add("%s is heard, and its word comes again later", func(w *world, a *agent, r *row) {
				w.left.duplicates--
				a.says, a.again, a.old, a.oldStamp = false, true, a.status, a.stamp
				w.record(r, a.status, a.stamp)
			})
		}
	}
	if a.again {
		add("an old word of %s comes again", func(w *world, a *agent, r *row) {
			a.again = false
			w.record(r, a.old, a.oldStamp)
		})
	}
	if a.online && w.left.leaves > 0 {
		add("%s goes away", func(w *world, a *agent, r *row) { w.leave(a, r) })
	}
	if !a.online {
		add("%s comes back", func(w *world, a *agent, r *row) { w.comeBack(a, r) })
	}
	return list
}

// take is the agent's answer to an offer. It says nothing to one of the version that it spoke of last.
func (a *agent) take() {
	a.offered, a.tells, a.delivered = false, true, a.offer
	v := []fleet.VersionRef{former, target}[a.offerOf-1]
	if bytes.Equal(a.status.LastOffer, v.Offer[:]) {
		return
	}
	a.status = fleet.RemoteConfigStatus{LastOffer: v.Offer[:], State: fleet.ConfigApplied}
	if v.Version == 2 && a.broken {
		a.status.State, a.status.Error = fleet.ConfigFailed, "cannot run it"
	} else {
		a.runs = v.Version
	}
	a.says = true
	a.stamp.Sequence++
}

func (w *world) recordDelivery(a *agent, r *row) {
	a.tells = false
	if r.grant.Generation == a.delivered && r.grant.DeliveredAt.IsZero() {
		r.grant.SentAt, r.grant.DeliveredAt = w.at(), w.at()
		r.due++
	}
}

// record takes a word that is newer than what is known.
func (w *world) record(r *row, status fleet.RemoteConfigStatus, stamp fleet.Stamp) {
	if stamp.After(r.stamp) {
		r.status, r.stamp = status, stamp
		r.due++
	}
}

func (w *world) leave(a *agent, r *row) {
	w.left.leaves--
	a.online, a.offered, a.says = false, false, false
	r.session.EndedAt, r.session.EndReason = w.at(), "CLOSED"
	r.due++
}

// comeBack is a new session, in which the agent says all of itself. An offer that it did not take it does not know.
func (w *world) comeBack(a *agent, r *row) {
	a.online, a.says = true, true
	a.stamp = fleet.Stamp{Epoch: a.stamp.Epoch + 1, Sequence: 1}
	r.session = fleet.Session{Epoch: a.stamp.Epoch, GatewayLeaseUntil: start.Add(24 * time.Hour)}
	if r.grant.State == fleet.GrantOpen && r.grant.DeliveredAt.IsZero() {
		r.outbox, r.sends = true, r.grant.Generation // who connects gets what is open
	}
	r.due++
}

// operators pause, resume, accept and abort.
func (w *world) operators(rules rules) []action {
	if w.left.operator == 0 {
		return nil
	}
	var list []action
	for _, act := range []struct {
		name string
		of   func(fleet.RolloutSnapshot) (fleet.RolloutStep, error)
	}{
		{"an operator pauses", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) { return rollout.Pause(s, "", w.at()) }},
		{"an operator resumes", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) { return rollout.Resume(s, false, w.at()) }},
		{"an operator resumes and accepts", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) { return rollout.Resume(s, true, w.at()) }},
		{"an operator advances", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) { return rollout.Advance(s, w.at()) }},
		{"an operator aborts", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) { return rollout.Abort(s, "", w.at()) }},
	} {
		step, err := act.of(w.snapshot(rules.agents))
		if err != nil {
			continue
		}
		list = append(list, action{act.name, func(w *world) {
			w.left.operator--
			w.take(step, rules.agents)
			if step.Rollout.State == fleet.RolloutInProgress {
				for i := range rules.agents {
					w.rows.agents[i].due++
				}
			}
		}})
	}
	return list
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package explore_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// found is what a search came to.
type found struct {
	states, steps, depth int
	// whole says that there was nothing left to try.
	whole bool
	// broken is what must not be, and how it comes to that; empty: nothing was found.
	broken string
	path   []string
	ends   map[fleet.RolloutState]int
}

func (f found) String() string {
	bound := "everything was tried"
	if !f.whole {
		bound = "the bound of states was reached"
	}
	return fmt.Sprintf("%d states, %d steps, %d deep: %s; states of the rollout %v", f.states, f.steps, f.depth, bound, f.ends)
}

// explore tries everything out, nearest first, until so many states were seen.
func explore(rules rules, first []world, bound int) found {
	type seen struct {
		from int
		name string
	}
	f := found{ends: map[fleet.RolloutState]int{}}
	known := map[[16]byte]int{}
	var history []seen
	type place struct {
		world
		number int
	}
	var layer []place
	meet := func(w world, from int, name string) *place {
		k := w.key(rules.agents)
		if _, is := known[k]; is && w.broken == "" {
			return nil
		}
		known[k] = len(history)
		history = append(history, seen{from, name})
		f.ends[w.rows.rollout.State]++
		return &place{w, len(history) - 1}
	}
	for _, w := range first {
		layer = append(layer, *meet(w, -1, "the rollout is started"))
	}
	for ; len(layer) > 0 && len(history) < bound; f.depth++ {
		var below []place
		for _, at := range layer {
			for _, a := range at.actions(rules) {
				w := at.world
				a.do(&w)
				w.drop(rules)
				w.check(rules.agents)
				f.steps++
				p := meet(w, at.number, a.name)
				switch {
				case p == nil:
				case w.broken != "":
					f.states, f.broken = len(history), w.broken
					for n := p.number; n >= 0; n = history[n].from {
						f.path = append(f.path, history[n].name)
					}
					slices.Reverse(f.path)
					return f
				default:
					below = append(below, *p)
				}
			}
		}
		layer = below
	}
	f.states, f.whole = len(history), len(layer) == 0
	return f
}

// check holds a world against what is always true of rows.
func (w *world) check(n int) {
	var sum [3]fleet.Counts
	for i := range n {
		r := w.rows.agents[i]
		sum[r.member.Wave] = sum[r.member.Wave].Plus(fleet.Tally(r.member))
		ours := r.grant.Rollout == "r" && r.grant.State == fleet.GrantOpen
		if ours && !w.rows.rollout.State.Grants() && r.tries == 0 && r.grant.SentAt.IsZero() {
			w.fail("the grant of %s is open and not claimed under a rollout that is %s", id(i), w.rows.rollout.State)
		}
		if r.member.Wave > w.rows.rollout.Wave && r.member.Touched() {
			w.fail("%s is let in before its wave", id(i))
		}
	}
	if sum != w.rows.waves {
		w.fail("the counts are not those of the members")
	}
}

// key tells worlds apart, by all that can matter to what happens next: of numbers that only grow, whether they are the
// present ones.
func (w *world) key(n int) [16]byte {
	var k encoder
	r := w.rows.rollout
	k.add(r.State, r.Wave, at(r.FilledAt), w.now, w.left, r.Accepted.Wave, r.Accepted.OfWave, r.Accepted.SoFar)
	for i := range n {
		w.rows.agents[i].encode(&k)
		a := w.agent[i]
		g := w.rows.agents[i].grant.Generation
		k.add(a.broken, a.online, a.runs, a.offered, cmp.Compare(a.offer, g), a.offerOf, a.tells, a.delivered == g, a.says, a.again)
		k.status(a.status)
		k.status(a.old)
		k.add(a.stamp.After(w.rows.agents[i].stamp), a.oldStamp.After(w.rows.agents[i].stamp))
	}
	hands := []string{w.hand(0), w.hand(1)}
	slices.Sort(hands) // the engines are alike
	k.add(hands)
	sum := sha256.Sum256(k.Bytes())
	return [16]byte(sum[:16])
}

func (r row) encode(k *encoder) {
	k.member(r.member)
	g := r.grant
	k.grant(g)
	k.add(at(g.SentAt), at(g.DeliveredAt), r.stamp.After(g.Seen), r.attempts[0].Outcome, r.attempts[1].Outcome, at(r.attempts[1].LastAt))
	k.status(r.status)
	k.add(at(r.session.EndedAt), r.due > r.done, r.outbox, r.sends == g.Generation, r.tries)
}

func (w *world) hand(e int) string {
	h := w.hands[e]
	if h.kind == "" {
		return ""
	}
	var k encoder
	r := w.rows.agents[h.agent]
	k.add(h.kind, h.agent, h.generation == r.grant.Generation)
	if h.kind == "send" {
		k.add(cmp.Compare(h.generation, w.agent[h.agent].offer), h.step.Grant.Version.Version)
		return k.String()
	}
	moved := h.under.State != w.rows.rollout.State || h.under.Generation != w.rows.rollout.Generation
	k.add(h.revision == r.member.Revision, moved, h.due == r.due, h.step.Send, h.step.Withdraw)
	if h.step.Grant != nil {
		k.grant(*h.step.Grant)
	}
	if h.step.Member != nil {
		k.member(*h.step.Member)
	}
	for _, a := range h.step.Attempts {
		k.add(a.Version.Version, a.Outcome)
	}
	return k.String()
}

// encoder writes values one after the other.
type encoder struct{ bytes.Buffer }

func (k *encoder) add(values ...any) {
	for _, v := range values {
		switch v := v.(type) {
		case bool:
			k.WriteByte(map[bool]byte{false: '-', true: '+'}[v])
		case int:
			k.WriteByte(byte(v + 'a'))
		case fleet.RolloutState:
			k.WriteString(string(v))
		case fleet.AttemptOutcome:
			k.WriteString(string(v))
		default:
			fmt.Fprintf(k, "%v", v)
		}
		k.WriteByte(0)
	}
}

func (k *encoder) member(m fleet.Member) {
	k.WriteString(string(m.State))
	k.add(at(m.AdmittedAt), at(m.PushedAt), at(m.DeadlineAt), at(m.LookAt), m.Gone, m.Overdue, m.HealthCounts, m.SettledAt.IsZero())
}

func (k *encoder) grant(g fleet.Grant) {
	k.WriteString(string(g.State))
	k.WriteString(string(g.Reason))
	k.add(g.Version.Version, g.Rollout == "")
}

func (k *encoder) status(s fleet.RemoteConfigStatus) {
	k.add(bytes.Equal(s.LastOffer, target.Offer[:]), string(s.State))
}

// at is a time in ticks, from 1; 0: none.
func at(t time.Time) int {
	if t.IsZero() {
		return 0
	}
	return int(t.Sub(start)/tick) + 1
}

func (f found) trace() string { return strings.Join(f.path, "\n  ") }

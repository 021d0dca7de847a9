// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// rolloutsAtOnce is what holds of rollouts when many do it at once.
var rolloutsAtOnce = suite{
	"a rollout is advanced by one of many":                               advanceAtOnce,
	"nothing is granted or sent once a rollout was closed":               closeAtOnce,
	"counts are the sum of the members, whatever is done at once":        countAtOnce,
	"no word of an agent is lost between a look and the rollout's sleep": lookAtOnce,
}

func advanceAtOnce(w *world) {
	v := w.version("one")
	for i := range 3 {
		g, agents := w.groupOf(i + 1)
		w.start(w.planned(g, v, agents))
	}
	advanced := atOnce(w, racers, func(int) (int, error) {
		return w.AdvanceRollouts(w.Context(), w.now, 100, store.Deciding{Elapse: unchanged, Decide: resting})
	})
	all := w.advance(resting) // those that all passed over
	for _, n := range advanced {
		all += n
	}
	if all != 3 {
		w.Errorf("%d times a rollout was advanced, of 3: %v", all, advanced)
	}
}

// closeAtOnce lets engines grant and senders send while somebody pauses the rollout, over and over.
func closeAtOnce(w *world) {
	g, _, agents := w.connectedTo(12)
	r := w.rolling(g, w.version("one"), agents)
	for round := range 12 {
		w.pass(time.Minute)
		var paused atomic.Bool
		var mu sync.Mutex
		var late []any
		_, failures := race(5, func(i int) (any, error) {
			switch i {
			case 0:
				time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
				_, err := w.steer(r.ID, becoming(fleet.RolloutPaused, true))
				paused.Store(true)
				return nil, err
			case 1, 2:
				return nil, w.grantUntil(&paused, &mu, &late)
			default:
				return nil, w.sendUntil(&paused, &mu, &late)
			}
		})
		for _, err := range failures {
			w.Fatal(err)
		}
		if len(late) > 0 {
			w.Fatalf("round %d: done after the close: %v", round, late)
		}
		w.wantClosed(r.ID, agents)
		w.wantCounted(r.ID)
		w.answerAll(agents)
		w.steered(r.ID, func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
			step := becoming(fleet.RolloutInProgress, false)(s, now)
			step.WakeAt = now
			return step
		})
		w.advance(admitting)
	}
}

// grantUntil grants who is due, until the rollout was closed; what it grants that it began after that is late.
func (w *world) grantUntil(closed *atomic.Bool, mu *sync.Mutex, late *[]any) error {
	for last := false; !last; {
		last = closed.Load()
		items, err := w.ClaimWork(w.Context(), w.now, w.now.Add(time.Second), 3)
		if err != nil {
			return err
		}
		for _, item := range items {
			on, err := w.Situations(w.Context(), w.tenant, []fleet.AgentID{item.Agent}, nil)
			if err != nil {
				return err
			}
			if on[0].Held != "" || on[0].Grant != nil && on[0].Grant.State == fleet.GrantOpen {
				continue
			}
			begun := closed.Load()
			switch err := w.do(item, on[0], w.granted(on[0])); {
			case err == nil && begun:
				mu.Lock()
				*late = append(*late, "granted", item.Agent)
				mu.Unlock()
			case err != nil && !errors.Is(err, store.ErrConflict):
				return err
			}
		}
	}
	return nil
}

// sendUntil claims what is due to be sent, until the rollout was closed; what it claims after that is late.
func (w *world) sendUntil(closed *atomic.Bool, mu *sync.Mutex, late *[]any) error {
	for last := false; !last; {
		last = closed.Load()
		due, err := w.ClaimDispatches(w.Context(), w.now, w.now.Add(time.Second), 2)
		if err != nil {
			return err
		}
		if last && len(due) > 0 {
			mu.Lock()
			*late = append(*late, "sent", due)
			mu.Unlock()
		}
	}
	return nil
}

// wantClosed fails unless each member was sent what it is granted, or is pending and has nothing.
func (w *world) wantClosed(id fleet.RolloutID, agents []fleet.AgentID) {
	w.Helper()
	w.pass(time.Second)
	if due := w.dispatches(); len(due) > 0 {
		w.Errorf("sent is %+v", due)
	}
	states := map[fleet.AgentID]fleet.MemberState{}
	for _, m := range w.membersOf(id, fleet.MemberFilter{}) {
		states[m.Agent] = m.State
	}
	for _, agent := range agents {
		s := w.situationOf(agent)
		open := s.Grant != nil && s.Grant.State == fleet.GrantOpen
		if states[agent] == fleet.MemberPending && open || states[agent] == fleet.MemberAdmitted && !open {
			w.Errorf("the grant of %s, which is %s, is %+v", agent, states[agent], s.Grant)
		}
	}
}

// answerAll settles open grants, as withdrawn, so that all can be granted anew.
func (w *world) answerAll(agents []fleet.AgentID) {
	w.Helper()
	for _, agent := range agents {
		_, err := w.ClearAttempts(w.Context(), w.by(), agent)
		w.must(err)
	}
	for _, item := range w.work() {
		on, step := w.situation(item), fleet.Step{}
		if on.Grant != nil && on.Grant.State == fleet.GrantOpen {
			g := *on.Grant
			g.State, g.Generation, g.SettledAt = fleet.GrantClosed, g.Generation+1, w.now
			step = fleet.Step{Grant: &g, Withdraw: true, WakeAt: w.now}
		}
		w.must(w.do(item, on, step))
	}
}

// countAtOnce does many things to a rollout and its members at once, by chance.
func countAtOnce(w *world) {
	g, _, agents := w.connectedTo(16)
	r := w.rolling(g, w.version("one"), agents[:8], agents[8:])
	w.pass(time.Minute)
	_, failures := race(racers, func(i int) (any, error) {
		for n := range 15 {
			if err := w.disturb(r.ID, agents, i, n); err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrState) && !errors.Is(err, store.ErrContended) {
				return nil, err
			}
		}
		return nil, nil
	})
	for _, err := range failures {
		w.Error(err)
	}
	w.wantCounted(r.ID)
}

// disturb does one of many things.
func (w *world) disturb(id fleet.RolloutID, agents []fleet.AgentID, who, n int) error {
	switch who % 4 {
	case 0:
		_, err := w.steer(id, func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
			if s.Rollout.State == fleet.RolloutPaused {
				return becoming(fleet.RolloutInProgress, false)(s, now)
			}
			return becoming(fleet.RolloutPaused, true)(s, now)
		})
		return err
	case 1:
		_, err := w.AdvanceRollouts(w.Context(), w.now, 10, store.Deciding{Elapse: unchanged, Decide: func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
			step := admitting(s, now)
			step.WakeAt = now
			return step
		}})
		return err
	case 2:
		return w.lookAtSome(agents)
	default:
		if n > 4 {
			return w.lookAtSome(agents)
		}
		_, err := w.RemoveGroupMembers(w.Context(), w.by(), w.rollout(id).Definition.Group, []fleet.AgentID{agents[rand.IntN(len(agents))]})
		return err
	}
}

// lookAtSome lets the engine see anything at all of some agents.
func (w *world) lookAtSome(agents []fleet.AgentID) error {
	if _, err := w.ClearAttempts(w.Context(), w.by(), agents[rand.IntN(len(agents))]); err != nil {
		return err
	}
	items, err := w.ClaimWork(w.Context(), w.now, w.now.Add(time.Second), 4)
	if err != nil || len(items) == 0 {
		return err
	}
	some := make([]fleet.AgentID, len(items))
	for i, item := range items {
		some[i] = item.Agent
	}
	on, err := w.Situations(w.Context(), w.tenant, some, nil)
	if err != nil {
		return err
	}
	decided := make([]store.Decision, len(items))
	for i, item := range items {
		decided[i] = store.Decision{Item: item, On: on[i]}
		if m := on[i].Member; m != nil && m.Touched() {
			is := *m
			to := fleet.MemberTransitions[m.State]
			is.State = to[rand.IntN(len(to))]
			if is.State == fleet.MemberPending {
				is.State = m.State
			}
			is.Unhealthy, is.Gone, is.HealthCounts = rand.IntN(2) == 0, rand.IntN(2) == 0, rand.IntN(2) == 0
			decided[i].Step.Member = &is
		}
	}
	_, err = w.Apply(w.Context(), w.tenant, decided, w.now)
	return err
}

// lookAtOnce lets one agent after the other answer while the rollout is looked at, and sleeps after each look.
func lookAtOnce(w *world) {
	g, _, agents := w.connectedTo(8)
	r := w.rolling(g, w.version("one"), agents)
	w.woken()
	w.pass(time.Minute)
	var saw atomic.Int64
	var done atomic.Bool
	look := func() error {
		_, err := w.AdvanceRollouts(w.Context(), w.now, 10, store.Deciding{Elapse: unchanged, Decide: func(s fleet.RolloutSnapshot, _ time.Time) fleet.RolloutStep {
			saw.Store(int64(s.Wave.Applied))
			return fleet.RolloutStep{}
		}})
		return err
	}
	_, failures := race(3, func(i int) (any, error) {
		if i > 0 {
			for !done.Load() {
				if err := look(); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}
		defer done.Store(true)
		for _, agent := range agents {
			if err := w.seen(agent, func(m *fleet.Member) { m.State, m.SettledAt = fleet.MemberApplied, w.now }); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	for _, err := range failures {
		w.Error(err)
	}
	w.must(look())
	if saw.Load() != int64(len(agents)) {
		w.Errorf("seen last were %d answers of %d, and rollout %s is not due", saw.Load(), len(agents), r.ID)
	}
}

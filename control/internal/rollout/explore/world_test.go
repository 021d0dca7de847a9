// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package explore_test tries out, one after the other, everything that may happen to a small rollout: what decides is the
// real code and the real tables, around it is a small model of the store, the outbox and the agents.
package explore_test

import (
	"fmt"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/delivery"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
)

const (
	most = 3               // agents
	tick = 5 * time.Minute // how far the clock goes at once
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// version makes the former and the new version.
func version(n int) fleet.VersionRef {
	hash := fleet.HashOf([]byte{byte(n)})
	return fleet.VersionRef{
		Config: "c", ConfigName: "edge", Version: n, Hash: hash, Size: 1, Type: "text/yaml",
		Offer: fleet.Rendered(hash, 1, "text/yaml").OfferHash(),
	}
}

var former, target = version(1), version(2)

// world is all there is: rows, what engines have in hand, what is on its way, and agents. It is copied to go on from.
type world struct {
	now  int // ticks
	rows rows
	// hands are the engines.
	hands [2]hand
	agent [most]agent
	// left is how often what nobody wants may still happen.
	left faults
	// broken is the first thing found that must not be.
	broken string
}

// faults are numbers of things that may happen.
type faults struct {
	operator, crashes, duplicates, leaves, ticks int8
}

// rows are the database.
type rows struct {
	rollout fleet.Rollout
	waves   [3]fleet.Counts // 1 and 2
	agents  [most]row
}

// row is what the database has of one agent.
type row struct {
	member    fleet.Member
	grant     fleet.Grant
	attempts  [2]fleet.Attempt // of the former and the new version
	status    fleet.RemoteConfigStatus
	stamp     fleet.Stamp
	session   fleet.Session
	due, done int // versions of its item
	// outbox: an offer of this generation is to be sent, and was claimed so often.
	outbox bool
	sends  fleet.Generation
	tries  int
}

// hand is what an engine has read or claimed, and not yet done.
type hand struct {
	kind  string // "", "step" or "send"
	agent int
	step  fleet.Step
	// What the step was decided on.
	generation fleet.Generation
	revision   int64
	under      fleet.Under
	due        int
}

// agent is a real one.
type agent struct {
	broken bool // cannot run the new version
	online bool
	runs   int
	// offer on its way to it, and its words on their way up: of the delivery, and of what it runs.
	offer     fleet.Generation
	offerOf   int // version
	offered   bool
	delivered fleet.Generation
	tells     bool
	status    fleet.RemoteConfigStatus
	stamp     fleet.Stamp
	says      bool
	// old is a word that was said twice: it comes once more, late.
	old      fleet.RemoteConfigStatus
	oldStamp fleet.Stamp
	again    bool
}

// rules are what is tried out; a test puts a mistake into one of them to see that it is found.
type rules struct {
	agents, engines int
	// decide is rollout.Decide.
	decide func(fleet.RolloutSnapshot, time.Time) fleet.RolloutStep
	// unguarded leaves out the check of the rollout's generation when a grant is opened, unchecked that of its state when an
	// offer is claimed.
	unguarded, unchecked bool
}

func (w *world) at() time.Time { return start.Add(time.Duration(w.now) * tick) }

func (w *world) fail(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

// newWorld is a rollout that was started: the first agent is in wave 1, the others in wave 2; all run the former version.
func newWorld(n int, broken []int, left faults) world {
	gates := fleet.DefaultGates()
	gates.Mismatch.Off, gates.Unhealthy.Off = true, true
	w := world{left: left}
	w.rows.rollout = fleet.Rollout{
		Tenant: "t", ID: "r", Kind: fleet.RolloutForward, State: fleet.RolloutInProgress, Generation: 1, Version: 1,
		Plan: fleet.RolloutPlan{Agents: n, Waves: []fleet.PlanWave{{Agents: 1}, {Agents: n - 1}}},
		Definition: fleet.RolloutDefinition{
			Group: "g", Config: "c", ConfigName: "edge", Version: 2, Gates: gates, Deadline: 2 * tick, Advance: fleet.AdvanceAutomatic,
			Strategy: fleet.Strategy{Kind: fleet.StrategyBatch, Size: 1},
		},
	}
	for i := range n {
		status := fleet.RemoteConfigStatus{LastOffer: former.Offer[:], State: fleet.ConfigApplied}
		stamp := fleet.Stamp{Epoch: 1, Sequence: 1}
		w.rows.agents[i] = row{
			member:   fleet.Member{Rollout: "r", Agent: id(i), Wave: min(i+1, 2), Position: i + 1, State: fleet.MemberPending},
			grant:    fleet.Grant{Version: former, State: fleet.GrantMet, Reason: fleet.GrantAssigned, Generation: 1},
			attempts: [2]fleet.Attempt{{Version: former, Outcome: fleet.AttemptApplied, FirstAt: start, LastAt: start}},
			status:   status, stamp: stamp,
			session: fleet.Session{Epoch: 1, GatewayLeaseUntil: start.Add(24 * time.Hour)},
		}
		w.agent[i] = agent{broken: slices.Contains(broken, i), online: true, runs: 1, status: status, stamp: stamp}
		w.count(i, fleet.Counts{}, fleet.Tally(w.rows.agents[i].member))
	}
	return w
}

func id(i int) fleet.AgentID { return fleet.AgentID(rune('a' + i)) }

// count keeps the counts of waves as the stores do: by what a member counted for and counts for.
func (w *world) count(i int, was, is fleet.Counts) {
	wave := &w.rows.waves[w.rows.agents[i].member.Wave]
	*wave = wave.Plus(is).Minus(was)
}

// put writes a member; its rollout is looked at.
func (w *world) put(i int, m fleet.Member) {
	was := w.rows.agents[i].member
	if was.State != m.State && !slices.Contains(fleet.MemberTransitions[was.State], m.State) {
		w.fail("member %s goes from %s to %s", id(i), was.State, m.State)
	}
	m.Revision = was.Revision + 1
	w.rows.agents[i].member = m
	w.count(i, fleet.Tally(was), fleet.Tally(m))
}

// grant writes a grant.
func (w *world) grant(i int, g fleet.Grant) {
	was := w.rows.agents[i].grant
	if g.Generation != was.Generation && !slices.Contains(fleet.GrantTransitions[was.State], g.State) {
		w.fail("grant of %s goes from %s to %s", id(i), was.State, g.State)
	}
	if g.Generation == was.Generation {
		g.SentAt, g.DeliveredAt = was.SentAt, was.DeliveredAt
	}
	w.rows.agents[i].grant = g
}

// held is what the stores say of an agent of the group.
func (w *world) held(i int) string {
	r := w.rows.agents[i]
	mine := r.grant.State == fleet.GrantOpen && r.grant.Version.Offer == target.Offer
	switch {
	case !r.member.Touched():
		return "its rollout has not let it in"
	case !w.rows.rollout.State.Grants() && !mine:
		return "its rollout is stopped"
	default:
		return ""
	}
}

func (w *world) situation(i int) fleet.Situation {
	yes, r := true, w.rows.agents[i]
	g, m, want, settled := r.grant, r.member, target, former
	s := fleet.Situation{
		Tenant: "t", Agent: id(i), Assigned: &want, Through: "group", Held: w.held(i), Settled: &settled, Member: &m,
		Under: fleet.Under{State: w.rows.rollout.State, Generation: w.rows.rollout.Generation, Gates: w.rows.rollout.Definition.Gates},
		Grant: &g, Status: r.status, StatusStamp: r.stamp, AcceptsConfig: &yes, Session: r.session,
		Attempts: map[fleet.OfferHash]fleet.Attempt{},
	}
	for _, a := range r.attempts {
		if !a.FirstAt.IsZero() {
			s.Attempts[a.Version.Offer] = a
		}
	}
	for _, a := range r.attempts { // the new one, if it was applied, was so last
		if a.Outcome == fleet.AttemptApplied {
			v := a.Version
			s.LastGood = &v
		}
	}
	return s
}

// read is an engine's first half: it reads an agent that is due, and decides.
func (w *world) read(e, i int) {
	s, r := w.situation(i), w.rows.agents[i]
	step := delivery.Decide(s, w.at())
	if step.Grant == nil && step.Member == nil && step.Attempts == nil {
		w.rows.agents[i].done = r.due // nothing that could come too late
		return
	}
	w.hands[e] = hand{
		kind: "step", agent: i, step: step, generation: r.grant.Generation, revision: r.member.Revision, under: s.Under, due: r.due,
	}
}

// stale says that the guards will not let a step pass any more: what they compare with only grows.
func (w *world) stale(h hand, rules rules) bool {
	r, under := w.rows.agents[h.agent], w.rows.rollout
	moved := h.under.State != under.State || h.under.Generation != under.Generation
	return h.generation != r.grant.Generation || h.step.Member != nil && h.revision != r.member.Revision || h.step.Send && moved && !rules.unguarded
}

// drop empties the hands of what is stale: applying it would do nothing. So there is less to try.
func (w *world) drop(rules rules) {
	for e, h := range w.hands {
		if h.kind == "step" && w.stale(h, rules) {
			w.hands[e] = hand{}
		}
	}
}

// apply is its second half: guarded writes. What was decided on something else by now is not done, and decided again.
func (w *world) apply(e int, rules rules) {
	h := w.hands[e]
	w.hands[e] = hand{}
	i, step := h.agent, h.step
	r := &w.rows.agents[i]
	if w.stale(h, rules) {
		return
	}
	if h.due == r.due {
		r.done = h.due
	}
	if step.Send {
		w.opens(i, *step.Grant)
	}
	if step.Grant != nil {
		w.grant(i, *step.Grant)
	}
	for _, a := range step.Attempts {
		r.attempts[a.Version.Version-1] = a
	}
	if step.Withdraw {
		r.outbox = false
	}
	if step.Send {
		r.outbox, r.sends, r.tries = true, step.Grant.Generation, 0
	}
	if step.Member != nil {
		w.put(i, *step.Member)
	}
}

// opens holds a grant that is opened against what is always true.
func (w *world) opens(i int, g fleet.Grant) {
	r := w.rows.agents[i]
	if g.Version.Offer != target.Offer {
		return
	}
	switch {
	case !w.rows.rollout.State.Grants():
		w.fail("the new version is granted to %s under a rollout that is %s", id(i), w.rows.rollout.State)
	case !r.member.Touched() || r.member.Wave > w.rows.rollout.Wave:
		w.fail("the new version is granted to %s, which is not let in", id(i))
	case r.attempts[1].Blocks():
		w.fail("the new version is granted to %s, on which it failed", id(i))
	case g.Rollout != "r":
		w.fail("the new version is granted to %s under no rollout", id(i))
	}
}

// advance is the loop of rollouts: one transaction.
func (w *world) advance(rules rules) {
	for i := range rules.agents {
		m := w.rows.agents[i].member
		if !m.LookAt.IsZero() && !m.LookAt.After(w.at()) {
			w.put(i, rollout.Elapse(m, w.rows.rollout.Definition, w.at()))
		}
	}
	w.take(rules.decide(w.snapshot(rules.agents), w.at()), rules.agents)
}

func (w *world) snapshot(n int) fleet.RolloutSnapshot {
	s := fleet.RolloutSnapshot{Rollout: w.rows.rollout}
	for wave := 1; wave <= 2; wave++ {
		if wave <= s.Rollout.Wave {
			s.SoFar = s.SoFar.Plus(w.rows.waves[wave])
		} else {
			s.Rest += w.rows.waves[wave].Pending
		}
		if wave == s.Rollout.Wave {
			s.Wave = w.rows.waves[wave]
		}
	}
	for i := range n {
		m := w.rows.agents[i].member
		if m.State == fleet.MemberPending && m.Wave <= s.Rollout.Wave {
			s.Next = append(s.Next, fleet.NextCandidate{Agent: m.Agent})
		}
		if !m.LookAt.IsZero() && (s.LookAt.IsZero() || m.LookAt.Before(s.LookAt)) {
			s.LookAt = m.LookAt
		}
	}
	return s
}

// take does what was decided for the rollout.
func (w *world) take(step fleet.RolloutStep, n int) {
	was := w.rows.rollout
	if len(step.Admit) > 0 && (was.State != fleet.RolloutInProgress || w.crossed()) {
		w.fail("%s is let in although a gate is crossed or the rollout is %s", step.Admit, was.State)
	}
	if step.Rollout != nil {
		if step.Rollout.Wave != was.Wave && w.crossed() {
			w.fail("wave %d is opened although a gate is crossed", step.Rollout.Wave)
		}
		if r := *step.Rollout; r.State != was.State && !slices.Contains(fleet.RolloutTransitions[was.State], r.State) {
			w.fail("the rollout goes from %s to %s", was.State, r.State)
		}
		w.rows.rollout = *step.Rollout
		w.rows.rollout.Version = was.Version + 1
		w.rows.rollout.WakeAt = time.Time{}
	}
	for i := range n {
		if m := w.rows.agents[i].member; slices.Contains(step.Admit, m.Agent) {
			if m.Wave > w.rows.rollout.Wave {
				w.fail("%s is let in before its wave", m.Agent)
			}
			m.State, m.AdmittedAt, m.DeadlineAt, m.LookAt = fleet.MemberAdmitted, w.at(), step.DeadlineAt, step.DeadlineAt
			w.put(i, m)
			w.rows.agents[i].due++
		}
	}
	if step.Close {
		w.close(n)
	}
}

// close closes what was granted and nobody has claimed to send, and lets those agents be pending again.
func (w *world) close(n int) {
	w.rows.rollout.Generation++
	for i := range n {
		r := &w.rows.agents[i]
		mine := r.grant.Rollout == "r" && r.grant.State == fleet.GrantOpen
		if mine && r.grant.SentAt.IsZero() && r.tries == 0 {
			g := r.grant
			g.State, g.Generation = fleet.GrantClosed, g.Generation+1
			w.grant(i, g)
			r.outbox, mine = false, false
		}
		if m := r.member; m.State == fleet.MemberAdmitted && !mine {
			m.State, m.AdmittedAt, m.DeadlineAt, m.LookAt, m.Overdue = fleet.MemberPending, time.Time{}, time.Time{}, time.Time{}, false
			w.put(i, m)
		}
		r.due++
	}
}

// crossed is what the gates are to say, written down once more: in waves so small one agent that failed, or left soon after
// it was pushed to, is enough. What an operator took note of does not count.
func (w *world) crossed() bool {
	r := w.rows.rollout
	if r.Wave == 0 {
		return false
	}
	failed, gone := w.rows.waves[r.Wave].Failed, w.rows.waves[r.Wave].Gone
	if r.Accepted.Wave == r.Wave {
		failed, gone = failed-r.Accepted.OfWave.Failed, gone-r.Accepted.OfWave.Gone
	}
	return failed > 0 || gone > 0
}

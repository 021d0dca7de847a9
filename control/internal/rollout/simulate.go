// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"container/heap"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Simulation is what a simulated rollout came to.
type Simulation struct {
	Plan fleet.RolloutPlan
	// State is completed, or paused if a gate stopped it; in progress if it waits at the end of what was simulated. Reason
	// says why.
	State  fleet.RolloutState
	Reason string
	// Took is how long that took.
	Took time.Duration
	// Counts are those of all waves that were opened, Waves the timeline.
	Counts fleet.Counts
	Waves  []SimulatedWave
}

// SimulatedWave is when a wave began and ended, after the start; a wave that did not end has no Ended.
type SimulatedWave struct {
	Wave          int
	Opened, Ended time.Duration
	Counts        fleet.Counts
}

// Simulate lets a rollout run under a virtual clock, against agents as the model has them: what decides is what decides in
// earnest. Who waits for an operator is advanced at once. Equal arguments say the same.
func Simulate(def fleet.RolloutDefinition, candidates []fleet.RolloutCandidate, model Model, now time.Time) Simulation {
	s := newSimulation(def, candidates, model, now)
	horizon := model.Horizon
	if horizon == 0 {
		horizon = 366 * 24 * time.Hour
	}
	for {
		s.happen()
		next, ok := s.next(s.decide())
		if !ok || s.rollout.State != fleet.RolloutInProgress || next.After(now.Add(horizon)) {
			return s.result(now)
		}
		s.now = next
	}
}

// simulation is a rollout with its members and what will happen to them.
type simulation struct {
	now      time.Time
	model    Model
	rollout  fleet.Rollout
	members  []fleet.Member // in order, without those that are skipped
	fates    []fate
	index    map[fleet.AgentID]int
	pending  []fleet.NextCandidate // of all waves, in order
	keys     map[fleet.AgentID][]fleet.BudgetKey
	uses     []fleet.BudgetUse
	use      map[fleet.BudgetKey]int // where in uses
	waves    []fleet.Counts
	soFar    fleet.Counts
	timeline []SimulatedWave
	events   happenings
}

func newSimulation(def fleet.RolloutDefinition, candidates []fleet.RolloutCandidate, model Model, now time.Time) *simulation {
	plan, members := Draw(fleet.RolloutForward, def, candidates, now)
	def.Advance = fleet.AdvanceAutomatic
	s := &simulation{
		now: now, model: model, members: members[:plan.Agents], index: make(map[fleet.AgentID]int, plan.Agents),
		rollout: fleet.Rollout{Kind: fleet.RolloutForward, Definition: def, Plan: plan, State: fleet.RolloutInProgress, StartedAt: now},
		keys:    map[fleet.AgentID][]fleet.BudgetKey{}, use: map[fleet.BudgetKey]int{}, waves: make([]fleet.Counts, len(plan.Waves)),
	}
	for _, c := range candidates {
		s.budget(c)
	}
	for i, m := range s.members {
		s.index[m.Agent] = i
		s.fates = append(s.fates, model.fate(m.Agent))
		s.pending = append(s.pending, fleet.NextCandidate{Agent: m.Agent, Budgets: s.keys[m.Agent]})
		s.waves[m.Wave-1] = s.waves[m.Wave-1].Plus(fleet.Tally(m))
	}
	return s
}

// budget finds the budgets that an agent counts for.
func (s *simulation) budget(c fleet.RolloutCandidate) {
	for _, b := range s.model.Budgets {
		value, has := c.Blast[b.Label]
		if !has {
			continue
		}
		k := fleet.BudgetKey{Budget: b.ID, Value: value}
		if _, known := s.use[k]; !known {
			s.use[k] = len(s.uses)
			s.uses = append(s.uses, fleet.BudgetUse{BudgetKey: k, Name: b.Name, Most: b.Most})
		}
		s.keys[c.Agent] = append(s.keys[c.Agent], k)
	}
}

// happen lets everything happen that is due.
func (s *simulation) happen() {
	for len(s.events) > 0 && !s.events[0].at.After(s.now) {
		e := heap.Pop(&s.events).(happening)
		m := s.members[e.member]
		if e.answers {
			m.State, m.SettledAt, m.Unhealthy = fleet.MemberApplied, s.now, s.fates[e.member].ill
			if s.fates[e.member].fails {
				m.State, m.Unhealthy = fleet.MemberFailed, false
			}
		}
		s.change(e.member, m)
	}
}

// change replaces a member by what it is now, in the counts, the budgets, and what is to happen.
func (s *simulation) change(i int, m fleet.Member) {
	was := s.members[i]
	m = Elapse(m, s.rollout.Definition, s.now)
	s.members[i] = m
	delta := fleet.Tally(m).Minus(fleet.Tally(was))
	s.waves[m.Wave-1] = s.waves[m.Wave-1].Plus(delta)
	s.soFar = s.soFar.Plus(delta)
	if by := disturbs(m) - disturbs(was); by != 0 {
		for _, k := range s.keys[m.Agent] {
			s.uses[s.use[k]].Used += by
		}
	}
	if !m.LookAt.IsZero() && !m.LookAt.Equal(was.LookAt) {
		heap.Push(&s.events, happening{at: m.LookAt, member: i})
	}
}

func disturbs(m fleet.Member) int {
	if m.Disturbed() {
		return 1
	}
	return 0
}

// decide takes a step, and says when the rollout wants to be looked at.
func (s *simulation) decide() time.Time {
	snapshot := fleet.RolloutSnapshot{Rollout: s.rollout, SoFar: s.soFar, Budgets: s.uses}
	if wave := s.rollout.Wave; wave > 0 {
		snapshot.Wave = s.waves[wave-1]
		snapshot.Next = s.pending[:min(s.soFar.Pending, fleet.CandidateLimit, len(s.pending))]
	}
	if s.model.Calendar != nil {
		snapshot.Calendar = s.model.Calendar(s.now)
	}
	step := Decide(snapshot, s.now)
	s.admit(step)
	if step.Rollout != nil {
		s.turn(*step.Rollout)
	}
	return step.WakeAt
}

// admit pushes to whom was let in.
func (s *simulation) admit(step fleet.RolloutStep) {
	taken := make(map[fleet.AgentID]bool, len(step.Admit))
	for _, agent := range step.Admit {
		taken[agent] = true
		i := s.index[agent]
		m := s.members[i]
		m.State, m.AdmittedAt, m.PushedAt, m.DeadlineAt = fleet.MemberPushed, s.now, s.now, step.DeadlineAt
		s.change(i, m)
		if !s.fates[i].silent {
			heap.Push(&s.events, happening{at: s.now.Add(s.fates[i].after).Truncate(Granule).Add(Granule), member: i, answers: true})
		}
	}
	s.pending = without(s.pending, taken)
}

// Granule is what answers of a simulation are rounded up to: those of one are looked at together.
const Granule = 100 * time.Millisecond

// without takes those out that were let in, which are among the first: those that were passed over stay before the rest.
func without(pending []fleet.NextCandidate, taken map[fleet.AgentID]bool) []fleet.NextCandidate {
	within := min(len(pending), fleet.CandidateLimit)
	to := within
	for from := within - 1; from >= 0; from-- {
		if !taken[pending[from].Agent] {
			to--
			pending[to] = pending[from]
		}
	}
	return pending[to:]
}

// turn lets the rollout become what was decided.
func (s *simulation) turn(next fleet.Rollout) {
	after := s.now.Sub(s.rollout.StartedAt)
	if ended := next.Wave != s.rollout.Wave || next.State == fleet.RolloutCompleted; ended && len(s.timeline) > 0 {
		s.timeline[len(s.timeline)-1].Ended = after
	}
	if next.Wave != s.rollout.Wave {
		s.timeline = append(s.timeline, SimulatedWave{Wave: next.Wave, Opened: after})
		s.soFar = s.soFar.Plus(s.waves[next.Wave-1])
	}
	s.rollout = next
}

// next is when something happens next.
func (s *simulation) next(wake time.Time) (time.Time, bool) {
	if len(s.events) > 0 && (wake.IsZero() || s.events[0].at.Before(wake)) {
		return s.events[0].at, true
	}
	return wake, !wake.IsZero()
}

func (s *simulation) result(start time.Time) Simulation {
	for i := range s.timeline {
		s.timeline[i].Counts = s.waves[s.timeline[i].Wave-1]
	}
	return Simulation{
		Plan: s.rollout.Plan, State: s.rollout.State, Reason: s.rollout.Reason, Took: s.now.Sub(start), Counts: s.soFar, Waves: s.timeline,
	}
}

// happening is an answer of a member, or a time at which it is looked at.
type happening struct {
	at      time.Time
	member  int
	answers bool
}

// happenings are a heap: the next is first, then by the order of members.
type happenings []happening

func (h happenings) Len() int { return len(h) }

func (h happenings) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].member < h[j].member
}

func (h happenings) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push adds the last.
func (h *happenings) Push(x any) { *h = append(*h, x.(happening)) }

// Pop takes the last.
func (h *happenings) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

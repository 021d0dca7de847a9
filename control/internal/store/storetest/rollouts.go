// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// rollouts is store.Rollouts.
var rollouts = suite{
	"a created rollout is pending, with its members and counts":       rolloutCreated,
	"what is rolled out is published, to a group that is there":       rolloutRefused,
	"rollouts are listed newest first, as the filter says":            rolloutsListed,
	"a start assigns, holds members, and lets others wait":            rolloutStarted,
	"a start is of the row that was looked at, once":                  rolloutStartedOnce,
	"one rollout is active in a group, unless it is superseded":       rolloutSuperseded,
	"members given at the start take the place of the planned":        rolloutPlannedAnew,
	"who has moved or has an own assignment at the start is left out": rolloutStrays,
	"held agents have had what was settled before":                    rolloutSettled,
	"who is let in is woken and may have it":                          rolloutLetsIn,
	"steps that see members are counted and wake their rollout":       rolloutCounts,
	"a step on another revision, state or generation is a conflict":   rolloutConflicts,
	"a member becomes what it may become":                             rolloutMemberGuard,
	"a close leaves what was sent, and nothing else":                  rolloutCloses,
	"what a rollout does not grant is not sent until it does":         rolloutParks,
	"an error of who steers is returned, and nothing written":         rolloutSteerFails,
	"a rollout becomes what it may become":                            rolloutGuard,
	"time changes members that are due":                               rolloutElapses,
	"a rollout that is not due is not advanced":                       rolloutNotDue,
	"a rollout that cannot be advanced is put off, and no other":      rolloutPutOff,
	"who a completed rollout did not reach waits":                     rolloutLeavesBehind,
	"a rollback gives each what it had before":                        rolloutRollsBack,
	"a rollout has one rollback":                                      rolloutOneRollback,
	"an own assignment and leaving the group leave a member out":      rolloutLeavesOut,
	"a group with an active rollout is not assigned to":               rolloutGuardsAssignment,
	"nobody waits for a group that is unassigned":                     rolloutUnassigned,
	"who waits is told by group, released and added":                  rolloutWaiting,
	"what a watched agent says wakes the engine":                      rolloutWatches,
	"members are listed by position, stragglers by how long":          rolloutMembersListed,
	"candidates are what a plan has to know":                          rolloutCandidates,
	"rollouts are the tenant's":                                       rolloutTenants,
	"a template that was settled is what it became":                   rolloutSettledTemplate,
}

// definition is of a rollout of the version to the group.
func definition(g fleet.Group, v fleet.VersionRef) fleet.RolloutDefinition {
	return fleet.RolloutDefinition{
		Group: g.ID, Config: v.Config, Version: v.Version, Strategy: fleet.Strategy{Kind: fleet.StrategyImmediate}, Advance: fleet.AdvanceAutomatic,
		Order: fleet.Order{Kind: fleet.OrderRandom}, Gates: fleet.DefaultGates(), Late: fleet.LateFreeze, Deadline: fleet.DefaultDeadline,
	}
}

// inWaves are members of waves, in their order.
func inWaves(waves ...[]fleet.AgentID) (members []fleet.Member) {
	for i, agents := range waves {
		for _, agent := range agents {
			members = append(members, fleet.Member{Agent: agent, Wave: i + 1, Position: len(members) + 1, State: fleet.MemberPending, Change: fleet.ChangeNew})
		}
	}
	return members
}

// planned is a rollout of the version to the group, in waves.
func (w *world) planned(g fleet.Group, v fleet.VersionRef, waves ...[]fleet.AgentID) fleet.Rollout {
	w.Helper()
	return w.plannedOf(fleet.Rollout{Kind: fleet.RolloutForward, Definition: definition(g, v)}, inWaves(waves...))
}

func (w *world) plannedOf(r fleet.Rollout, members []fleet.Member) fleet.Rollout {
	w.Helper()
	r.ID = newID[fleet.RolloutID]()
	r.Plan = fleet.RolloutPlan{MadeAt: w.now, Agents: len(members), Digest: "digest-of-" + string(r.ID)}
	created, err := w.CreateRollout(w.Context(), w.by(), r, members)
	w.must(err)
	return created
}

func (w *world) start(r fleet.Rollout) fleet.Rollout {
	w.Helper()
	started, err := w.StartRollout(w.Context(), w.by(), store.RolloutStart{Rollout: r.ID, Version: r.Version})
	w.must(err)
	return started
}

// rolling is a started rollout whose first wave is let in, its items of work taken away.
func (w *world) rolling(g fleet.Group, v fleet.VersionRef, waves ...[]fleet.AgentID) fleet.Rollout {
	w.Helper()
	w.woken()
	r := w.start(w.planned(g, v, waves...))
	w.advance(opening)
	w.advance(admitting)
	return w.rollout(r.ID)
}

func (w *world) rollout(id fleet.RolloutID) fleet.Rollout {
	w.Helper()
	r, err := w.Rollout(w.Context(), w.tenant, id)
	w.must(err)
	return r
}

type decideFunc func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep

func opening(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
	r := s.Rollout
	r.Wave, r.WaveOpenedAt, r.FilledAt = r.Wave+1, now, time.Time{}
	return fleet.RolloutStep{Rollout: &r, WakeAt: now}
}

func admitting(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
	step := fleet.RolloutStep{DeadlineAt: now.Add(10 * time.Minute)}
	for _, c := range s.Next {
		step.Admit = append(step.Admit, c.Agent)
	}
	return step
}

func becoming(state fleet.RolloutState, closes bool) decideFunc {
	return func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
		r := s.Rollout
		r.State, r.Reason = state, "because"
		if state.Over() {
			r.EndedAt = now
		}
		return fleet.RolloutStep{Rollout: &r, Close: closes}
	}
}

func resting(fleet.RolloutSnapshot, time.Time) fleet.RolloutStep { return fleet.RolloutStep{} }

func unchanged(m fleet.Member, _ fleet.RolloutDefinition, _ time.Time) fleet.Member { return m }

// advance lets all rollouts that are due do what is decided, and says how many that were.
func (w *world) advance(decide decideFunc) int {
	w.Helper()
	n, err := w.AdvanceRollouts(w.Context(), w.now, 100, store.Deciding{Elapse: unchanged, Decide: decide})
	w.must(err)
	return n
}

func (w *world) steer(id fleet.RolloutID, decide decideFunc) (fleet.Rollout, error) {
	return w.Steer(w.Context(), w.by(), id, "rollout.steer", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) {
		return decide(s, w.now), nil
	})
}

func (w *world) steered(id fleet.RolloutID, decide decideFunc) fleet.Rollout {
	w.Helper()
	r, err := w.steer(id, decide)
	w.must(err)
	return r
}

func (w *world) membersOf(id fleet.RolloutID, f fleet.MemberFilter) []store.MemberView {
	w.Helper()
	return pages(w, func(page fleet.Page) ([]store.MemberView, string, error) {
		return w.Members(w.Context(), w.tenant, id, f, page)
	})
}

// place is the agent in a rollout.
func (w *world) inRollout(id fleet.RolloutID, agent fleet.AgentID) fleet.Member {
	w.Helper()
	for _, m := range w.membersOf(id, fleet.MemberFilter{}) {
		if m.Agent == agent {
			return m.Member
		}
	}
	w.Fatalf("agent %s is not in rollout %s", agent, id)
	return fleet.Member{}
}

// wantCounted fails unless the counts of each wave are the sum of what its members count for; it returns those of all.
func (w *world) wantCounted(id fleet.RolloutID) (all fleet.Counts) {
	w.Helper()
	sums := map[int]fleet.Counts{}
	for _, m := range w.membersOf(id, fleet.MemberFilter{}) {
		sums[m.Wave] = sums[m.Wave].Plus(fleet.Tally(m.Member))
	}
	waves, err := w.RolloutWaves(w.Context(), w.tenant, id)
	w.must(err)
	for _, wave := range waves {
		if wave.Counts != sums[wave.Wave] {
			w.Errorf("wave %d counts %+v, its members %+v", wave.Wave, wave.Counts, sums[wave.Wave])
		}
		all = all.Plus(wave.Counts)
		delete(sums, wave.Wave)
	}
	for wave, counts := range sums {
		if counts != (fleet.Counts{}) {
			w.Errorf("wave %d is not counted: %+v", wave, counts)
		}
	}
	return all
}

// situationOf is what is known of an agent now.
func (w *world) situationOf(agent fleet.AgentID) fleet.Situation {
	return w.situation(store.WorkItem{Tenant: w.tenant, Agent: agent})
}

// granted is the step that grants the agent what it is assigned, under its rollout.
func (w *world) granted(on fleet.Situation) fleet.Step {
	g := fleet.Grant{Version: *on.Assigned, State: fleet.GrantOpen, Reason: fleet.GrantAssigned, Generation: 1, OpenedAt: w.now}
	if on.Grant != nil {
		g.Generation = on.Grant.Generation + 1
	}
	if on.Member != nil {
		g.Rollout, g.Wave = on.Member.Rollout, on.Member.Wave
	}
	return fleet.Step{Grant: &g, Send: true}
}

// grantDue grants each agent that is due and not held what it is assigned, and says whom.
func (w *world) grantDue() (agents []fleet.AgentID) {
	w.Helper()
	for _, item := range w.work() {
		on, step := w.situation(item), fleet.Step{}
		if on.Assigned != nil && on.Held == "" {
			step, agents = w.granted(on), append(agents, item.Agent)
		}
		w.must(w.do(item, on, step))
	}
	return agents
}

// seen writes what is seen of a member, by a step of the engine.
func (w *world) seen(agent fleet.AgentID, change func(m *fleet.Member)) error {
	w.Helper()
	_, err := w.ClearAttempts(w.Context(), w.by(), agent) // wakes the engine
	w.must(err)
	for _, item := range w.work() {
		on, step := w.situation(item), fleet.Step{}
		if item.Agent != agent {
			w.must(w.do(item, on, step))
			continue
		}
		m := *on.Member
		change(&m)
		step.Member = &m
		err = w.do(item, on, step)
	}
	return err
}

// groupOf is a group with so many members.
func (w *world) groupOf(n int) (g fleet.Group, members []fleet.AgentID) {
	w.Helper()
	g = w.group(fmt.Sprint("group of ", n))
	for range n {
		members = append(members, w.member(g.ID))
	}
	slices.Sort(members)
	return g, members
}

// connectedTo is a group of which all are connected.
func (w *world) connectedTo(n int) (g fleet.Group, sessions []session, members []fleet.AgentID) {
	w.Helper()
	g = w.group(fmt.Sprint("connected group of ", n))
	gateway := w.gateway("gw-1", 1)
	for range n {
		s := w.connect(w.enrol(), gateway)
		sessions, members = append(sessions, s), append(members, s.id)
	}
	_, err := w.AddGroupMembers(w.Context(), w.by(), g.ID, members, 1000)
	w.must(err)
	return g, sessions, members
}

func rolloutCreated(w *world) {
	g, agents := w.groupOf(3)
	v := w.version("receivers: {}")
	members := append(inWaves(agents[:2]), fleet.Member{Agent: agents[2], State: fleet.MemberSkipped, Reason: "takes none", Change: fleet.ChangeNone})
	members[0].Former, members[1].Target = fleet.AssignedVersion{Config: v.Config, Version: 1}, fleet.AssignedVersion{Config: v.Config, Version: 1}
	r := w.plannedOf(fleet.Rollout{Kind: fleet.RolloutForward, Definition: definition(g, v)}, members)
	want := r
	want.Definition.GroupName, want.Definition.ConfigName = g.Name, v.ConfigName
	if r.State != fleet.RolloutPending || r.Generation != 1 || r.Version != 1 || r.CreatedBy != "ci" || !r.CreatedAt.Equal(w.now) ||
		r.Definition.GroupName != g.Name || r.Definition.ConfigName != v.ConfigName || r.Plan.Digest == "" || !r.WakeAt.IsZero() {
		w.Errorf("created is %+v", r)
	}
	if all := w.wantCounted(r.ID); all.Agents != 2 || all.Pending != 2 || all.Skipped != 1 {
		w.Errorf("counted are %+v", all)
	}
	for _, m := range members {
		m.Rollout, m.Revision = r.ID, 1
		if got := w.inRollout(r.ID, m.Agent); got != m {
			w.Errorf("the member is %+v, want %+v", got, m)
		}
	}
	w.wantAudit(string(r.ID), "rollout.create")
	if s := w.situationOf(agents[0]); s.Assigned != nil || s.Member != nil {
		w.Errorf("a rollout that has not started assigns: %+v", s)
	}
}

func rolloutRefused(w *world) {
	g, agents := w.groupOf(1)
	v := w.version("receivers: {}")
	create := func(d fleet.RolloutDefinition, kind fleet.RolloutKind, of fleet.RolloutID) error {
		_, err := w.CreateRollout(w.Context(), w.by(), fleet.Rollout{ID: newID[fleet.RolloutID](), Kind: kind, Of: of, Definition: d}, inWaves(agents))
		return err
	}
	none := definition(g, v)
	none.Group = newID[fleet.GroupID]()
	w.want(create(none, fleet.RolloutForward, ""), store.ErrNotFound)
	none = definition(g, v)
	none.Version = 9
	w.want(create(none, fleet.RolloutForward, ""), store.ErrNotFound)
	c := w.config("draft")
	draft := definition(g, fleet.VersionRef{Config: c.ID, Version: 1})
	w.want(create(draft, fleet.RolloutForward, ""), store.ErrState)
	w.want(create(definition(g, v), fleet.RolloutRollback, newID[fleet.RolloutID]()), store.ErrNotFound)
	pending := w.planned(g, v, agents)
	w.want(create(definition(g, v), fleet.RolloutRollback, pending.ID), store.ErrState)
	_, err := w.Rollout(w.Context(), w.tenant, newID[fleet.RolloutID]())
	w.want(err, store.ErrNotFound)
	_, _, err = w.Members(w.Context(), w.tenant, newID[fleet.RolloutID](), fleet.MemberFilter{}, fleet.Page{Size: 1})
	w.want(err, store.ErrNotFound)
}

func rolloutsListed(w *world) {
	v := w.version("receivers: {}")
	var made []string
	var groups []fleet.Group
	for i := range 3 {
		g, agents := w.groupOf(i + 1)
		groups = append(groups, g)
		made = append([]string{string(w.planned(g, v, agents).ID)}, made...)
		w.pass(time.Second)
	}
	listed := func(f fleet.RolloutFilter) []fleet.Rollout {
		return pages(w, func(page fleet.Page) ([]fleet.Rollout, string, error) {
			return w.Rollouts(w.Context(), w.tenant, f, page)
		})
	}
	id := func(r fleet.Rollout) string { return string(r.ID) }
	wantIDs(w, listed(fleet.RolloutFilter{}), made, id)
	wantIDs(w, listed(fleet.RolloutFilter{Group: groups[0].ID}), made[2:], id)
	w.start(w.rollout(fleet.RolloutID(made[1])))
	wantIDs(w, listed(fleet.RolloutFilter{States: []fleet.RolloutState{fleet.RolloutInProgress, fleet.RolloutPaused}}), made[1:2], id)
	if wants := listed(fleet.RolloutFilter{WantsRollback: true}); len(wants) != 0 {
		w.Errorf("wanting a rollback are %+v", wants)
	}
	w.advance(func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
		step := becoming(fleet.RolloutPaused, true)(s, now)
		step.RollBack = true
		return step
	})
	wantIDs(w, listed(fleet.RolloutFilter{WantsRollback: true}), made[1:2], id)
}

func rolloutStarted(w *world) {
	g, agents := w.groupOf(4)
	v := w.version("receivers: {}")
	own := w.version("own")
	w.assign(fleet.Target{Agent: agents[3]}, own)
	planned := w.planned(g, v, agents[:2])
	w.woken()
	r := w.start(planned)
	if r.State != fleet.RolloutInProgress || r.Wave != 0 || !r.WakeAt.Equal(w.now) || r.Version != planned.Version+1 || r.StartedBy != "ci" || !r.StartedAt.Equal(w.now) {
		w.Errorf("started is %+v", r)
	}
	if stored := w.rollout(r.ID); stored.State != r.State || stored.Version != r.Version || !stored.WakeAt.Equal(r.WakeAt) {
		w.Errorf("stored is %+v, want %+v", stored, r)
	}
	w.wantWoken()
	for i, want := range []string{"not let it in", "not let it in", "waits", ""} {
		s := w.situationOf(agents[i])
		if !strings.Contains(s.Held, want) || (want == "") != (s.Held == "") || (s.Member != nil) != (i < 2) {
			w.Errorf("agent %d is held %q, member %+v", i, s.Held, s.Member)
		}
		if i < 3 && (s.Assigned == nil || s.Assigned.Config != v.Config || s.Through != "group") {
			w.Errorf("agent %d is assigned %+v through %s", i, s.Assigned, s.Through)
		}
	}
	last := w.lastAudit(string(r.ID))
	if last.Action != "rollout.start" || !strings.Contains(string(last.After), planned.Plan.Digest) {
		w.Errorf("the audit record is %+v", last)
	}
}

func rolloutStartedOnce(w *world) {
	g, agents := w.groupOf(1)
	c := w.config("edge")
	w.publish(c.ID, 1)
	v := fleet.VersionRef{Config: c.ID, Version: 1}
	r := w.planned(g, v, agents)
	try := func(version int64) error {
		_, err := w.StartRollout(w.Context(), w.by(), store.RolloutStart{Rollout: r.ID, Version: version})
		return err
	}
	w.want(try(r.Version+1), store.ErrConflict)
	w.must(w.archive(c.ID, 1))
	w.want(try(r.Version), store.ErrState)
	other := w.start(w.planned(g, w.version("receivers: {}"), agents))
	_, err := w.StartRollout(w.Context(), w.by(), store.RolloutStart{Rollout: other.ID, Version: other.Version})
	w.want(err, store.ErrState)
	_, err = w.StartRollout(w.Context(), w.by(), store.RolloutStart{Rollout: newID[fleet.RolloutID]()})
	w.want(err, store.ErrNotFound)
}

func rolloutSuperseded(w *world) {
	g, agents := w.groupOf(2)
	first := w.rolling(g, w.version("one"), agents)
	w.grantDue()
	second := w.planned(g, w.version("two"), agents)
	_, err := w.StartRollout(w.Context(), w.by(), store.RolloutStart{Rollout: second.ID, Version: second.Version})
	w.want(err, store.ErrExists)
	_, err = w.StartRollout(w.Context(), w.by(), store.RolloutStart{Rollout: second.ID, Version: second.Version, Supersede: true})
	w.must(err)
	if now := w.rollout(first.ID); now.State != fleet.RolloutAborted || now.Generation != first.Generation+1 || now.EndedAt.IsZero() {
		w.Errorf("superseded is %+v", now)
	}
	if s := w.situationOf(agents[0]); s.Grant == nil || s.Grant.State != fleet.GrantClosed || s.Member.Rollout != second.ID || s.Held == "" {
		w.Errorf("the situation is %+v", s)
	}
	w.wantCounted(first.ID)
	w.wantAudit(string(first.ID), "rollout.abort")
}

func rolloutPlannedAnew(w *world) {
	g, agents := w.groupOf(3)
	r := w.planned(g, w.version("one"), agents[:2], agents[2:])
	plan := fleet.RolloutPlan{MadeAt: w.now, Agents: 1, Digest: "another"}
	started, err := w.StartRollout(w.Context(), w.by(), store.RolloutStart{Rollout: r.ID, Version: r.Version, Plan: &plan, Members: inWaves(agents[:1])})
	w.must(err)
	if started.Plan.Digest != "another" || w.rollout(r.ID).Plan.Agents != 1 {
		w.Errorf("started is %+v", started)
	}
	if members := w.membersOf(r.ID, fleet.MemberFilter{}); len(members) != 1 || members[0].Agent != agents[0] {
		w.Errorf("members are %+v", members)
	}
	w.wantCounted(r.ID)
}

func rolloutStrays(w *world) {
	g, agents := w.groupOf(3)
	r := w.planned(g, w.version("one"), agents)
	_, err := w.RemoveGroupMembers(w.Context(), w.by(), g.ID, agents[:1])
	w.must(err)
	w.assign(fleet.Target{Agent: agents[1]}, w.version("own"))
	w.start(r)
	for i, want := range []string{"left the group", "has an assignment of its own", ""} {
		if m := w.inRollout(r.ID, agents[i]); m.Reason != want || (m.State == fleet.MemberSkipped) != (want != "") {
			w.Errorf("member %d is %+v", i, m)
		}
	}
	w.wantCounted(r.ID)
}

func rolloutSettled(w *world) {
	g, agents := w.groupOf(2)
	one, two, three := w.version("one"), w.version("two"), w.version("three")
	w.assign(fleet.Target{Group: g.ID}, one)
	settled := func(want *fleet.VersionRef) {
		w.Helper()
		got := w.situationOf(agents[0]).Settled
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			w.Errorf("settled is %+v, want %+v", got, want)
		}
	}
	settled(nil)
	second := w.start(w.planned(g, two, agents))
	if second.Former != (fleet.AssignedVersion{Config: one.Config, Version: 1}) {
		w.Errorf("former is %+v", second.Former)
	}
	settled(&one)
	w.steered(second.ID, becoming(fleet.RolloutAborted, true))
	third := w.start(w.planned(g, three, agents))
	settled(&one) // the second was not completed
	if third.Former.Config != two.Config {
		w.Errorf("former is %+v", third.Former)
	}
	w.advance(becoming(fleet.RolloutCompleted, false))
	again := w.plannedOf(fleet.Rollout{Kind: fleet.RolloutCatchUp, Of: third.ID, Definition: definition(g, three)}, inWaves(agents))
	w.start(again)
	settled(&one) // what is only being caught up with is not settled
}

func rolloutLetsIn(w *world) {
	g, agents := w.groupOf(3)
	v := w.version("one")
	r := w.start(w.planned(g, v, agents[:2], agents[2:]))
	w.woken()
	var saw fleet.RolloutSnapshot
	w.advance(func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep { saw = s; return opening(s, now) })
	if len(saw.Next) != 0 || saw.Rest != 3 || saw.Wave != (fleet.Counts{}) {
		w.Errorf("the snapshot is %+v", saw)
	}
	w.wantWoken()
	w.advance(func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep { saw = s; return admitting(s, now) })
	if len(saw.Next) != 2 || saw.Next[0].Agent != agents[0] || saw.Rest != 1 || saw.Wave.Pending != 2 || saw.SoFar != saw.Wave {
		w.Errorf("the snapshot is %+v", saw)
	}
	m := w.inRollout(r.ID, agents[0])
	if m.State != fleet.MemberAdmitted || !m.AdmittedAt.Equal(w.now) || !m.DeadlineAt.Equal(w.now.Add(10*time.Minute)) || !m.LookAt.Equal(m.DeadlineAt) || m.Revision != 2 {
		w.Errorf("the member is %+v", m)
	}
	if all := w.wantCounted(r.ID); all.Touched != 2 || all.InFlight != 2 || all.Pending != 1 {
		w.Errorf("counted are %+v", all)
	}
	if in := w.grantDue(); len(in) != 2 {
		w.Errorf("granted is to %v", in)
	}
	s := w.situationOf(agents[0])
	if s.Held != "" || s.Member == nil || *s.Member != m || s.Under.State != fleet.RolloutInProgress || s.Under.Generation != 1 ||
		s.Under.Gates != fleet.DefaultGates() || s.Grant.Rollout != r.ID || s.Grant.Wave != 1 {
		w.Errorf("the situation is %+v", s)
	}
	if w.situationOf(agents[2]).Held == "" {
		w.Error("who is not let in is not held")
	}
	if n := w.advance(resting); n != 0 {
		w.Errorf("%d rollouts are due", n)
	}
}

func rolloutCounts(w *world) {
	g, agents := w.groupOf(2)
	r := w.rolling(g, w.version("one"), agents)
	w.woken()
	w.pass(time.Minute)
	w.must(w.seen(agents[0], func(m *fleet.Member) { m.State, m.SettledAt = fleet.MemberApplied, w.now }))
	w.must(w.seen(agents[1], func(m *fleet.Member) {
		m.State, m.Reason, m.Unhealthy, m.HealthCounts = fleet.MemberFailed, "no such exporter", true, true
	}))
	if all := w.wantCounted(r.ID); all.Applied != 1 || all.Failed != 1 || all.Unhealthy != 1 || all.InFlight != 0 || all.Watched != 1 {
		w.Errorf("counted are %+v", all)
	}
	if m := w.inRollout(r.ID, agents[1]); m.Reason != "no such exporter" || m.Revision != 3 {
		w.Errorf("the member is %+v", m)
	}
	if got := w.rollout(r.ID); !got.WakeAt.Equal(w.now) || got.Version != r.Version {
		w.Errorf("the rollout is %+v", got)
	}
	if n := w.advance(resting); n != 1 {
		w.Errorf("%d rollouts were due", n)
	}
}

func rolloutConflicts(w *world) {
	g, agents := w.groupOf(1)
	r := w.rolling(g, w.version("one"), agents)
	item := w.item()
	on := w.situation(item)
	paused := w.steered(r.ID, becoming(fleet.RolloutPaused, true))
	w.want(w.do(item, on, w.granted(on)), store.ErrConflict)
	m := *on.Member
	m.State = fleet.MemberApplied
	w.want(w.do(item, on, fleet.Step{Member: &m}), store.ErrConflict)
	if s := w.situationOf(agents[0]); s.Grant != nil || s.Member.State != fleet.MemberPending || s.Held == "" {
		w.Errorf("the situation is %+v", s)
	}
	w.steered(paused.ID, becoming(fleet.RolloutInProgress, false))
	on.Member.Revision = w.situationOf(agents[0]).Member.Revision
	w.want(w.do(item, on, w.granted(on)), store.ErrConflict) // the generation is another
	w.wantCounted(r.ID)
}

func rolloutMemberGuard(w *world) {
	g, agents := w.groupOf(2)
	r := w.rolling(g, w.version("one"), agents[:1], agents[1:])
	w.woken()
	w.want(w.seen(agents[1], func(m *fleet.Member) { m.State = fleet.MemberApplied }), store.ErrState)
	w.must(w.seen(agents[0], func(m *fleet.Member) { m.State = fleet.MemberApplied }))
	w.want(w.seen(agents[0], func(m *fleet.Member) { m.State = fleet.MemberPending }), store.ErrState)
	w.wantCounted(r.ID)
}

func rolloutCloses(w *world) {
	g, _, agents := w.connectedTo(4)
	r := w.rolling(g, w.version("one"), agents)
	w.pass(time.Second)
	items := w.work()
	var sent fleet.AgentID
	for i, item := range items[:3] {
		on := w.situation(item)
		w.must(w.do(item, on, w.granted(on)))
		if i == 0 {
			sent = item.Agent
			if due := w.dispatches(); len(due) != 1 || due[0].Agent != sent {
				w.Errorf("sent is %+v", due)
			}
		}
	}
	w.steered(r.ID, becoming(fleet.RolloutPaused, true))
	for _, agent := range agents {
		s := w.situationOf(agent)
		switch m := w.inRollout(r.ID, agent); {
		case agent == sent && (m.State != fleet.MemberAdmitted || s.Grant.State != fleet.GrantOpen || s.Held != ""):
			w.Errorf("what was sent is %+v of %+v", s.Grant, m)
		case agent != sent && (m.State != fleet.MemberPending || !m.AdmittedAt.IsZero() || !m.LookAt.IsZero() || s.Held == ""):
			w.Errorf("what was not sent is %+v of %+v", s.Grant, m)
		case agent != sent && s.Grant != nil && (s.Grant.State != fleet.GrantClosed || s.Grant.Generation != 2 || s.Grant.Message == ""):
			w.Errorf("the grant is %+v", s.Grant)
		}
	}
	if all := w.wantCounted(r.ID); all.Pending != 3 || all.InFlight != 1 {
		w.Errorf("counted are %+v", all)
	}
	if got := w.rollout(r.ID); got.Generation != r.Generation+1 || got.Version != r.Version+1 || !strings.Contains(got.Reason, string(sent)) {
		w.Errorf("the rollout is %+v", got)
	}
	w.wantAudit(string(r.ID), "rollout.steer")
}

func rolloutParks(w *world) {
	g, _, agents := w.connectedTo(1)
	r := w.rolling(g, w.version("one"), agents)
	w.grantDue()
	if due := w.dispatches(); len(due) != 1 {
		w.Fatalf("sent is %+v", due)
	}
	w.steered(r.ID, becoming(fleet.RolloutPaused, true))
	w.pass(20 * time.Second)
	if due := w.dispatches(); len(due) != 0 {
		w.Errorf("sent is %+v", due)
	}
	w.pass(time.Second)
	w.steered(r.ID, becoming(fleet.RolloutInProgress, false))
	if due := w.dispatches(); len(due) != 1 || due[0].Agent != agents[0] {
		w.Errorf("sent is %+v", due)
	}
}

func rolloutSteerFails(w *world) {
	g, agents := w.groupOf(1)
	r := w.rolling(g, w.version("one"), agents)
	why := errors.New("it must not be")
	_, err := w.Steer(w.Context(), w.by(), r.ID, "rollout.steer", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) {
		return becoming(fleet.RolloutPaused, true)(s, w.now), why
	})
	w.want(err, why)
	if got := w.rollout(r.ID); got.State != fleet.RolloutInProgress || got.Version != r.Version {
		w.Errorf("the rollout is %+v", got)
	}
	if slices.Contains(w.audited(string(r.ID)), "rollout.steer") {
		w.Error("it was audited")
	}
	_, err = w.steer(newID[fleet.RolloutID](), resting)
	w.want(err, store.ErrNotFound)
}

func rolloutGuard(w *world) {
	g, agents := w.groupOf(1)
	v := w.version("one")
	for from, to := range fleet.RolloutTransitions {
		if from != fleet.RolloutPending && from != fleet.RolloutInProgress {
			continue
		}
		for _, state := range []fleet.RolloutState{
			fleet.RolloutPending, fleet.RolloutInProgress, fleet.RolloutPaused, fleet.RolloutAborted, fleet.RolloutRollingBack, fleet.RolloutRolledBack,
		} {
			r := w.planned(g, v, agents)
			if from == fleet.RolloutInProgress {
				r = w.start(r)
			}
			_, err := w.steer(r.ID, becoming(state, false))
			if may := state == from || slices.Contains(to, state); may != (err == nil) || err != nil && !errors.Is(err, store.ErrState) {
				w.Errorf("from %s to %s: %v", from, state, err)
			}
			if now := w.rollout(r.ID); now.State.Active() {
				w.steered(r.ID, becoming(fleet.RolloutAborted, true))
			}
		}
	}
}

func rolloutElapses(w *world) {
	g, agents := w.groupOf(2)
	r := w.rolling(g, w.version("one"), agents)
	w.woken()
	w.pass(10 * time.Minute)
	_, err := w.Steer(w.Context(), w.by(), r.ID, "rollout.steer", func(s fleet.RolloutSnapshot) (fleet.RolloutStep, error) {
		if !s.LookAt.Equal(w.now) {
			w.Errorf("looked at next at %s, want %s", s.LookAt, w.now)
		}
		return fleet.RolloutStep{WakeAt: s.LookAt}, nil
	})
	w.must(err)
	var saw fleet.RolloutSnapshot
	n, err := w.AdvanceRollouts(w.Context(), w.now, 100, store.Deciding{
		Elapse: func(m fleet.Member, of fleet.RolloutDefinition, now time.Time) fleet.Member {
			if of.Deadline != fleet.DefaultDeadline || !now.Equal(w.now) {
				w.Errorf("elapses under %+v at %s", of, now)
			}
			m.Overdue, m.LookAt = true, time.Time{}
			return m
		},
		Decide: func(s fleet.RolloutSnapshot, _ time.Time) fleet.RolloutStep {
			saw = s
			return fleet.RolloutStep{WakeAt: w.now.Add(time.Hour), Events: []fleet.Event{{At: w.now, Kind: fleet.EventRolloutWaiting, Message: "it waits"}}}
		},
	})
	w.must(err)
	if n != 1 || saw.Wave.Overdue != 2 || saw.Wave.InFlight != 0 || !saw.LookAt.IsZero() {
		w.Errorf("advanced %d, the snapshot is %+v", n, saw)
	}
	w.wantCounted(r.ID)
	if got := w.rollout(r.ID); !got.WakeAt.Equal(w.now.Add(time.Hour)) {
		w.Errorf("the rollout is %+v", got)
	}
	events, _, err := w.EventsBefore(w.Context(), w.tenant, fleet.EventFilter{Kinds: []fleet.EventKind{fleet.EventRolloutWaiting}}, fleet.Page{Size: 10})
	w.must(err)
	if len(events) != 1 || events[0].Attributes["rollout"] != string(r.ID) || events[0].Message != "it waits" {
		w.Errorf("events are %+v", events)
	}
}

func rolloutNotDue(w *world) {
	v := w.version("one")
	for i := range 3 {
		g, agents := w.groupOf(i + 1)
		w.start(w.planned(g, v, agents))
	}
	early, err := w.AdvanceRollouts(w.Context(), w.now.Add(-time.Second), 100, store.Deciding{Elapse: unchanged, Decide: resting})
	w.must(err)
	some, err := w.AdvanceRollouts(w.Context(), w.now, 2, store.Deciding{Elapse: unchanged, Decide: resting})
	w.must(err)
	if rest := w.advance(resting); early != 0 || some != 2 || rest != 1 {
		w.Errorf("advanced %d early, %d of two, then %d", early, some, rest)
	}
}

func rolloutPutOff(w *world) {
	v := w.version("one")
	g, agents := w.groupOf(2)
	broken := w.start(w.planned(g, v, agents[:1]))
	w.pass(time.Second) // it is not the last one that is due
	other, others := w.groupOf(1)
	w.start(w.planned(other, v, others))
	again := func(_ fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
		return fleet.RolloutStep{WakeAt: now}
	}
	advance := func() (int, error) {
		return w.AdvanceRollouts(w.Context(), w.now, 100, store.Deciding{Elapse: unchanged, Decide: func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
			if s.Rollout.ID == broken.ID {
				return becoming(fleet.RolloutPending, false)(s, now)
			}
			return again(s, now)
		}})
	}
	n, err := advance()
	if w.want(err, store.ErrState); n != 1 {
		w.Errorf("%d were advanced beside it", n)
	}
	if got := w.rollout(broken.ID); got.Version != broken.Version || got.State != fleet.RolloutInProgress || !got.WakeAt.Equal(w.now.Add(store.RolloutPause)) {
		w.Errorf("it is %+v", got)
	}
	w.pass(store.RolloutPause - time.Second)
	if n, err = advance(); err != nil || n != 1 {
		w.Errorf("advanced meanwhile: %d, %v", n, err)
	}
	w.pass(time.Second)
	if n, err = advance(); !errors.Is(err, store.ErrState) || n != 1 {
		w.Errorf("advanced after that: %d, %v", n, err)
	}
	w.assign(fleet.Target{Agent: agents[0]}, v) // it is left out, which wakes the rollout
	if n := w.advance(again); n != 2 {
		w.Errorf("advanced when it was woken: %d", n)
	}
}

func rolloutLeavesBehind(w *world) {
	g, sessions, agents := w.connectedTo(4)
	v := w.version("one")
	w.woken()
	members := append(inWaves(agents[:3]), fleet.Member{Agent: agents[3], State: fleet.MemberSkipped, Reason: "away", Change: fleet.ChangeNew})
	r := w.start(w.plannedOf(fleet.Rollout{Kind: fleet.RolloutForward, Definition: definition(g, v)}, members))
	w.advance(opening)
	w.advance(admitting)
	w.grantDue()
	w.record(fleet.Uplink{Ended: w.end(sessions[0], "CLOSED")})
	w.must(w.seen(agents[1], func(m *fleet.Member) { m.State, m.SettledAt = fleet.MemberApplied, w.now }))
	w.advance(becoming(fleet.RolloutCompleted, false))
	for i, waits := range []bool{true, false, false, true} {
		if s := w.situationOf(agents[i]); (s.Held != "") != waits {
			w.Errorf("agent %d is held %q", i, s.Held)
		}
	}
	if s := w.situationOf(agents[0]); s.Grant.State != fleet.GrantClosed {
		w.Errorf("the grant of who is away is %+v", s.Grant)
	}
	if s := w.situationOf(agents[3]); s.Member != nil {
		w.Errorf("who was left out is %+v", s.Member)
	}
	waves, err := w.RolloutWaves(w.Context(), w.tenant, r.ID)
	w.must(err)
	if len(waves) != 2 || waves[1].OpenedAt.IsZero() || !waves[1].EndedAt.Equal(w.now) {
		w.Errorf("waves are %+v", waves)
	}
	w.woken()
	w.record(fleet.Uplink{Ended: w.end(sessions[2], "CLOSED")})
	w.wantWoken() // nobody is watched any more
	w.wantCounted(r.ID)
}

func rolloutRollsBack(w *world) {
	g, agents := w.groupOf(3)
	one, two := w.version("one"), w.version("two")
	w.assign(fleet.Target{Group: g.ID}, one)
	r := w.rolling(g, two, agents[:2], agents[2:])
	w.grantDue()
	touched, err := w.RolloutCandidates(w.Context(), w.tenant, store.RolloutScope{Group: g.ID, Touched: r.ID})
	w.must(err)
	if len(touched) != 2 || touched[0].Runs.Config != two.Config {
		w.Errorf("touched are %+v", touched)
	}
	back := inWaves(agents[:2])
	for i := range back {
		back[i].Target = fleet.AssignedVersion{Config: one.Config, Version: 1}
	}
	undo := w.plannedOf(fleet.Rollout{Kind: fleet.RolloutRollback, Of: r.ID, Definition: definition(g, two)}, back)
	w.start(undo)
	if got := w.rollout(r.ID); got.State != fleet.RolloutRollingBack || got.Generation != r.Generation+1 || !got.WakeAt.IsZero() {
		w.Errorf("rolled back is %+v", got)
	}
	w.advance(opening)
	w.advance(admitting)
	s := w.situationOf(agents[0])
	if s.Assigned.Config != one.Config || s.Member == nil || s.Member.Rollout != undo.ID || s.Held != "" || s.Grant.State != fleet.GrantClosed {
		w.Errorf("the situation is %+v", s)
	}
	if s := w.situationOf(agents[2]); s.Assigned.Config != one.Config || s.Held == "" || s.Settled == nil || s.Settled.Config != one.Config {
		w.Errorf("the situation of who was not touched is %+v", s)
	}
	w.steered(undo.ID, func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep { return fleet.RolloutStep{WakeAt: now} })
	w.advance(becoming(fleet.RolloutCompleted, false))
	var saw fleet.RolloutSnapshot
	if n := w.advance(func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
		saw = s
		return becoming(fleet.RolloutRolledBack, false)(s, now)
	}); n != 1 || saw.Rollout.ID != r.ID || saw.Undoing != fleet.RolloutCompleted {
		w.Errorf("advanced %d, the snapshot is %+v", n, saw)
	}
	w.wantCounted(r.ID)
	w.wantCounted(undo.ID)
}

func rolloutOneRollback(w *world) {
	g, agents := w.groupOf(1)
	v := w.version("one")
	r := w.rolling(g, v, agents)
	rollback := fleet.Rollout{Kind: fleet.RolloutRollback, Of: r.ID, Definition: definition(g, v)}
	w.steered(r.ID, func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
		return fleet.RolloutStep{RollBack: true}
	})
	first := w.plannedOf(rollback, inWaves(agents))
	if w.rollout(r.ID).WantsRollback {
		w.Error("a rollback is wanted that was made")
	}
	rollback.ID = newID[fleet.RolloutID]()
	_, err := w.CreateRollout(w.Context(), w.by(), rollback, nil)
	w.want(err, store.ErrState)
	w.steered(first.ID, becoming(fleet.RolloutAborted, false))
	w.plannedOf(rollback, inWaves(agents))
}

func rolloutLeavesOut(w *world) {
	g, agents := w.groupOf(3)
	v := w.version("one")
	r := w.rolling(g, v, agents)
	w.woken()
	w.must(w.seen(agents[2], func(m *fleet.Member) { m.State, m.SettledAt = fleet.MemberApplied, w.now }))
	w.pass(time.Second)
	w.assign(fleet.Target{Agent: agents[0]}, w.version("own"))
	_, err := w.RemoveGroupMembers(w.Context(), w.by(), g.ID, agents[1:])
	w.must(err)
	for i, want := range []struct {
		state  fleet.MemberState
		reason string
	}{{fleet.MemberSkipped, "has an assignment of its own"}, {fleet.MemberSkipped, "left the group"}, {fleet.MemberApplied, ""}} {
		if m := w.inRollout(r.ID, agents[i]); m.State != want.state || m.Reason != want.reason {
			w.Errorf("member %d is %+v", i, m)
		}
	}
	w.wantCounted(r.ID)
	if got := w.rollout(r.ID); got.WakeAt.IsZero() {
		w.Error("the rollout is not looked at")
	}
	if s := w.situationOf(agents[0]); s.Held != "" || s.Member != nil || s.Through != "agent" {
		w.Errorf("the situation is %+v", s)
	}
	w.must(w.Unassign(w.Context(), w.by(), fleet.Target{Agent: agents[0]}))
	if s := w.situationOf(agents[0]); s.Held == "" {
		w.Error("who has no assignment of its own any more is not held")
	}
}

func rolloutGuardsAssignment(w *world) {
	g, agents := w.groupOf(2)
	one, two := w.version("one"), w.version("two")
	r := w.start(w.planned(g, one, agents[:1]))
	_, _, err := w.assignWithin(20, fleet.Target{Group: g.ID}, two.Config, 1)
	w.want(err, store.ErrExists)
	w.want(w.Unassign(w.Context(), w.by(), fleet.Target{Group: g.ID}), store.ErrExists)
	w.want(w.DeleteGroup(w.Context(), w.by(), g.ID), store.ErrExists)
	w.steered(r.ID, becoming(fleet.RolloutAborted, true))
	if w.situationOf(agents[0]).Held == "" {
		w.Error("agents of an aborted rollout are not held")
	}
	w.assign(fleet.Target{Group: g.ID}, two)
	for _, agent := range agents {
		if s := w.situationOf(agent); s.Held != "" || s.Member != nil || s.Settled != nil || s.Assigned.Config != two.Config {
			w.Errorf("the situation is %+v", s)
		}
	}
}

func rolloutUnassigned(w *world) {
	g, _, agents := w.connectedTo(2)
	r := w.rolling(g, w.version("one"), agents[:1])
	w.steered(r.ID, becoming(fleet.RolloutAborted, true))
	if s := w.situationOf(agents[1]); !strings.Contains(s.Held, "waits") {
		w.Fatalf("who joined later is held %q", s.Held)
	}
	w.woken()
	w.must(w.Unassign(w.Context(), w.by(), fleet.Target{Group: g.ID}))
	w.wantWoken(agents...)
	for _, agent := range agents {
		if s := w.situationOf(agent); s.Held != "" || s.Assigned != nil || s.Member != nil {
			w.Errorf("the situation is %+v", s)
		}
	}
	if groups, err := w.GroupsWaiting(w.Context(), w.now); err != nil || len(groups) != 0 {
		w.Errorf("groups are %+v, %v", groups, err)
	}
}

func rolloutWaiting(w *world) {
	g, _, agents := w.connectedTo(4)
	away := w.member(g.ID)
	v := w.version("one")
	r := w.rolling(g, v, agents[:1], agents[1:2])
	w.woken()
	waiting := func() store.GroupWaiting {
		w.Helper()
		groups, err := w.GroupsWaiting(w.Context(), w.now)
		w.must(err)
		if len(groups) != 1 {
			w.Fatalf("groups are %+v", groups)
		}
		return groups[0]
	}
	want := store.GroupWaiting{
		Tenant: w.tenant, Group: g.ID, Name: g.Name, Online: 2, Assigned: fleet.AssignedVersion{Config: v.Config, Version: 1},
		Rollout: r.ID, State: fleet.RolloutInProgress, Late: fleet.LateFreeze,
	}
	if got := waiting(); got != want {
		w.Errorf("waiting is %+v, want %+v", got, want)
	}
	scope := store.RolloutScope{Group: g.ID, Waiting: true, Config: v.Config, Version: 1}
	if found, err := w.RolloutCandidates(w.Context(), w.tenant, scope); err != nil || len(found) != 2 {
		w.Errorf("candidates are %+v, %v", found, err)
	}
	stranger := w.member("")
	n, err := w.AddMembers(w.Context(), w.tenant, r.ID, inWaves([]fleet.AgentID{agents[2], agents[0], stranger}), w.now)
	w.must(err)
	if m := w.inRollout(r.ID, agents[2]); n != 1 || m.State != fleet.MemberPending || m.Wave != 2 || m.Position != 3 {
		w.Errorf("added %d, %+v", n, m)
	}
	w.wantCounted(r.ID)
	if s := w.situationOf(agents[2]); s.Member == nil || s.Member.State != fleet.MemberPending {
		w.Errorf("the situation is %+v", s)
	}
	w.steered(r.ID, becoming(fleet.RolloutAborted, true))
	_, err = w.AddMembers(w.Context(), w.tenant, r.ID, inWaves(agents[3:]), w.now)
	w.want(err, store.ErrState)
	_, err = w.Release(w.Context(), w.tenant, g.ID, 0, w.now)
	w.want(err, store.ErrLimit)
	w.woken()
	n, err = w.Release(w.Context(), w.tenant, g.ID, 1, w.now)
	w.must(err)
	if n != 1 {
		w.Errorf("%d were released", n)
	}
	w.wantWoken(agents[3])
	if groups, err := w.GroupsWaiting(w.Context(), w.now); err != nil || len(groups) != 0 {
		w.Errorf("groups are %+v, %v", groups, err)
	}
	if s := w.situationOf(away); !strings.Contains(s.Held, "waits") {
		w.Errorf("who is away is held %q", s.Held)
	}
}

func rolloutWatches(w *world) {
	g, sessions, agents := w.connectedTo(3)
	r := w.rolling(g, w.version("one"), agents[:1], agents[1:])
	w.woken()
	for i, s := range sessions {
		w.said(w.report(s, 1, "ill", fleet.PartHealth))
		if watched := len(w.woken()) == 1; watched != (i == 0) {
			w.Errorf("agent %d: woken %v", i, watched)
		}
	}
	w.said(w.report(sessions[0], 2, "c", fleet.PartCustomMessage))
	w.wantWoken()
	w.record(fleet.Uplink{Ended: w.end(sessions[0], "CLOSED")})
	w.wantWoken(agents[0])
	again := w.connect(sessions[0].agent, sessions[0].gateway)
	w.wantWoken(agents[0])
	w.pass(time.Hour)
	_, err := w.EndLost(w.Context(), w.now, w.now)
	w.must(err)
	w.wantWoken(agents[0])
	w.connect(again.agent, w.gateway("gw-1", 2))
	w.woken()
	w.advance(resting)
	w.steered(r.ID, becoming(fleet.RolloutAborted, true))
	w.woken()
	w.pass(time.Hour)
	_, err = w.EndLost(w.Context(), w.now, w.now)
	w.must(err)
	w.wantWoken()
}

func rolloutMembersListed(w *world) {
	g, agents := w.groupOf(5)
	order := []fleet.AgentID{agents[3], agents[1], agents[4], agents[0], agents[2]}
	r := w.start(w.planned(g, w.version("one"), order[:2], order[2:]))
	w.advance(opening)
	for range 2 {
		w.advance(func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
			return fleet.RolloutStep{Admit: []fleet.AgentID{s.Next[len(s.Next)-1].Agent}, WakeAt: now.Add(time.Minute)}
		})
		w.pass(time.Minute)
	}
	texts := func(agents ...fleet.AgentID) (all []string) {
		for _, a := range agents {
			all = append(all, string(a))
		}
		return all
	}
	id := func(m store.MemberView) string { return string(m.Agent) }
	wantIDs(w, w.membersOf(r.ID, fleet.MemberFilter{}), texts(order...), id)
	wantIDs(w, w.membersOf(r.ID, fleet.MemberFilter{Wave: 2}), texts(order[2:]...), id)
	wantIDs(w, w.membersOf(r.ID, fleet.MemberFilter{State: fleet.MemberAdmitted}), texts(order[:2]...), id)
	wantIDs(w, w.membersOf(r.ID, fleet.MemberFilter{Stragglers: true}), texts(order[1], order[0]), id)
	w.must(w.seen(order[0], func(m *fleet.Member) { m.State, m.Mismatch = fleet.MemberApplied, true }))
	wantIDs(w, w.membersOf(r.ID, fleet.MemberFilter{Stragglers: true}), texts(order[1]), id)
	wantIDs(w, w.membersOf(r.ID, fleet.MemberFilter{Problems: true}), nil, id)
	w.must(w.seen(order[0], func(m *fleet.Member) { m.ConfigCounts = true }))
	wantIDs(w, w.membersOf(r.ID, fleet.MemberFilter{Problems: true}), texts(order[0]), id)
}

func rolloutCandidates(w *world) {
	g, sessions, agents := w.connectedTo(4)
	one, two := w.version("one"), w.version("two")
	w.woken()
	w.assign(fleet.Target{Agent: agents[0]}, one)
	w.grant(one, 1)
	w.act(fleet.Act{Kind: fleet.ActTag, Agents: agents[1:2], Tags: fleet.TagChange{Set: map[string]string{"site": "eu"}}, Most: 10})
	said := w.report(sessions[1], 1, "d", fleet.PartDescription, fleet.PartCapabilities)
	host, accepts := "db-7", true
	said.Summary = fleet.Summary{HostName: &host, AcceptsConfig: &accepts}
	said.Labels = map[string]string{"site": "claimed", "rack": "r1"}
	w.said(said)
	w.woken()
	failed := func(agent fleet.AgentID, v fleet.VersionRef, offer fleet.OfferHash) {
		_, err := w.ClearAttempts(w.Context(), w.by(), agent)
		w.must(err)
		v.Offer = offer
		w.apply(fleet.Step{Attempts: []fleet.Attempt{{Version: v, Outcome: fleet.AttemptFailed, Message: "no such exporter", FirstAt: w.now, LastAt: w.now}}})
	}
	failed(agents[2], one, two.Offer)             // the same bytes of another configuration
	failed(agents[3], two, fleet.OfferHash{1, 2}) // another rendering of the same content
	find := func() []fleet.RolloutCandidate {
		found, err := w.RolloutCandidates(w.Context(), w.tenant, store.RolloutScope{
			Group: g.ID, Config: two.Config, Version: 1, Spread: "rack", Blast: []string{"site", "none"},
		})
		w.must(err)
		slices.SortFunc(found, func(a, b fleet.RolloutCandidate) int {
			return slices.Index(agents, a.Agent) - slices.Index(agents, b.Agent)
		})
		return found
	}
	found := find()
	if len(found) != 4 || !found[0].Own || found[1].Own || !found[0].Online || found[0].Runs != (fleet.AssignedVersion{Config: one.Config, Version: 1}) ||
		found[0].RunsOffer != one.Offer || found[1].Runs.Config != "" {
		w.Errorf("candidates are %+v", found)
	}
	if c := found[1]; c.Spread != "r1" || c.Blast["site"] != "eu" || len(c.Blast) != 1 || c.HostName != "db-7" || c.AcceptsConfig == nil || !*c.AcceptsConfig {
		w.Errorf("the candidate is %+v", c)
	}
	for i, blocked := range []bool{false, false, true, true} {
		if (found[i].Blocked == "no such exporter") != blocked || !blocked && found[i].Blocked != "" {
			w.Errorf("candidate %d is blocked by %q", i, found[i].Blocked)
		}
	}
	_, err := w.ClearAttempts(w.Context(), w.by(), agents[2])
	w.must(err)
	if found = find(); found[2].Blocked != "" {
		w.Errorf("the candidate is %+v", found[2])
	}
	for _, scope := range []store.RolloutScope{
		{Group: newID[fleet.GroupID](), Config: two.Config, Version: 1},
		{Group: g.ID, Config: two.Config, Version: 7},
		{Group: g.ID, Touched: newID[fleet.RolloutID]()},
	} {
		_, err := w.RolloutCandidates(w.Context(), w.tenant, scope)
		w.want(err, store.ErrNotFound)
	}
}

func rolloutTenants(w *world) {
	g, agents := w.groupOf(1)
	r := w.planned(g, w.version("one"), agents)
	theirs := w.in("theirs")
	_, err := theirs.Rollout(w.Context(), theirs.tenant, r.ID)
	w.want(err, store.ErrNotFound)
	_, err = theirs.StartRollout(w.Context(), theirs.by(), store.RolloutStart{Rollout: r.ID, Version: r.Version})
	w.want(err, store.ErrNotFound)
	_, err = theirs.steer(r.ID, resting)
	w.want(err, store.ErrNotFound)
	if list, _, err := theirs.Rollouts(w.Context(), theirs.tenant, fleet.RolloutFilter{}, fleet.Page{Size: 10}); err != nil || len(list) != 0 {
		w.Errorf("they see %+v, %v", list, err)
	}
	w.start(r)
	other, members := theirs.groupOf(1)
	theirs.start(theirs.planned(other, theirs.version("one"), members))
	if n := w.advance(resting); n != 2 {
		w.Errorf("%d rollouts were advanced, of two tenants", n)
	}
}

func rolloutSettledTemplate(w *world) {
	g, agents := w.groupOf(1)
	template, rendered := w.template("b: ${ampora:tag:y}", "b: us")
	w.assign(fleet.Target{Group: g.ID}, template)
	w.start(w.planned(g, w.version("one"), agents))
	all, err := w.Situations(w.Context(), w.tenant, agents, map[fleet.AgentID]fleet.VersionRef{agents[0]: rendered})
	w.must(err)
	if got := all[0].Settled; got == nil || *got != rendered {
		w.Errorf("settled is %+v, want %+v", got, rendered)
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// bulk is store.Bulk.
var bulk = suite{
	"what an operator tags is the operator's":          tagAgents,
	"agents are found by their tags":                   findTagged,
	"an agent has no more tags than may be":            tagTooMany,
	"a preview changes nothing and shows a sample":     actPreview,
	"an act is done to exactly those of its preview":   actExpected,
	"an act about too many is not done":                actTooMany,
	"one audit event names every agent":                actAudited,
	"an act does not reach into another tenant":        actInTenant,
	"an act that changes nobody leaves nothing behind": actNothing,
	"agents move into a group and out of it":           moveAgents,
	"of many that move at once each waits":             moveLimited,
	"nobody moves into a group that is none":           moveNowhere,
	"a push asks the engine, once":                     pushAgents,
	"who cannot be pushed is said why":                 pushSkipped,
	"sessions are drained one after the other":         drainAgents,
	"a restart command is sent at most once":           restartOnce,
	"a restart command does not wait":                  restartSoon,
	"what came of a restart command is told":           restartTold,
}

// act does something to many, who are at most a hundred.
func (w *world) act(a fleet.Act) fleet.ActOutcome {
	w.Helper()
	if a.Most == 0 {
		a.Most = 100
	}
	outcome, err := w.Act(w.Context(), w.by(), a)
	w.must(err)
	return outcome
}

func (w *world) enrolled(n int) (ids []fleet.AgentID) {
	w.Helper()
	for range n {
		ids = append(ids, w.enrol().id)
	}
	slices.Sort(ids)
	return ids
}

func tagging(set map[string]string, remove []string, agents ...fleet.AgentID) fleet.Act {
	return fleet.Act{Kind: fleet.ActTag, Agents: agents, Tags: fleet.TagChange{Set: set, Remove: remove}}
}

func tagAgents(w *world) {
	a, b := w.enrol().id, w.enrol().id
	w.act(tagging(map[string]string{"site": "berlin", "tier": "gold"}, nil, a, b, a))
	outcome := w.act(tagging(map[string]string{"tier": "silver"}, []string{"site", "none"}, a))
	if !slices.Equal(outcome.Done, []fleet.AgentID{a}) || len(outcome.Skipped) != 0 {
		w.Errorf("done to %v, skipped %v", outcome.Done, outcome.Skipped)
	}
	operators := func(value string) fleet.Tag { return fleet.Tag{Value: value, Origin: fleet.TagOfOperator} }
	if got, want := w.agent(a).Tags, map[string]fleet.Tag{"tier": operators("silver")}; !maps.Equal(got, want) {
		w.Errorf("tags are %v, want %v", got, want)
	}
	if got, want := w.agent(b).Tags, map[string]fleet.Tag{"site": operators("berlin"), "tier": operators("gold")}; !maps.Equal(got, want) {
		w.Errorf("tags are %v, want %v", got, want)
	}
	if kinds := w.kinds(a); !slices.Equal(kinds, []fleet.EventKind{fleet.EventAgentEnrolled, fleet.EventTagsChanged, fleet.EventTagsChanged}) {
		w.Errorf("events are %v", kinds)
	}
}

func findTagged(w *world) {
	agents := w.enrolled(3)
	w.act(tagging(map[string]string{"site": "berlin", "tier": "gold"}, nil, agents[0], agents[1]))
	w.act(tagging(map[string]string{"site": "paris"}, nil, agents[1]))
	for name, c := range map[string]struct {
		tags map[string]string
		want []fleet.AgentID
	}{
		"one":            {map[string]string{"tier": "gold"}, agents[:2]},
		"both":           {map[string]string{"tier": "gold", "site": "paris"}, agents[1:2]},
		"another value":  {map[string]string{"tier": "silver"}, nil},
		"half the value": {map[string]string{"tier": "gol"}, nil},
	} {
		if got := w.listed(fleet.AgentFilter{Tags: c.tags}); !slices.Equal(got, c.want) {
			w.Errorf("%s: listed are %v, want %v", name, got, c.want)
		}
	}
}

func tagTooMany(w *world) {
	id := w.enrol().id
	set := map[string]string{}
	for i := range fleet.MaxTags {
		set[fmt.Sprint("k", i)] = "v"
	}
	w.act(tagging(set, nil, id))
	outcome := w.act(tagging(map[string]string{"one": "more"}, nil, id))
	if want := map[fleet.Skip][]fleet.AgentID{fleet.SkipTooManyTags: {id}}; !reflect.DeepEqual(outcome.Skipped, want) {
		w.Errorf("skipped %v, want %v", outcome.Skipped, want)
	}
	w.act(tagging(map[string]string{"one": "instead"}, []string{"k0"}, id))
	if tags := w.agent(id).Tags; len(tags) != fleet.MaxTags || tags["one"].Value != "instead" {
		w.Errorf("it has %d tags", len(tags))
	}
}

func actPreview(w *world) {
	agents := w.enrolled(2)
	act := tagging(map[string]string{"a": "b"}, nil, agents[0], agents[1], newID[fleet.AgentID]())
	act.Preview = true
	outcome := w.act(act)
	if outcome.Matched() != 3 || !slices.Equal(outcome.Done, agents) || len(outcome.Skipped[fleet.SkipUnknown]) != 1 {
		w.Errorf("it would be done to %v, but not to %v", outcome.Done, outcome.Skipped)
	}
	for i, shown := range outcome.Sample {
		if !reflect.DeepEqual(shown, w.agent(agents[i])) {
			w.Errorf("shown is %+v", shown)
		}
	}
	if len(outcome.Sample) != 2 || len(w.agent(agents[0]).Tags) != 0 || len(w.audited(string(agents[0]))) != 1 {
		w.Error("a preview shows less, or changes something")
	}
}

func actExpected(w *world) {
	first := w.enrolled(2)
	act := fleet.Act{Kind: fleet.ActTag, Filter: fleet.AgentFilter{Presence: fleet.PresenceOffline}, Tags: fleet.TagChange{Set: map[string]string{"a": "b"}}, Most: 100}
	preview := act
	preview.Preview = true
	act.Expect = w.act(preview).Mark
	late := w.enrol().id
	_, err := w.Act(w.Context(), w.by(), act)
	w.want(err, store.ErrConflict)
	if len(w.agent(first[0]).Tags) != 0 {
		w.Error("it was done to others than expected")
	}
	act.Expect = w.act(preview).Mark
	if outcome := w.act(act); !slices.Equal(outcome.Done, append(first, late)) {
		w.Errorf("done to %v", outcome.Done)
	}
}

func actTooMany(w *world) {
	agents := w.enrolled(3)
	act := tagging(map[string]string{"a": "b"}, nil, agents...)
	act.Most = 2
	_, err := w.Act(w.Context(), w.by(), act)
	w.want(err, store.ErrTooMany)
	act.Agents = nil // all
	_, err = w.Act(w.Context(), w.by(), act)
	w.want(err, store.ErrTooMany)
	act.Most = 3
	if outcome := w.act(act); len(outcome.Done) != 3 {
		w.Errorf("done to %v", outcome.Done)
	}
}

func actAudited(w *world) {
	agents := w.enrolled(3)
	w.act(tagging(map[string]string{"a": "b"}, nil, agents[0]))
	w.act(tagging(map[string]string{"a": "b"}, []string{"c"}, agents...))
	records, _, err := w.AuditRecords(w.Context(), w.tenant, "", fleet.Page{Size: 1})
	w.must(err)
	var after struct {
		Agents  []fleet.AgentID
		Skipped map[fleet.Skip][]fleet.AgentID
		Set     map[string]string
		Removed []string
	}
	w.must(json.Unmarshal(records[0].After, &after))
	if records[0].Action != "agent.tag" || !slices.Equal(after.Agents, agents[1:]) || !slices.Equal(after.Skipped[fleet.SkipUnchanged], agents[:1]) ||
		after.Set["a"] != "b" || !slices.Equal(after.Removed, []string{"c"}) {
		w.Errorf("the record is %s: %s", records[0].Action, records[0].After)
	}
	if actions := w.audited(string(agents[0])); !slices.Contains(actions, "agent.tag") {
		w.Errorf("about the one agent is %v", actions)
	}
}

func actInTenant(w *world) {
	id, other := w.enrol().id, w.in("umbrella")
	if outcome := other.act(tagging(map[string]string{"a": "b"}, nil, id)); len(outcome.Done) != 0 || len(outcome.Skipped[fleet.SkipUnknown]) != 1 {
		w.Errorf("done to %v", outcome.Done)
	}
	if outcome := other.act(tagging(map[string]string{"a": "b"}, nil)); outcome.Matched() != 0 {
		w.Errorf("selected are %d", outcome.Matched())
	}
	if len(w.agent(id).Tags) != 0 {
		w.Error("it was tagged by another tenant")
	}
}

func actNothing(w *world) {
	id := w.enrol().id
	w.act(tagging(map[string]string{"a": "b"}, nil, id))
	events, audited := len(w.kinds(id)), len(w.audited(string(id)))
	if outcome := w.act(tagging(map[string]string{"a": "b"}, []string{"c"}, id)); len(outcome.Skipped[fleet.SkipUnchanged]) != 1 {
		w.Errorf("skipped %v", outcome.Skipped)
	}
	if len(w.kinds(id)) != events || len(w.audited(string(id))) != audited {
		w.Error("it left something behind")
	}
}

func moving(to fleet.GroupID, agents ...fleet.AgentID) fleet.Act {
	return fleet.Act{Kind: fleet.ActMove, Agents: agents, To: to, Limit: 2}
}

func moveAgents(w *world) {
	from, to := w.group("from"), w.group("to")
	a, b, c := w.member(from.ID), w.member(to.ID), w.enrol().id
	w.work()
	outcome := w.act(moving(to.ID, a, b, c))
	if len(outcome.Done) != 2 || !slices.Equal(outcome.Skipped[fleet.SkipUnchanged], []fleet.AgentID{b}) {
		w.Errorf("moved are %v, not %v", outcome.Done, outcome.Skipped)
	}
	if got := w.agent(a); got.Group != to.ID || w.agent(c).Group != to.ID {
		w.Errorf("it is in %s", got.GroupName)
	}
	if items := w.work(); len(items) != 2 {
		w.Errorf("the engine looks at %d", len(items))
	}
	last := func(id fleet.AgentID) fleet.Event {
		events, _, err := w.EventsBefore(w.Context(), w.tenant, fleet.EventFilter{Agent: id}, fleet.Page{Size: 1})
		w.must(err)
		return events[0]
	}
	if e := last(a); e.Kind != fleet.EventGroupChanged || e.Attributes["from"] != string(from.ID) || e.Attributes["to"] != string(to.ID) {
		w.Errorf("told is %+v", e)
	}
	w.act(moving("", a))
	if got := w.agent(a).Group; got != "" {
		w.Errorf("it is in %s", got)
	}
}

func moveLimited(w *world) {
	to, other := w.group("to"), w.group("other")
	w.assign(fleet.Target{Group: to.ID}, w.version("a"))
	agents := w.enrolled(4)
	most := func(act fleet.Act) fleet.Act {
		act.Most = 10
		return act
	}
	preview := most(moving(to.ID, agents[:3]...))
	preview.Preview = true
	w.act(preview)
	w.wantWaiting(to, 0)
	w.act(most(moving(to.ID, agents[:3]...)))
	w.wantWaiting(to, 3)
	if outcome := w.act(moving(to.ID, agents[2:]...)); len(outcome.Skipped[fleet.SkipUnchanged]) != 1 {
		w.Errorf("skipped are %v", outcome.Skipped)
	}
	w.wantWaiting(to, 3)
	w.act(moving(other.ID, agents[:2]...))
	w.wantWaiting(to, 1)
	w.wantWaiting(other, 0)
}

func moveNowhere(w *world) {
	id, gone := w.enrol().id, w.group("gone")
	w.must(w.DeleteGroup(w.Context(), w.by(), gone.ID))
	for _, to := range []fleet.GroupID{gone.ID, newID[fleet.GroupID](), "no group"} {
		act := moving(to, id)
		act.Most = 10
		_, err := w.Act(w.Context(), w.by(), act)
		w.want(err, store.ErrNotFound)
	}
}

func pushing(agents ...fleet.AgentID) fleet.Act {
	return fleet.Act{Kind: fleet.ActPush, Agents: agents, Why: "restored"}
}

func pushAgents(w *world) {
	s := w.connected()
	w.assign(fleet.Target{Agent: s.id}, w.version("a"))
	w.apply(fleet.Step{Delivery: &fleet.Delivery{State: fleet.DeliveryApplied}})
	if outcome := w.act(pushing(s.id)); !slices.Equal(outcome.Done, []fleet.AgentID{s.id}) {
		w.Errorf("pushed are %v, not %v", outcome.Done, outcome.Skipped)
	}
	item := w.item()
	if !item.Push {
		w.Error("the engine is not asked to push")
	}
	w.pass(time.Minute) // its claim runs out, and it is claimed again
	if item = w.item(); !item.Push {
		w.Error("what was asked for is forgotten with a claim")
	}
	w.must(w.do(item, w.situation(item), fleet.Step{}))
	w.act(fleet.Act{Kind: fleet.ActMove, Agents: []fleet.AgentID{s.id}, To: w.group("g").ID, Limit: 9})
	if item = w.item(); item.Push {
		w.Error("it is asked for twice")
	}
}

func pushSkipped(w *world) {
	s, bare := w.connected(), w.enrol().id
	skipped := func() map[fleet.Skip][]fleet.AgentID { return w.act(pushing(s.id, bare)).Skipped }
	if got := skipped()[fleet.SkipUnassigned]; len(got) != 2 {
		w.Errorf("without an assignment are %v", got)
	}
	for state, why := range map[fleet.DeliveryState]fleet.Skip{
		fleet.DeliveryFailed: fleet.SkipFailed, fleet.DeliveryRolledBack: fleet.SkipFailed, fleet.DeliverySkipped: fleet.SkipNotCapable,
	} {
		w.must(w.retry(s.id, ""))
		w.apply(fleet.Step{Delivery: &fleet.Delivery{State: state}})
		if got := skipped()[why]; !slices.Equal(got, []fleet.AgentID{s.id}) {
			w.Errorf("%s: skipped are %v", state, got)
		}
	}
	w.must(w.retry(s.id, ""))
	w.apply(fleet.Step{Delivery: &fleet.Delivery{State: fleet.DeliveryApplied}})
	w.record(fleet.Uplink{Ended: &fleet.SessionEnd{
		Tenant: w.tenant, Agent: s.id, Gateway: s.gateway.ID, BootID: s.gateway.BootID, Epoch: s.epoch, At: w.now, Reason: "CLOSED", LastSeenAt: w.now,
	}})
	if got := skipped()[fleet.SkipAway]; !slices.Equal(got, []fleet.AgentID{s.id}) {
		w.Errorf("away are %v", got)
	}
}

func drainAgents(w *world) {
	g := w.gateway("gw-1", 7)
	var agents []fleet.AgentID
	for range 3 {
		agents = append(agents, w.connect(w.enrol(), g).id)
	}
	away := w.enrol().id
	outcome := w.act(fleet.Act{Kind: fleet.ActDrain, Agents: append([]fleet.AgentID{away}, agents...), Over: 30 * time.Second})
	if len(outcome.Done) != 3 || !slices.Equal(outcome.Skipped[fleet.SkipAway], []fleet.AgentID{away}) {
		w.Errorf("drained are %v, not %v", outcome.Done, outcome.Skipped)
	}
	drained := map[fleet.AgentID]bool{}
	for _, want := range []int{1, 2, 3} {
		for _, d := range w.dispatches() {
			if d.Kind != fleet.DispatchClose || d.Reason != fleet.EndDrained {
				w.Errorf("sent is %+v", d)
			}
			drained[d.Agent] = true
		}
		if len(drained) != want {
			w.Errorf("%d are drained by now, want %d", len(drained), want)
		}
		w.pass(10 * time.Second)
	}
}

// restartable is a session of an agent that takes the restart command.
func (w *world) restartable() session {
	w.Helper()
	s := w.connected()
	r := w.report(s, 1, "x", fleet.PartCapabilities)
	bits := fleet.AcceptsRestart | 1
	r.Summary.Capabilities = &bits
	w.said(r)
	return s
}

func restarting(agents ...fleet.AgentID) fleet.Act {
	return fleet.Act{Kind: fleet.ActRestart, Agents: agents, Why: "stuck"}
}

func restartOnce(w *world) {
	s, other := w.restartable(), w.connected()
	outcome := w.act(restarting(s.id, other.id))
	if !slices.Equal(outcome.Done, []fleet.AgentID{s.id}) || !slices.Equal(outcome.Skipped[fleet.SkipNotCapable], []fleet.AgentID{other.id}) {
		w.Errorf("done to %v, not to %v", outcome.Done, outcome.Skipped)
	}
	due := w.dispatches()
	if len(due) != 1 || due[0].Kind != fleet.DispatchRestart || due[0].Agent != s.id || due[0].Epoch != s.epoch || !due[0].ExpiresAt.Equal(w.now.Add(fleet.RestartLife)) {
		w.Fatalf("sent is %+v", due)
	}
	for range 10 { // whether it was sent or not: nobody says so
		w.pass(10 * time.Second)
		if due := w.dispatches(); len(due) != 0 {
			w.Fatalf("sent again is %+v", due)
		}
	}
	first := due[0].Generation
	w.act(restarting(s.id))
	if due = w.dispatches(); len(due) != 0 {
		w.Error("it is sent over a gateway without a lease")
	}
	w.gateway(s.gateway.ID, s.gateway.BootID)
	w.act(restarting(s.id))
	if due = w.dispatches(); len(due) != 1 || due[0].Generation <= first {
		w.Errorf("sent for another command is %+v", due)
	}
}

func restartSoon(w *world) {
	s := w.restartable()
	w.act(restarting(s.id))
	w.pass(fleet.RestartLife)
	w.gateway(s.gateway.ID, s.gateway.BootID)
	if due := w.dispatches(); len(due) != 0 {
		w.Errorf("sent too late is %+v", due)
	}
	w.act(restarting(s.id))
	w.claim(w.takeover(w.claimOf(s.agent, w.gateway("gw-2", 3)), fleet.TakeoverRestart)) // it has begun anew by itself
	for _, d := range w.dispatches() {
		if d.Kind == fleet.DispatchRestart {
			w.Errorf("sent to another session is %+v", d)
		}
	}
}

func restartTold(w *world) {
	s := w.restartable()
	for outcome, kind := range map[fleet.DeliveryOutcome]fleet.EventKind{
		fleet.Delivered: fleet.EventRestartSent, fleet.NotCapable: fleet.EventRestartRefused,
	} {
		w.record(fleet.Uplink{Delivery: &fleet.DeliveryReport{
			Tenant: w.tenant, Agent: s.id, Epoch: s.epoch, Gateway: s.gateway.ID, BootID: s.gateway.BootID, Kind: fleet.DispatchRestart, Outcome: outcome, At: w.now,
		}})
		if n := w.told(s.id, kind); n != 1 {
			w.Errorf("%s is told %d times", kind, n)
		}
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

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

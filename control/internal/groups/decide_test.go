// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// failing is a selector that fails for every agent with an id of 36 characters.
const failing = `1 / (agent.verified.id.size() - 36) == 1`

func dynamic(id fleet.GroupID, priority int, selector string) fleet.Group {
	return fleet.Group{ID: id, Priority: priority, Selector: selector}
}

func TestChoose(t *testing.T) {
	for name, c := range map[string]struct {
		groups []fleet.Group
		in     fleet.GroupID
		want   fleet.GroupID
		failed fleet.GroupID
	}{
		"nobody":                              {[]fleet.Group{dynamic("a", 0, "false")}, "", "", ""},
		"by the selector":                     {[]fleet.Group{dynamic("a", 0, "false"), dynamic("b", 0, "true")}, "", "b", ""},
		"by priority":                         {[]fleet.Group{dynamic("a", 0, "true"), dynamic("b", 1, "true")}, "", "b", ""},
		"by id where priorities are the same": {[]fleet.Group{dynamic("b", 1, "true"), dynamic("a", 1, "true")}, "", "a", ""},
		"out of one that comes after":         {[]fleet.Group{dynamic("a", 0, "true"), dynamic("b", 1, "true")}, "a", "b", ""},
		"out of one that does not want it":    {[]fleet.Group{dynamic("a", 0, "false")}, "a", "", ""},
		"a static group keeps it":             {[]fleet.Group{dynamic("a", 0, "true")}, "static", "static", ""},
		"a failure adds nobody":               {[]fleet.Group{dynamic("a", 1, failing)}, "", "", "a"},
		"a failure removes nobody":            {[]fleet.Group{dynamic("a", 1, failing), dynamic("b", 0, "true")}, "a", "a", "a"},
		"a failure leaves others be":          {[]fleet.Group{dynamic("a", 1, failing), dynamic("b", 0, "true")}, "", "b", "a"},
		"what does not compile fails":         {[]fleet.Group{dynamic("a", 1, "agent."), dynamic("b", 0, "true")}, "a", "a", "a"},
	} {
		agent := candidate()
		agent.Group = c.in
		failed := failures{}
		got, err := rulesOf(c.groups).choose(t.Context(), agent, failed)
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
		if _, is := failed[c.failed]; is != (c.failed != "") || len(failed) > 1 || is && failed[c.failed].Words == "" {
			t.Errorf("%s: failed are %v", name, failed)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := rulesOf([]fleet.Group{dynamic("a", 0, "true")}).choose(over, candidate(), failures{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is over: %v", err)
	}
}

// placed generates groups and agents that are placed into them.
func placed(t *rapid.T) (rules, []fleet.Placement) {
	var list []fleet.Group
	for i := range rapid.IntRange(1, 4).Draw(t, "groups") {
		g := dynamic(fleet.GroupID(fmt.Sprint("g", i)), 0, "true")
		g.Assigned = rapid.Bool().Draw(t, "assigned")
		if rapid.Bool().Draw(t, "default") {
			g.Default.Config = "c"
		}
		list = append(list, g)
	}
	anywhere := rapid.SampledFrom([]fleet.GroupID{"", "g0", "g1", "g2", "g3"})
	var placements []fleet.Placement
	for i := range rapid.IntRange(0, 20).Draw(t, "agents") {
		placements = append(placements, fleet.Placement{
			Agent: fleet.AgentID(fmt.Sprint("a", i)), From: anywhere.Draw(t, "from"), To: anywhere.Draw(t, "to"),
			Changed: rapid.Int64Range(0, 1).Draw(t, "changed"),
		})
	}
	return rulesOf(list), placements
}

// TestLotsHoldEveryChangeOnce, and those that join a group that changes them in one lot.
func TestLotsHoldEveryChangeOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		groups, placements := placed(t)
		in := map[fleet.GroupID]int{}
		var seen []fleet.Placement
		for i, lot := range lots(placements, groups) {
			seen = append(seen, lot...)
			for _, p := range lot {
				rule := slices.IndexFunc(groups, func(r rule) bool { return r.group.ID == p.To })
				if rule < 0 || p.From == p.To || !groups[rule].group.Gives() {
					continue
				}
				if other, known := in[p.To]; known && other != i {
					t.Fatalf("those that join %s are in lots %d and %d", p.To, other, i)
				}
				in[p.To] = i
			}
		}
		want := slices.DeleteFunc(placements, func(p fleet.Placement) bool { return p.From == p.To && p.Changed == 0 })
		byAgent := func(a, b fleet.Placement) int { return cmp.Compare(a.Agent, b.Agent) }
		slices.SortFunc(seen, byAgent)
		slices.SortFunc(want, byAgent)
		if !slices.Equal(seen, want) {
			t.Fatalf("lots hold %v, want %v", seen, want)
		}
	})
	many := make([]fleet.Placement, 2*placesAtOnce+1)
	for i := range many {
		many[i] = fleet.Placement{Agent: "a", To: "g"}
	}
	if got := lots(many, rulesOf([]fleet.Group{dynamic("g", 0, "true")})); len(got) != 3 || len(got[0]) != placesAtOnce || len(got[2]) != 1 {
		t.Errorf("%d lots", len(got))
	}
}

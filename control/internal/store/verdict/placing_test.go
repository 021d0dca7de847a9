// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict_test

import (
	"slices"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

func TestOfPlacing(t *testing.T) {
	in := map[fleet.AgentID]fleet.GroupID{"a": "", "b": "x", "c": "x", "d": "y", "e": ""}
	to := map[fleet.GroupID]fleet.Group{"open": {}, "full": {Default: fleet.DefaultConfig{Config: "c"}}}
	placed := verdict.OfPlacing(store.Placing{Limit: 1, Placements: []fleet.Placement{
		{Agent: "a", To: "open", Waited: "full", Changed: 7},
		{Agent: "b", From: "x", To: "full"},
		{Agent: "c", From: "x", To: "full", Changed: 8},
		{Agent: "d", From: "x", To: "open", Changed: 9},
		{Agent: "e", To: "gone", Changed: 10},
		{Agent: "f", To: "open", Changed: 11},
	}}, in, to)
	agents := func(list []fleet.Placement) (ids []fleet.AgentID) {
		for _, p := range list {
			ids = append(ids, p.Agent)
		}
		return ids
	}
	for name, c := range map[string]struct {
		got  []fleet.Placement
		want []fleet.AgentID
	}{
		"moves":    {placed.Moves, []fleet.AgentID{"a"}},
		"waiting":  {placed.Waiting, []fleet.AgentID{"b", "c"}},
		"admitted": {placed.Admitted, []fleet.AgentID{"a"}},
		"settled":  {placed.Settled, []fleet.AgentID{"f", "a", "c"}},
		"stale":    {placed.Stale, []fleet.AgentID{"d", "e"}},
	} {
		if got := agents(c.got); !slices.Equal(got, c.want) {
			t.Errorf("%s are %v, want %v", name, got, c.want)
		}
	}
	for _, p := range placed.Waiting {
		if p.Waits != "full" || p.To != p.From {
			t.Errorf("waits as %+v", p)
		}
	}
}

func TestByGroup(t *testing.T) {
	moves := []fleet.Placement{{Agent: "a", To: "g"}, {Agent: "b", From: "x", To: "g"}, {Agent: "c", To: "g"}, {Agent: "d", From: "g"}}
	got := verdict.ByGroup(moves)
	if len(got) != 3 || !slices.Equal(got[0].Agents, []fleet.AgentID{"a", "c"}) || got[1].From != "x" || got[2].To != "" {
		t.Errorf("parted into %+v", got)
	}
	if targets := verdict.Targets(append(moves, fleet.Placement{From: "h", To: "h"}, fleet.Placement{To: "f"})); !slices.Equal(targets, []fleet.GroupID{"f", "g"}) {
		t.Errorf("targets are %v", targets)
	}
}

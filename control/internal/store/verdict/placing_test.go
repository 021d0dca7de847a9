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

func TestWaits(t *testing.T) {
	given := fleet.DefaultConfig{Config: "c"}
	for name, c := range map[string]struct {
		group fleet.Group
		waits map[int]bool // by how many join
	}{
		"nothing to have":         {fleet.Group{MemberCount: 9}, map[int]bool{1: false, 4: false}},
		"an assignment":           {fleet.Group{Assigned: true, MemberCount: 9}, map[int]bool{1: false, 3: false, 4: true}},
		"a default":               {fleet.Group{Default: given}, map[int]bool{1: false, 3: false, 4: true}},
		"a rollout that goes on":  {fleet.Group{Assigned: true, Settling: true}, map[int]bool{1: true, 4: true}},
		"that, and a default too": {fleet.Group{Assigned: true, Settling: true, Default: given}, map[int]bool{1: true}},
	} {
		for joining, want := range c.waits {
			if got := verdict.Waits(c.group, joining, 3); got != want {
				t.Errorf("%s, %d join: %v", name, joining, got)
			}
		}
	}
}

func TestOfPlacing(t *testing.T) {
	in := map[fleet.AgentID]fleet.GroupID{"a": "", "b": "x", "c": "", "d": "y", "e": "", "g": "x", "h": "x"}
	to := map[fleet.GroupID]fleet.Group{"open": {}, "few": {Default: fleet.DefaultConfig{Config: "c"}}}
	placed := verdict.OfPlacing(store.Placing{Limit: 1, Placements: []fleet.Placement{
		{Agent: "a", To: "open", Changed: 7},
		{Agent: "b", From: "x", To: "few"},
		{Agent: "c", To: "few", Changed: 8},
		{Agent: "d", From: "x", To: "open", Changed: 9},
		{Agent: "e", To: "gone", Changed: 10},
		{Agent: "f", To: "open", Changed: 11},
		{Agent: "g", From: "x", To: "x", Changed: 12},
		{Agent: "h", From: "x"},
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
		"moves":   {placed.Moves, []fleet.AgentID{"a", "b", "c", "h"}},
		"settled": {placed.Settled, []fleet.AgentID{"a", "c", "f", "g"}},
		"stale":   {placed.Stale, []fleet.AgentID{"d", "e"}},
	} {
		if got := agents(c.got); !slices.Equal(got, c.want) {
			t.Errorf("%s are %v, want %v", name, got, c.want)
		}
	}
	if !placed.Waits["few"] || placed.Waits["open"] || placed.Waits[""] {
		t.Errorf("who joins waits in %v", placed.Waits)
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

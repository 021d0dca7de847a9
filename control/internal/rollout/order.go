// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// ordered is the order in which agents are let in. There are no ties: ids decide them.
func ordered(by fleet.Order, candidates []fleet.RolloutCandidate) []fleet.RolloutCandidate {
	keys := keysOf(by, candidates)
	order := make([]int, len(candidates))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := candidates[i], candidates[j]
		return cmp.Or(
			cmp.Compare(keys[i].share, keys[j].share), cmp.Compare(keys[i].name, keys[j].name), cmp.Compare(keys[i].drawn, keys[j].drawn),
			cmp.Compare(a.Agent, b.Agent),
		)
	})
	list := make([]fleet.RolloutCandidate, len(candidates))
	for to, from := range order {
		list[to] = candidates[from]
	}
	return list
}

// key is what an agent is ordered by, first field first.
type key struct {
	share float64
	name  string
	drawn uint64
}

func keysOf(by fleet.Order, candidates []fleet.RolloutCandidate) []key {
	keys := make([]key, len(candidates))
	for i, c := range candidates {
		switch by.Kind {
		case fleet.OrderHostName:
			keys[i].name = c.HostName
		case fleet.OrderLastSeen:
			keys[i].share = -float64(c.LastSeenAt.UnixMicro())
		case fleet.OrderRandom, fleet.OrderSpread:
			keys[i].drawn = chance(by.Seed, string(c.Agent))
		}
	}
	if by.Kind == fleet.OrderSpread {
		spread(keys, candidates)
	}
	return keys
}

// spread lets each value of the label take turns by how many agents it has: of any part of the order each value has about
// its share, so that a wave takes as much of a small site as of a large one.
func spread(keys []key, candidates []fleet.RolloutCandidate) {
	byValue := map[string][]int{}
	for i, c := range candidates {
		byValue[c.Spread] = append(byValue[c.Spread], i)
	}
	for value, of := range byValue {
		slices.SortFunc(of, func(i, j int) int {
			return cmp.Or(cmp.Compare(keys[i].drawn, keys[j].drawn), cmp.Compare(candidates[i].Agent, candidates[j].Agent))
		})
		for turn, i := range of {
			keys[i].share, keys[i].name = (float64(turn)+0.5)/float64(len(of)), value
		}
	}
}

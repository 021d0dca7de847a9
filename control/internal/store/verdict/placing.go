// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"maps"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Waits says whether agents that join a group by one act, so many, wait there for a rollout to let them have what it
// gives: more than limit would change at once, or what the group gives is on its way by a rollout.
func Waits(g fleet.Group, joining, limit int) bool {
	return g.Settling || g.Gives() && joining > limit
}

// Placed is what becomes of a lot of placements.
type Placed struct {
	// Moves are of agents that go from one group to another, or to none.
	Moves []fleet.Placement
	// Waits are the groups in which those wait that join.
	Waits map[fleet.GroupID]bool
	// Settled had notes, which are; Stale are not where they were, and are looked at again.
	Settled, Stale []fleet.Placement
}

// Targets are the groups that a lot puts agents into, in the order in which they are locked.
func Targets(placements []fleet.Placement) []fleet.GroupID {
	targets := map[fleet.GroupID]bool{}
	for _, p := range placements {
		if p.To != "" && p.To != p.From {
			targets[p.To] = true
		}
	}
	return slices.Sorted(maps.Keys(targets))
}

// OfPlacing decides what becomes of placements. in are the groups that the agents are in, locked, of those that there
// are; to are the groups they go to, as far as they are not deleted.
func OfPlacing(p store.Placing, in map[fleet.AgentID]fleet.GroupID, to map[fleet.GroupID]fleet.Group) Placed {
	placed := Placed{Waits: map[fleet.GroupID]bool{}}
	joining := map[fleet.GroupID]int{}
	for _, placement := range p.Placements {
		from, there := in[placement.Agent]
		_, living := to[placement.To]
		switch moves := placement.From != placement.To; {
		case !there:
			placed.Settled = append(placed.Settled, placement)
			continue
		case from != placement.From || moves && placement.To != "" && !living:
			placed.Stale = append(placed.Stale, placement)
			continue
		case moves:
			placed.Moves = append(placed.Moves, placement)
			joining[placement.To]++
		}
		if placement.Changed != 0 {
			placed.Settled = append(placed.Settled, placement)
		}
	}
	for id, n := range joining {
		placed.Waits[id] = Waits(to[id], n, p.Limit)
	}
	return placed
}

// Move is what goes from one group to another, "" for none.
type Move struct {
	From, To fleet.GroupID
	Agents   []fleet.AgentID
}

// ByGroup parts moves by where they come from and go to, in that order; each lists its agents in theirs.
func ByGroup(moves []fleet.Placement) (parted []Move) {
	of := map[[2]fleet.GroupID]int{}
	for _, m := range moves {
		key := [2]fleet.GroupID{m.From, m.To}
		i, known := of[key]
		if !known {
			i = len(parted)
			of[key], parted = i, append(parted, Move{From: m.From, To: m.To})
		}
		parted[i].Agents = append(parted[i].Agents, m.Agent)
	}
	return parted
}

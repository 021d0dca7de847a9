// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"maps"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Placed is what becomes of a lot of placements.
type Placed struct {
	// Moves are of agents that go from one group to another, or to none.
	Moves []fleet.Placement
	// Waiting wait from now on, or still, for the group Waits; Admitted wait no more.
	Waiting, Admitted []fleet.Placement
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
	var placed Placed
	joining := map[fleet.GroupID]int{}
	var fresh []fleet.Placement
	for _, placement := range p.Placements {
		from, there := in[placement.Agent]
		_, living := to[placement.To]
		switch moves := placement.From != placement.To; {
		case !there:
			placed.Settled = append(placed.Settled, placement)
		case from != placement.From || moves && placement.To != "" && !living:
			placed.Stale = append(placed.Stale, placement)
		default:
			fresh = append(fresh, placement)
			if moves && placement.To != "" {
				joining[placement.To]++
			}
		}
	}
	for _, placement := range fresh {
		placed.add(placement, placement.To == "" || placement.To == placement.From || to[placement.To].Admits(joining[placement.To], p.Limit))
	}
	return placed
}

// add takes a placement that is not stale; who is not admitted waits where it is.
func (placed *Placed) add(p fleet.Placement, admitted bool) {
	if !admitted {
		p.To, p.Waits = p.From, p.To
	}
	if p.From != p.To {
		placed.Moves = append(placed.Moves, p)
	}
	switch {
	case p.Waits != "":
		placed.Waiting = append(placed.Waiting, p)
	case p.Waited != "":
		placed.Admitted = append(placed.Admitted, p)
	}
	if p.Changed != 0 {
		placed.Settled = append(placed.Settled, p)
	}
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

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"cmp"
	"context"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/fault"
)

// rule is a dynamic group with its selector. One that does not compile fails for every agent.
type rule struct {
	group    fleet.Group
	selector Selector
	broken   error
}

// rules are the dynamic groups of a tenant, in the order in which they choose.
type rules []rule

// rulesOf compiles the selectors of groups, whatever their order.
func rulesOf(groups []fleet.Group) rules {
	list := make(rules, len(groups))
	for i, g := range groups {
		selector, err := Compile(g.Selector)
		list[i] = rule{group: g, selector: selector, broken: err}
	}
	slices.SortFunc(list, func(a, b rule) int {
		return cmp.Or(cmp.Compare(b.group.Priority, a.group.Priority), cmp.Compare(a.group.ID, b.group.ID))
	})
	return list
}

// candidacy is what must be read of agents to decide by the rules.
func (r rules) candidacy() store.Candidacy {
	working := func(reads func(Selector) bool) bool {
		return slices.ContainsFunc(r, func(one rule) bool { return one.broken == nil && reads(one.selector) })
	}
	return store.Candidacy{Tags: working(Selector.readsTags), Labels: working(Selector.readsLabels)}
}

func (r rules) has(id fleet.GroupID) bool {
	return slices.ContainsFunc(r, func(one rule) bool { return one.group.ID == id })
}

// failures counts what selectors failed of.
type failures map[fleet.GroupID]fleet.SelectorFailure

func (f failures) add(id fleet.GroupID, err error) {
	one := f[id]
	one.Agents++
	one.Words = cmp.Or(one.Words, fault.From(err).Message)
	f[id] = one
}

// choose is the group that an agent belongs into, by the rules. It fails only with its context.
func (r rules) choose(ctx context.Context, c fleet.Candidate, failed failures) (fleet.GroupID, error) {
	if c.Group != "" && !r.has(c.Group) {
		return c.Group, nil // of a static group
	}
	for _, one := range r {
		yes, err := one.matches(ctx, c)
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case err != nil:
			failed.add(one.group.ID, err)
			if c.Group == one.group.ID {
				return c.Group, nil
			}
		case yes:
			return one.group.ID, nil
		}
	}
	return "", nil
}

func (r rule) matches(ctx context.Context, c fleet.Candidate) (bool, error) {
	if r.broken != nil {
		return false, r.broken
	}
	return r.selector.Matches(ctx, c)
}

// placesAtOnce is how many agents are placed in one transaction: reports of theirs wait for it.
const placesAtOnce = 1000

// lots parts the placements that change something. Those who join a group that changes them are one lot: whether they wait
// there depends on how many join at once.
func lots(placements []fleet.Placement, groups rules) (parted [][]fleet.Placement) {
	giving := map[fleet.GroupID][]fleet.Placement{}
	for _, r := range groups {
		if r.group.Gives() {
			giving[r.group.ID] = nil
		}
	}
	var others []fleet.Placement
	for _, p := range placements {
		if p.To == p.From && p.Changed == 0 {
			continue
		}
		if _, together := giving[p.To]; together && p.To != p.From {
			giving[p.To] = append(giving[p.To], p)
		} else {
			others = append(others, p)
		}
	}
	for _, r := range groups {
		if lot := giving[r.group.ID]; len(lot) > 0 {
			parted = append(parted, lot)
		}
	}
	return slices.AppendSeq(parted, slices.Chunk(others, placesAtOnce))
}

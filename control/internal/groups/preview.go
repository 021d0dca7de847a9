// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"context"
	"fmt"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Previewed is what a selector would do.
type Previewed struct {
	// Agents were looked at. Matched are those that the selector says yes to: each is a member already, explicitly in a
	// static group, chosen by a group that comes before, or would join.
	Agents, Matched, Members, Explicit, Elsewhere, Joining int
	// From counts those that would join by the group they would leave, "" for none.
	From    map[fleet.GroupID]int
	Failing fleet.SelectorFailure
	// Sample are the first that match.
	Sample []fleet.Candidate
}

// Preview evaluates a group, new or in the place of the one with its id, over the whole tenant, and changes nothing. Errors
// are those of Compile, of the store and of the context.
func Preview(ctx context.Context, s store.Grouping, tenant fleet.TenantID, proposed fleet.Group, sample int) (Previewed, error) {
	if _, err := Compile(proposed.Selector); err != nil {
		return Previewed{}, err
	}
	choosers, err := s.Choosers(ctx, tenant)
	if err != nil {
		return Previewed{}, fmt.Errorf("preview a selector: %w", err)
	}
	others := slices.DeleteFunc(choosers.Groups, func(g fleet.Group) bool { return g.ID == proposed.ID })
	all := rulesOf(append(others, proposed))
	own := all[slices.IndexFunc(all, func(r rule) bool { return r.group.ID == proposed.ID })]
	seen := Previewed{From: map[fleet.GroupID]int{}}
	failing, quiet := failures{}, failures{}
	err = eachCandidate(ctx, s, tenant, all.candidacy(), func(c fleet.Candidate) error {
		seen.Agents++
		yes, err := own.matches(ctx, c)
		if err != nil && ctx.Err() == nil {
			failing.add(proposed.ID, err)
		}
		if !yes {
			return ctx.Err() //nolint:wrapcheck // told as it is
		}
		chosen, err := all.choose(ctx, c, quiet)
		seen.match(c, all, chosen, proposed.ID, sample)
		return err
	})
	seen.Failing = failing[proposed.ID]
	return seen, err
}

func (p *Previewed) match(c fleet.Candidate, all rules, chosen, proposed fleet.GroupID, sample int) {
	p.Matched++
	if len(p.Sample) < sample {
		p.Sample = append(p.Sample, c)
	}
	switch {
	case c.Group != "" && !all.has(c.Group):
		p.Explicit++
	case chosen != proposed:
		p.Elsewhere++
	case c.Group == proposed:
		p.Members++
	default:
		p.Joining++
		p.From[c.Group]++
	}
}

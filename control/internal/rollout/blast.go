// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// BlastLimit is how many values of labels a plan tells the blast radius of.
const BlastLimit = 50

// blast is how many agents of each value of a label the rollout changes, of how many there are; most first.
func blast(all, changed []fleet.RolloutCandidate) []fleet.BlastRadius {
	type value struct{ label, value string }
	radius := map[value]*fleet.BlastRadius{}
	each := func(list []fleet.RolloutCandidate, count func(*fleet.BlastRadius)) {
		for _, c := range list {
			for label, text := range c.Blast {
				of := value{label, text}
				if radius[of] == nil {
					radius[of] = &fleet.BlastRadius{Label: label, Value: text}
				}
				count(radius[of])
			}
		}
	}
	each(all, func(b *fleet.BlastRadius) { b.Of++ })
	each(changed, func(b *fleet.BlastRadius) { b.Agents++ })
	var list []fleet.BlastRadius
	for _, b := range radius {
		if b.Agents > 0 {
			list = append(list, *b)
		}
	}
	slices.SortFunc(list, func(a, b fleet.BlastRadius) int {
		return cmp.Or(cmp.Compare(b.Agents, a.Agents), cmp.Compare(a.Label, b.Label), cmp.Compare(a.Value, b.Value))
	})
	return list[:min(len(list), BlastLimit)]
}

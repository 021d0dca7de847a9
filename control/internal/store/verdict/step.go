// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// OffersInQuestion are the offers whose attempts belong to a situation: assigned, granted, reported and last good.
func OffersInQuestion(s fleet.Situation) [][]byte {
	offers := [][]byte{}
	for _, v := range []*fleet.VersionRef{s.Assigned, s.LastGood} {
		if v != nil {
			offers = append(offers, v.Offer[:])
		}
	}
	if s.Grant != nil {
		offers = append(offers, s.Grant.Version.Offer[:])
	}
	if reported, err := fleet.OfferHashFrom(s.Status.LastOffer); err == nil {
		offers = append(offers, reported[:])
	}
	return offers
}

// Allowed reports whether a step may take the situation's grant to the state it gives it, by fleet.GrantTransitions.
func Allowed(s fleet.Situation, step fleet.Step) bool {
	switch {
	case step.Grant == nil:
		return true
	case s.Grant == nil:
		return step.Grant.State == fleet.GrantOpen
	default:
		return slices.Contains(fleet.GrantTransitions[s.Grant.State], step.Grant.State)
	}
}

// StillStands reports whether a step decided on the situation may be done now that the agent's grant has the generation
// and its row the remarks: a remark that came since, of a quarantine say, must not be written over.
func StillStands(s fleet.Situation, generation fleet.Generation, attention []fleet.Attention) bool {
	expected := fleet.Generation(0)
	if s.Grant != nil {
		expected = s.Grant.Generation
	}
	same := func(a, b fleet.Attention) bool {
		return a.Reason == b.Reason && a.Message == b.Message && a.Since.Equal(b.Since)
	}
	return generation == expected && slices.EqualFunc(s.Attention, attention, same)
}

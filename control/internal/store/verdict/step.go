// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"fmt"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// OffersInQuestion are the offers whose attempts belong to a situation: assigned, granted, reported and last good.
func OffersInQuestion(s fleet.Situation) []fleet.OfferHash {
	var offers []fleet.OfferHash
	add := func(offer fleet.OfferHash) {
		if !slices.Contains(offers, offer) {
			offers = append(offers, offer)
		}
	}
	for _, v := range []*fleet.VersionRef{s.Assigned, s.LastGood} {
		if v != nil {
			add(v.Offer)
		}
	}
	if s.Grant != nil {
		add(s.Grant.Version.Offer)
	}
	if reported, err := fleet.OfferHashFrom(s.Status.LastOffer); err == nil {
		add(reported)
	}
	return offers
}

// Rendered is a situation in which the template that is assigned is what it became; one in which something else is assigned
// stays as it is.
func Rendered(s fleet.Situation, v fleet.VersionRef) fleet.Situation {
	if a := s.Assigned; a != nil && a.Templated && a.Config == v.Config && a.Version == v.Version {
		s.Assigned = &v
	}
	return s
}

// Standing is what is on record of an agent, locked, when a step is about to be done.
type Standing struct {
	Attention  []fleet.Attention
	Generation fleet.Generation // of the grant; 0: none
	Version    int64            // of the work item
	// Cleared is when lines of the ledger were cleared; a line that was not, or is none, is not in it.
	Cleared map[fleet.OfferHash]time.Time
}

// OfSteps parts what may be done from what may not: the steps to do, and for each decision why it is not among them.
// Standings that are missing are of agents that are gone.
func OfSteps(decided []store.Decision, on map[fleet.AgentID]*Standing) (todo []store.Decision, outcomes []error) {
	outcomes = make([]error, len(decided))
	done := make(map[fleet.AgentID]bool, len(decided))
	for i, d := range decided {
		agent := d.Item.Agent
		switch now := on[agent]; {
		case now == nil || done[agent] || !now.bears(d):
			outcomes[i] = fmt.Errorf("step for agent %s: %w", agent, store.ErrConflict)
		case !allowed(d, now.Generation):
			outcomes[i] = fmt.Errorf("grant of agent %s cannot become %s under generation %d: %w",
				agent, d.Step.Grant.State, d.Step.Grant.Generation, store.ErrState)
		default:
			todo, done[agent] = append(todo, d), true
		}
	}
	return todo, outcomes
}

// bears reports whether what the step was decided on is still so: neither woken nor claimed since, the same grant, the
// same remarks (one that came since, of a quarantine say, must not be written over), no line cleared.
func (now *Standing) bears(d store.Decision) bool {
	expected := fleet.Generation(0)
	if d.On.Grant != nil {
		expected = d.On.Grant.Generation
	}
	same := func(a, b fleet.Attention) bool {
		return a.Reason == b.Reason && a.Message == b.Message && a.Since.Equal(b.Since)
	}
	cleared := func(a fleet.Attempt) bool {
		return !now.Cleared[a.Version.Offer].Equal(d.On.Attempts[a.Version.Offer].ClearedAt)
	}
	return now.Version == d.Item.Version && now.Generation == expected &&
		slices.EqualFunc(d.On.Attention, now.Attention, same) && !slices.ContainsFunc(d.Step.Attempts, cleared)
}

// allowed reports whether the step may take the grant to the state it gives it, by fleet.GrantTransitions, and its
// generation does not go back.
func allowed(d store.Decision, generation fleet.Generation) bool {
	switch next := d.Step.Grant; {
	case next == nil:
		return true
	case next.Generation < max(generation, 1):
		return false
	case d.On.Grant == nil:
		return next.State == fleet.GrantOpen
	default:
		return slices.Contains(fleet.GrantTransitions[d.On.Grant.State], next.State)
	}
}

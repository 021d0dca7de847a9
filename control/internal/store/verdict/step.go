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

// OffersInQuestion are the offers whose attempts belong to a situation: assigned, settled, granted, reported and last good.
func OffersInQuestion(s fleet.Situation) []fleet.OfferHash {
	var offers []fleet.OfferHash
	add := func(offer fleet.OfferHash) {
		if !slices.Contains(offers, offer) {
			offers = append(offers, offer)
		}
	}
	for _, v := range []*fleet.VersionRef{s.Assigned, s.Settled, s.LastGood} {
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

// Rendered is a situation in which the template that is assigned, or was before, is what it became; one in which something
// else is assigned stays as it is.
func Rendered(s fleet.Situation, v fleet.VersionRef) fleet.Situation {
	of := func(a *fleet.VersionRef) bool {
		return a != nil && a.Templated && a.Config == v.Config && a.Version == v.Version
	}
	if of(s.Assigned) {
		s.Assigned = &v
	}
	if of(s.Settled) {
		s.Settled = &v
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
	// Member is the revision of what stands of the agent in the rollout that the step was decided under, and Under that
	// rollout as it is.
	Member int64
	Under  fleet.Under
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
		case !memberAllowed(d):
			outcomes[i] = fmt.Errorf("member %s cannot become %s: %w", agent, d.Step.Member.State, store.ErrState)
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
	return now.Version == d.Item.Version && now.Generation == expected && now.bearsMember(d) &&
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

// bearsMember reports whether the agent's place in its rollout is still so: what is seen of it if the step writes that, and
// if the step sends something, whether the rollout is what it was, as closing one raises its generation.
func (now *Standing) bearsMember(d store.Decision) bool {
	on := d.On.Member
	switch {
	case on == nil:
		return d.Step.Member == nil
	case now.Member != on.Revision && (d.Step.Member != nil || d.Step.Send):
		return false
	default:
		return !d.Step.Send || now.Under.State == d.On.Under.State && now.Under.Generation == d.On.Under.Generation
	}
}

// memberAllowed reports whether the step may make of the member what it says, by fleet.MemberTransitions.
func memberAllowed(d store.Decision) bool {
	next := d.Step.Member
	return next == nil || next.State == d.On.Member.State || slices.Contains(fleet.MemberTransitions[d.On.Member.State], next.State)
}

// MemberChanges are what the steps change of members.
func MemberChanges(todo []store.Decision) (changes []MemberChange) {
	for _, d := range todo {
		if d.Step.Member != nil {
			is := *d.Step.Member
			is.Rollout, is.Agent, is.Wave, is.Position = d.On.Member.Rollout, d.On.Member.Agent, d.On.Member.Wave, d.On.Member.Position
			changes = append(changes, Changed(*d.On.Member, is))
		}
	}
	return changes
}

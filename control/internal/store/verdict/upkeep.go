// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"maps"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// UpkeepAgents are agents of one tenant.
type UpkeepAgents struct {
	Tenant fleet.TenantID
	Agents []fleet.AgentID
}

// UpkeepByTenant parts agents by tenant, ascending.
func UpkeepByTenant(found []fleet.Upkeep) (parted []UpkeepAgents) {
	of := map[fleet.TenantID][]fleet.AgentID{}
	for _, u := range found {
		of[u.Tenant] = append(of[u.Tenant], u.Agent)
	}
	for _, tenant := range slices.Sorted(maps.Keys(of)) {
		parted = append(parted, UpkeepAgents{tenant, of[tenant]})
	}
	return parted
}

// SortUpkeep puts what is known of agents into the order in which they were found.
func SortUpkeep(known, found []fleet.Upkeep) {
	type key struct {
		tenant fleet.TenantID
		agent  fleet.AgentID
	}
	place := make(map[key]int, len(found))
	for i, u := range found {
		place[key{u.Tenant, u.Agent}] = i
	}
	slices.SortFunc(known, func(a, b fleet.Upkeep) int { return place[key{a.Tenant, a.Agent}] - place[key{b.Tenant, b.Agent}] })
}

// UpkeepStanding is what is on record of an agent, locked, when a step about its certificate is about to be done.
type UpkeepStanding struct {
	Version   int64
	Epoch     fleet.Epoch
	Open      bool
	Attention []fleet.Attention
}

// Remarks are those of the agent after a step, and whether they are others than before.
func (on *UpkeepStanding) Remarks(step fleet.UpkeepStep) (list []fleet.Attention, changed bool) {
	list = fleet.WithUpkeep(on.Attention, step.Remark)
	return list, !slices.Equal(list, on.Attention)
}

// OfUpkeep are the decisions that may be done: what they were decided on is still so.
func OfUpkeep(decided []store.UpkeepDecision, on map[fleet.AgentID]*UpkeepStanding) (todo []store.UpkeepDecision) {
	done := make(map[fleet.AgentID]bool, len(decided))
	for _, d := range decided {
		now := on[d.On.Agent]
		if now == nil || done[d.On.Agent] || now.Version != d.On.Version || d.Step.Offer && (!now.Open || now.Epoch != d.On.Epoch) {
			continue
		}
		done[d.On.Agent] = true
		todo = append(todo, d)
	}
	return todo
}

// OfOfferAgain says why an agent is not to be offered certificates anew; empty: it is. on is nil if it never showed one.
func OfOfferAgain(on *fleet.Upkeep, at time.Time) (reason string) {
	switch {
	case on == nil:
		return fleet.RefusedNotShown
	case on.Method != fleet.EnrolledByServerKey:
		return fleet.RefusedKeepsKey
	case on.Quarantined:
		return fleet.RefusedQuarantined
	case !on.RevokedAt.IsZero():
		return fleet.RefusedRevoked
	case !at.Before(on.NotAfter):
		return fleet.RefusedExpired
	case !on.TakesSettings:
		return fleet.RefusedNoSettings
	case on.Offers == 0 && !slices.ContainsFunc(on.Attention, func(a fleet.Attention) bool { return a.Reason == fleet.AttentionCertificate }):
		return fleet.RefusedNotOffered
	default:
		return ""
	}
}

// UpkeepOffers are the decisions that make an offer.
func UpkeepOffers(decided []store.UpkeepDecision) (offers []store.UpkeepDecision) {
	for _, d := range decided {
		if d.Step.Offer {
			offers = append(offers, d)
		}
	}
	return offers
}

// UpkeepTold is what the history and the audit log say of what was done.
func UpkeepTold(done []store.UpkeepDecision) (events []fleet.Event, entries []trail.Entry) {
	for _, d := range done {
		for _, e := range d.Step.Events {
			events = append(events, e)
			if e.Kind == fleet.EventCertificateAttention {
				entries = append(entries, trail.CertificateAttention(e))
			}
		}
	}
	return events, entries
}

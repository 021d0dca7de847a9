// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"maps"
	"slices"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// Claims are claims of one tenant, in the order they came, with what must be read to judge them.
type Claims struct {
	Tenant fleet.TenantID
	List   []fleet.Claim
	// Places of the claims among all that came.
	Places []int
	// Serials and UIDs they name, each once.
	Serials []fleet.Serial
	UIDs    []fleet.InstanceUID
}

// ClaimsByTenant parts claims by tenant, ascending.
func ClaimsByTenant(claims []fleet.Claim) (parted []Claims) {
	tenants := map[fleet.TenantID]*Claims{}
	for i, c := range claims {
		if tenants[c.Tenant] == nil {
			tenants[c.Tenant] = &Claims{Tenant: c.Tenant}
		}
		of := tenants[c.Tenant]
		of.List, of.Places = append(of.List, c), append(of.Places, i)
	}
	for _, tenant := range slices.Sorted(maps.Keys(tenants)) {
		parted = append(parted, tenants[tenant].named())
	}
	return parted
}

func (c *Claims) named() Claims {
	serials, uids := map[fleet.Serial]bool{}, map[fleet.InstanceUID]bool{}
	for _, claim := range c.List {
		serials[claim.Serial], uids[claim.UID] = true, true
	}
	c.Serials, c.UIDs = slices.Collect(maps.Keys(serials)), slices.Collect(maps.Keys(uids))
	return *c
}

// Roll is what is on record about claims, with the rows of their agents locked. Judge moves it on.
type Roll struct {
	Certificates map[fleet.Serial]*fleet.Certificate
	// Seats are the agents whose certificates the claims come with, and those of their children that the claims speak as.
	Seats map[fleet.AgentID]*Seat
	// Owners are the agents that uids are bound to: one of Seats, or a stranger, of whom no more than the ids is known.
	Owners map[fleet.InstanceUID]*Seat
	// Children is how many agents each of Seats speaks for.
	Children map[fleet.AgentID]int
	// Gateways are the processes that claim.
	Gateways map[fleet.GatewayID]fleet.Gateway
}

// Certified are the agents, each once, whose certificates the claims come with; no others need to be looked at.
func (r *Roll) Certified(claims []fleet.Claim) []fleet.AgentID {
	agents := map[fleet.AgentID]bool{}
	for _, c := range claims {
		if r.certificate(c) != nil {
			agents[c.Identity] = true
		}
	}
	return slices.Sorted(maps.Keys(agents))
}

// Showing are the agents, each once, with another certificate among the claims than they showed last.
func (r *Roll) Showing(claims []fleet.Claim) []fleet.AgentID {
	agents := map[fleet.AgentID]bool{}
	for _, c := range claims {
		if at := r.Seats[c.Identity]; at != nil && at.Serial != c.Serial {
			agents[c.Identity] = true
		}
	}
	return slices.Sorted(maps.Keys(agents))
}

func (r *Roll) certificate(c fleet.Claim) *fleet.Certificate {
	if known := r.Certificates[c.Serial]; known != nil && known.Agent == c.Identity {
		return known
	}
	return nil
}

// Judged is what becomes of claims: what their gateway gets to hear, and what is to be written.
type Judged struct {
	Results []fleet.ClaimResult // in the order of the claims
	// Born are new agents, seated besides.
	Born []fleet.Agent
	// Bound are uids that are their agents' from now on.
	Bound []Binding
	// Seated are the agents that got a session, each once: the last claim's.
	Seated []Seated
	// Left are agents whose former sessions several gateways may have served: none of them does any more.
	Left []fleet.AgentID
	// Shared are sessions that one gateway more serves from now on, each once.
	Shared []Seated
	// Seen are agents whose certificate was used first; those that were seated among them.
	Seen []Seated
	// Quarantined are agents that are refused from now on.
	Quarantined []Quarantined
	// Shown are agents that show another certificate of their own than before, each once.
	Shown []Seated

	Events   []fleet.Event
	Entries  []Told
	Refusals []fleet.Refusal
}

// Binding is a uid that is an agent's.
type Binding struct {
	Agent fleet.AgentID
	Claim fleet.Claim
}

// Seated is an agent with the claim by which it got its session, shares it, or was seen, and its row as it is then.
type Seated struct {
	*Seat
	Claim fleet.Claim
	// Former is the session before the one it got, as far as it was heard: what was said up to there still counts.
	Former fleet.Heard
}

// Quarantined is an agent's row as it is after the claim that was one takeover too many.
type Quarantined struct {
	*Seat
	Claim fleet.Claim
}

// Told is an entry of the audit log and who did it.
type Told struct {
	By    fleet.By
	Entry trail.Entry
}

// Judge decides the claims, one after the other, by OfClaim: each finds what those before it left. mint makes the id of an
// agent that is born.
func (r *Roll) Judge(claims []fleet.Claim, mint func() fleet.AgentID) Judged {
	j := Judged{Results: make([]fleet.ClaimResult, len(claims))}
	for i, c := range claims {
		v := OfClaim(c, r.about(c))
		if v.NewChild {
			v.Seat = r.bear(&j, c, mint())
		}
		j.Results[i] = v.Result()
		switch {
		case v.Shared:
			r.share(&j, c, v.Seat)
		case v.Outcome == fleet.ClaimClaimed:
			j.Results[i].AfterOffer = v.Seat.Serial != c.Serial && v.Seat.Given == c.Serial
			r.sit(&j, c, v)
		case v.Outcome == fleet.ClaimRefused:
			r.refuse(&j, c, v)
		}
	}
	return j
}

// about is what is on record about a claim.
func (r *Roll) about(c fleet.Claim) Claimed {
	certificate := r.certificate(c)
	if certificate == nil {
		return Claimed{} // which is refused, without anything else being looked at
	}
	return Claimed{Certificate: certificate, Identity: r.Seats[c.Identity], Owner: r.Owners[c.UID], Children: r.Children[c.Identity]}
}

// bear makes the agent of a uid that the identity speaks for.
func (r *Roll) bear(j *Judged, c fleet.Claim, id fleet.AgentID) *Seat {
	child, entry, event := trail.Child(c, id)
	j.Born, j.Events = append(j.Born, child), append(j.Events, event)
	j.Entries = append(j.Entries, Told{trail.Claimant(c), entry})
	r.Seats[id] = &Seat{Agent: id, Method: child.Method, Parent: child.Parent}
	r.Children[c.Identity]++
	return r.Seats[id]
}

// share lets one gateway more serve the session of an agent that polls.
func (r *Roll) share(j *Judged, c fleet.Claim, at *Seat) {
	if c.Gateway == at.Gateway && c.BootID == at.BootID {
		return
	}
	if lease := r.Gateways[c.Gateway].LeaseUntil; lease.After(at.LeaseUntil) {
		at.LeaseUntil = lease
	}
	if !slices.ContainsFunc(j.Shared, func(s Seated) bool { return s.Seat == at && s.Claim.Gateway == c.Gateway }) {
		j.Shared = append(j.Shared, Seated{Seat: at, Claim: c})
	}
}

// sit gives the agent its session under the next epoch. Of the former it keeps how far it counts.
func (r *Roll) sit(j *Judged, c fleet.Claim, v Seating) {
	at := v.Seat
	j.Events = append(j.Events, at.Telling.Tell(trail.Connected(c, at.Agent, at.Open))...)
	if v.Bind {
		j.Bound = append(j.Bound, Binding{at.Agent, c})
		r.Owners[c.UID] = at
	}
	if at.Transport == fleet.TransportHTTP {
		j.Left = append(j.Left, at.Agent)
		j.Shared = slices.DeleteFunc(j.Shared, func(s Seated) bool { return s.Seat == at })
	}
	r.show(j, c, at)
	seated := Seated{at, c, fleet.Heard{Gateway: at.Gateway, BootID: at.BootID, Epoch: at.Epoch, Sequence: v.Sequence, Whole: v.Whole}}
	at.Epoch, at.UID, at.Gateway, at.BootID, at.Transport = at.Epoch+1, c.UID, c.Gateway, c.BootID, c.Transport
	at.Open, at.LeaseUntil, at.LastSequence, at.StateKnown = true, r.Gateways[c.Gateway].LeaseUntil, 0, v.Whole
	if v.Takeovers != nil {
		at.Takeovers = v.Takeovers
	}
	for _, seen := range []*Seat{at, r.Seats[c.Identity]} {
		if seen.FirstSeenAt.IsZero() {
			seen.FirstSeenAt = c.At
			j.Seen = append(j.Seen, Seated{Seat: seen, Claim: c})
		}
	}
	if i := slices.IndexFunc(j.Seated, func(s Seated) bool { return s.Seat == at }); i >= 0 {
		j.Seated[i] = seated
		return
	}
	j.Seated = append(j.Seated, seated)
}

// show notes that an agent shows another certificate. One that a parent speaks for shows the parent's.
func (r *Roll) show(j *Judged, c fleet.Claim, at *Seat) {
	if at.Serial == c.Serial {
		return
	}
	if at.Parent == "" && at.Serial != "" {
		j.Events = append(j.Events, trail.CertificateInUse(c, at.Serial))
	}
	at.Serial = c.Serial
	if at.Parent != "" {
		return
	}
	j.Shown = slices.DeleteFunc(j.Shown, func(s Seated) bool { return s.Seat == at })
	j.Shown = append(j.Shown, Seated{Seat: at, Claim: c})
}

// refuse counts the refusal, and quarantines the agent if it was one takeover too many: nobody knows which of them is the
// clone, so the session that is open is closed as well.
func (r *Roll) refuse(j *Judged, c fleet.Claim, v Seating) {
	j.Refusals = append(j.Refusals, trail.Refusal(c, v.Reason))
	if !v.Quarantine {
		return
	}
	remark, entry, event := trail.Quarantined(c, v.Seat.Agent)
	at := v.Seat
	at.QuarantinedAt, at.Takeovers, at.Attention = c.At, v.Takeovers, fleet.WithAttention(at.Attention, remark)
	j.Quarantined, j.Events = append(j.Quarantined, Quarantined{at, c}), append(j.Events, event)
	j.Entries = append(j.Entries, Told{fleet.System(c.Tenant, c.At), entry})
}

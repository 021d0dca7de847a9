// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// Uplinks are messages about agents of one tenant, in the order they came, with what must be read to judge them.
type Uplinks struct {
	Tenant fleet.TenantID
	List   []fleet.Uplink
	// Agents and Bodies they name, each once; agents ascending, the order in which their rows are locked.
	Agents []fleet.AgentID
	Bodies []fleet.ContentHash
}

// ByTenant parts a record's uplinks by tenant, ascending, and counts those that say nothing, or come from a gateway that
// is revoked.
func ByTenant(uplinks []fleet.Uplink, revoked []fleet.GatewayID) (parted []Uplinks, empty int) {
	tenants := map[fleet.TenantID]*Uplinks{}
	for _, u := range uplinks {
		tenant, _ := about(u)
		if tenant == "" || slices.Contains(revoked, from(u)) {
			empty++
			continue
		}
		if tenants[tenant] == nil {
			tenants[tenant] = &Uplinks{Tenant: tenant}
		}
		tenants[tenant].List = append(tenants[tenant].List, u)
	}
	for _, tenant := range slices.Sorted(maps.Keys(tenants)) {
		parted = append(parted, tenants[tenant].named())
	}
	return parted, empty
}

func (u *Uplinks) named() Uplinks {
	agents, bodies := map[fleet.AgentID]bool{}, map[fleet.ContentHash]bool{}
	for _, uplink := range u.List {
		_, agent := about(uplink)
		agents[agent] = true
		if uplink.Report != nil {
			for _, body := range uplink.Report.Bodies {
				bodies[body] = true
			}
		}
	}
	u.Agents, u.Bodies = slices.Sorted(maps.Keys(agents)), slices.Collect(maps.Keys(bodies))
	return *u
}

func about(u fleet.Uplink) (fleet.TenantID, fleet.AgentID) {
	switch {
	case u.Report != nil:
		return u.Report.Tenant, u.Report.Agent
	case u.Ended != nil:
		return u.Ended.Tenant, u.Ended.Agent
	case u.Delivery != nil:
		return u.Delivery.Tenant, u.Delivery.Agent
	default:
		return "", ""
	}
}

func from(u fleet.Uplink) fleet.GatewayID {
	switch {
	case u.Report != nil:
		return u.Report.Gateway
	case u.Ended != nil:
		return u.Ended.Gateway
	default:
		return u.Delivery.Gateway
	}
}

// Mark is a part on record: when it was said, and what counts as a change of it.
type Mark struct {
	Stamp  fleet.Stamp
	Digest string
}

// Agent is an agent's row, locked, with the marks of its parts. Judge moves it on and notes what is to be written.
type Agent struct {
	ID           fleet.AgentID
	Epoch        fleet.Epoch
	Gateway      fleet.GatewayID
	BootID       uint64
	LastSequence fleet.Sequence
	StateKnown   bool
	LastSeenAt   time.Time
	EndedAt      time.Time
	EndReason    string
	// Former is the session before this one, as far as it was heard when this one was claimed; Seats are the gateways that
	// serve an agent which polls, beside the one that claimed it.
	Former    fleet.Heard
	Transport fleet.Transport
	Seats     []Server
	Grant     fleet.Generation // 0: none
	GrantOpen bool
	Parts     map[fleet.PartKind]Mark
	Telling   Telling

	Write Write
}

// Server is a gateway process that serves a session.
type Server struct {
	Gateway fleet.GatewayID
	BootID  uint64
}

// Write is what is to be written of an agent.
type Write struct {
	// Row says that the agent's own row changed: session fields of Agent and Summary.
	Row     bool
	Summary fleet.Summary
	// Labels replaces the labels; nil leaves them.
	Labels map[string]string
	Parts  map[fleet.PartKind]fleet.Part
	// Delivery is the gateway's word on the open grant; nil if there was none.
	Delivery *fleet.DeliveryReport
	// Upkeep are words on offers of certificates.
	Upkeep []fleet.UpkeepOutcome
	// Answered says that the agent told its full state, if it was asked for that.
	// It comes before FullState, which asks for it; Wake wakes the engine; Park puts off what is to be sent to it until it
	// is back.
	Answered, FullState, Wake, Park bool
	// Drift says that what it runs may have changed.
	Drift bool
	// Seen says that something changed which selectors of groups can see.
	Seen bool
	// Trace is that of the latest uplink for which the engine is woken.
	Trace fleet.Traceparent
}

// Watched says that something is written of the agent which a rollout looks at, and for which the engine is not woken.
func (w Write) Watched() bool {
	return !w.Wake && (w.Park || slices.ContainsFunc([]fleet.PartKind{fleet.PartHealth, fleet.PartEffectiveConfig, fleet.PartRemoteConfigStatus},
		func(kind fleet.PartKind) bool { _, said := w.Parts[kind]; return said }))
}

// Judge decides what becomes of the uplinks, one after the other. It changes agents and returns the events to tell, in
// order, and the counts. stored says which of the bodies there are.
func (u Uplinks) Judge(agents map[fleet.AgentID]*Agent, stored map[fleet.ContentHash]bool) ([]fleet.Event, store.Recorded) {
	var events []fleet.Event
	var counts store.Recorded
	for _, uplink := range u.List {
		_, id := about(uplink)
		agent := agents[id]
		switch {
		case agent == nil || !agent.holds(uplink):
			counts.Stale++
			if agent != nil && agent.missed(uplink.Report) {
				agent.Write.FullState = true
			}
		case uplink.Report != nil && !allStored(uplink.Report.Bodies, stored):
			agent.Write.FullState = true
			counts.Unknown++
		default:
			events = append(events, agent.traced(uplink)...)
			counts.Applied++
		}
	}
	for _, agent := range agents {
		if agent.Write.Wake {
			counts.Woken++
		}
	}
	return events, counts
}

// holds reports whether the uplink comes from where the agent's session is, or is a report that was on its way when the
// session was claimed.
func (a *Agent) holds(u fleet.Uplink) bool {
	switch {
	case u.Report != nil:
		return a.serves(u.Report.Stamp.Epoch, Server{u.Report.Gateway, u.Report.BootID}) || a.before(u.Report)
	case u.Ended != nil:
		return a.serves(u.Ended.Epoch, Server{u.Ended.Gateway, u.Ended.BootID})
	default:
		return a.serves(u.Delivery.Epoch, Server{u.Delivery.Gateway, u.Delivery.BootID})
	}
}

// missed reports whether a report that does not count any more, because sessions followed each other faster than it came
// in, may have said something that nobody says again: the agent is asked.
func (a *Agent) missed(r *fleet.Report) bool {
	return r != nil && r.Stamp.Epoch < a.Epoch && slices.ContainsFunc(r.Parts, func(p fleet.Part) bool {
		return r.Stamp.After(a.Parts[p.Kind].Stamp)
	})
}

func (a *Agent) serves(epoch fleet.Epoch, by Server) bool {
	return a.Epoch == epoch && (by == Server{a.Gateway, a.BootID} || slices.Contains(a.Seats, by))
}

// before reports whether a report belongs to the former session and to that part of it from which this one goes on. Its
// stamp is lower than any of this session's, so it overwrites nothing that was said since.
func (a *Agent) before(r *fleet.Report) bool {
	f := a.Former
	return f.Epoch > 0 && r.Stamp.Epoch == f.Epoch && r.Gateway == f.Gateway && r.BootID == f.BootID && r.Stamp.Sequence <= f.Sequence
}

func allStored(bodies []fleet.ContentHash, stored map[fleet.ContentHash]bool) bool {
	return !slices.ContainsFunc(bodies, func(h fleet.ContentHash) bool { return !stored[h] })
}

// traced takes an uplink, and notes its trace if the engine is woken for it.
func (a *Agent) traced(u fleet.Uplink) []fleet.Event {
	before := a.Write.Wake
	a.Write.Wake = false
	events := a.take(u)
	if a.Write.Wake && u.Trace != "" {
		a.Write.Trace = u.Trace
	}
	a.Write.Wake = a.Write.Wake || before
	return events
}

func (a *Agent) take(u fleet.Uplink) []fleet.Event {
	switch {
	case u.Report != nil:
		return a.report(u.Report)
	case u.Ended != nil:
		return a.end(u.Ended)
	default:
		return a.deliver(u.Delivery)
	}
}

func (a *Agent) report(r *fleet.Report) []fleet.Event {
	var events []fleet.Event
	if r.Stamp.Epoch == a.Epoch {
		a.doubt(r.InDoubt)
		a.seen(r.At, r.Stamp.Sequence)
	}
	for _, part := range r.Parts {
		if news := a.part(r, part); news != nil {
			events = append(events, a.tell(clean(*news, r))...)
		}
	}
	a.Write.Wake = a.Write.Wake || r.Wake
	return events
}

// part takes one part over if it is later than the one on record, and returns the news if it is any. The stamp is the
// message's: it is the one whose epoch was checked.
func (a *Agent) part(r *fleet.Report, p fleet.Part) *fleet.Event {
	mark := a.Parts[p.Kind]
	_, said := a.Parts[p.Kind]
	if said && !r.Stamp.After(mark.Stamp) {
		return nil
	}
	p.Stamp, p.At = r.Stamp, r.At
	p.Value, p.Digest = cleanJSON(p.Value), cleanText(p.Digest)
	if a.Parts == nil {
		a.Parts = map[fleet.PartKind]Mark{}
	}
	if a.Write.Parts == nil {
		a.Write.Parts = map[fleet.PartKind]fleet.Part{}
	}
	a.Parts[p.Kind], a.Write.Parts[p.Kind] = Mark{Stamp: p.Stamp, Digest: p.Digest}, p
	a.summarize(p.Kind, r)
	if p.Kind == fleet.PartConnectionStatus && r.SettingsFailed != nil {
		failed := *r.SettingsFailed
		failed.Failure = cleanText(failed.Failure)
		a.Write.Upkeep = append(a.Write.Upkeep, failed)
	}
	if said && mark.Digest == p.Digest {
		return nil
	}
	a.Write.Drift = a.Write.Drift || p.Kind == fleet.PartEffectiveConfig
	a.Write.Seen = a.Write.Seen || p.Kind == fleet.PartDescription || p.Kind == fleet.PartCapabilities
	// Capabilities travel with every message, so only their change says anything: what was skipped may be possible now.
	a.Write.Wake = a.Write.Wake || p.Kind == fleet.PartCapabilities
	return p.News
}

// summarize repeats in the agent's row what belongs to the part.
func (a *Agent) summarize(kind fleet.PartKind, r *fleet.Report) {
	from, to := r.Summary, &a.Write.Summary
	switch kind {
	case fleet.PartDescription:
		to.ServiceName = cmp.Or(cleanName(from.ServiceName), to.ServiceName)
		to.ServiceVersion = cmp.Or(cleanName(from.ServiceVersion), to.ServiceVersion)
		to.HostName = cmp.Or(cleanName(from.HostName), to.HostName)
		if r.Labels != nil {
			a.Write.Labels = cleanLabels(r.Labels)
		}
		if r.Whole {
			a.StateKnown, a.Write.Answered = true, true
		}
	case fleet.PartCapabilities:
		to.Capabilities = cmp.Or(from.Capabilities, to.Capabilities)
		to.AcceptsConfig = cmp.Or(from.AcceptsConfig, to.AcceptsConfig)
	case fleet.PartHealth:
		to.Healthy = cmp.Or(from.Healthy, to.Healthy)
	case fleet.PartEffectiveConfig, fleet.PartRemoteConfigStatus, fleet.PartPackageStatuses, fleet.PartComponents,
		fleet.PartConnectionStatus, fleet.PartCustomCapabilities, fleet.PartCustomMessage, fleet.PartExtra:
		return // nothing of these stands in the row
	}
	a.Write.Row = true
}

// doubt forgets that the agent's state is known, until it describes itself again: something it said was lost.
func (a *Agent) doubt(inDoubt bool) {
	if inDoubt && a.StateKnown {
		a.StateKnown, a.Write.Row = false, true
	}
}

// seen moves the session's last sequence and time, which never go back.
func (a *Agent) seen(at time.Time, sequence fleet.Sequence) {
	if sequence > a.LastSequence {
		a.LastSequence, a.Write.Row = sequence, true
	}
	if at = at.UTC().Truncate(time.Microsecond); at.After(a.LastSeenAt) {
		a.LastSeenAt, a.Write.Row = at, true
	}
}

// end ends the session. One that has ended keeps its end; what was seen last still counts.
func (a *Agent) end(e *fleet.SessionEnd) []fleet.Event {
	a.seen(e.LastSeenAt, e.LastSequence)
	a.doubt(e.InDoubt)
	if !a.EndedAt.IsZero() {
		return nil
	}
	a.EndedAt, a.EndReason, a.Write.Row, a.Write.Park = e.At, cleanText(e.Reason), true, true
	return a.tell(trail.Disconnected(e.Tenant, e.Agent, e.Gateway, a.EndReason, e.At))
}

// tell is what is told of a change; the row keeps how much that was.
func (a *Agent) tell(e fleet.Event) []fleet.Event {
	a.Write.Row = true
	return a.Telling.Tell(e)
}

// undelivered says why an offer of a certificate was not made.
var undelivered = map[fleet.DeliveryOutcome]string{
	fleet.NotCapable: "the agent does not take connection settings, or its gateway may not offer any",
	fleet.Refused:    "its gateway was given no certificate for it",
}

// deliver notes a gateway's word on the open grant; a word on another generation is of the past.
func (a *Agent) deliver(d *fleet.DeliveryReport) []fleet.Event {
	if d.Kind == fleet.DispatchRestart {
		return []fleet.Event{trail.Restarted(d)}
	}
	if d.Kind == fleet.DispatchRenew {
		a.Write.Upkeep = append(a.Write.Upkeep, fleet.UpkeepOutcome{Generation: d.Generation, Hash: d.Settings, Failure: undelivered[d.Outcome]})
	}
	if d.Kind == fleet.DispatchConfig && a.GrantOpen && a.Grant == d.Generation {
		a.Write.Delivery, a.Write.Wake = d, true
	}
	return nil
}

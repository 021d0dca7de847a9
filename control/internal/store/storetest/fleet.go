// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"reflect"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// agents is store.Fleet.
var agents = suite{
	"agents are found in their tenant alone":            agentsOfTenant,
	"what is no agent is not found":                     agentsNone,
	"a list is read page by page, by id":                agentsPaged,
	"every field of a filter must hold":                 agentsFiltered,
	"agents are found by all that is searched":          agentsSearched,
	"agents are counted, so far and no further":         agentsCounted,
	"presence is judged by session, lease and time":     agentsPresent,
	"nobody knows of agents whose gateway lost the bus": agentsUnheard,
	"nobody is offline who moves between gateways":      agentsMoving,
	"agents are grouped by what they were built with":   agentsByBuild,
	"the ledger is read newest first":                   ledgerOrder,
	"clearing attempts says how many blocked":           clearAttempts,
	"children are allowed, audited, not to children":    allowChildren,
}

// listed are the ids of the agents a filter finds.
func (w *world) listed(f fleet.AgentFilter) (ids []fleet.AgentID) {
	w.Helper()
	list := pages(w, func(page fleet.Page) ([]fleet.Agent, string, error) {
		return w.Agents(w.Context(), w.tenant, f, w.now, page)
	})
	for _, a := range list {
		ids = append(ids, a.ID)
	}
	return ids
}

func agentsOfTenant(w *world) {
	s, other := w.connected(), w.in("umbrella")
	w.said(w.report(s, 1, "x", fleet.PartHealth))
	_, err := other.Agent(w.Context(), other.tenant, s.id)
	w.want(err, store.ErrNotFound)
	if ids := other.listed(fleet.AgentFilter{}); len(ids) != 0 {
		w.Errorf("listed are %v", ids)
	}
	if parts := other.parts(s.id); len(parts) != 0 {
		w.Errorf("parts are %v", parts)
	}
	_, err = w.ClearAttempts(w.Context(), other.by(), s.id)
	w.want(err, store.ErrNotFound)
	_, err = w.AllowChildren(w.Context(), other.by(), s.id, 3)
	w.want(err, store.ErrNotFound)
}

func agentsNone(w *world) {
	for _, id := range []fleet.AgentID{"0190aaaa-0000-7000-8000-000000000000", "nobody", ""} {
		_, err := w.Agent(w.Context(), w.tenant, id)
		w.want(err, store.ErrNotFound)
		_, err = w.ClearAttempts(w.Context(), w.by(), id)
		w.want(err, store.ErrNotFound)
	}
}

func agentsPaged(w *world) {
	var want []fleet.AgentID
	for range 5 {
		want = append(want, w.enrol().id)
	}
	slices.Sort(want)
	if got := w.listed(fleet.AgentFilter{}); !slices.Equal(got, want) {
		w.Errorf("listed are %v, want %v", got, want)
	}
	whole, _, err := w.Agents(w.Context(), w.tenant, fleet.AgentFilter{}, w.now, fleet.Page{Size: 5})
	w.must(err)
	for _, a := range whole {
		if one := w.agent(a.ID); !reflect.DeepEqual(one, a) {
			w.Errorf("listed as %+v, read as %+v", a, one)
		}
	}
}

func agentsFiltered(w *world) {
	s := w.connected()
	r := described(w.report(s, 1, "x", fleet.PartDescription, fleet.PartCapabilities, fleet.PartHealth), "edge-", false)
	host := "München-1"
	r.Summary.HostName, r.Labels = &host, map[string]string{"os": "linux", "zone": "a"}
	w.said(r)
	w.apply(fleet.Step{Delivery: &fleet.Delivery{State: fleet.DeliveryFailed}, Attention: &[]fleet.Attention{{Reason: fleet.AttentionConfigFailed, Since: w.now}}})
	group, err := w.CreateGroup(w.Context(), w.by(), fleet.Group{Tenant: w.tenant, ID: newID[fleet.GroupID](), Name: "g", CreatedAt: w.now})
	w.must(err)
	_, err = w.AddGroupMembers(w.Context(), w.by(), group.ID, []fleet.AgentID{s.id}, fleet.ImmediateLimit)
	w.must(err)
	bare := w.enrol()
	for name, c := range map[string]struct {
		filter fleet.AgentFilter
		found  bool
	}{
		"all":              {fleet.AgentFilter{}, true},
		"group":            {fleet.AgentFilter{Group: group.ID}, true},
		"another group":    {fleet.AgentFilter{Group: newID[fleet.GroupID]()}, false},
		"unhealthy":        {fleet.AgentFilter{Unhealthy: true}, true},
		"attention":        {fleet.AgentFilter{Attention: true}, true},
		"delivery":         {fleet.AgentFilter{DeliveryState: fleet.DeliveryFailed}, true},
		"another delivery": {fleet.AgentFilter{DeliveryState: fleet.DeliverySent}, false},
		"host":             {fleet.AgentFilter{NamePrefix: "Münch"}, true},
		"service":          {fleet.AgentFilter{NamePrefix: "edge-"}, true},
		"pattern":          {fleet.AgentFilter{NamePrefix: "edge%"}, false},
		"longer":           {fleet.AgentFilter{NamePrefix: "edge-1"}, false},
		"other letters":    {fleet.AgentFilter{NamePrefix: "Edge"}, false},
		"labels":           {fleet.AgentFilter{Labels: map[string]string{"os": "linux", "zone": "a"}}, true},
		"one label not":    {fleet.AgentFilter{Labels: map[string]string{"os": "linux", "zone": "b"}}, false},
		"everything": {fleet.AgentFilter{
			Group: group.ID, Unhealthy: true, DeliveryState: fleet.DeliveryFailed, NamePrefix: "edge", Presence: fleet.PresenceOnline,
			Labels: map[string]string{"os": "linux"},
		}, true},
		"everything but one": {fleet.AgentFilter{Group: group.ID, Unhealthy: true, Presence: fleet.PresenceOffline}, false},
	} {
		if got := w.listed(c.filter); slices.Contains(got, s.id) != c.found {
			w.Errorf("%s: listed are %v", name, got)
		} else if name != "all" && slices.Contains(got, bare.id) {
			w.Errorf("%s: found an agent that said nothing", name)
		}
	}
	if got := w.agent(s.id); got.Group != group.ID || got.GroupName != "g" {
		w.Errorf("the agent is in %q %q", got.Group, got.GroupName)
	}
}

func agentsPresent(w *world) {
	never, online := w.enrol(), w.connected()
	ended := w.connect(w.enrol(), online.gateway)
	w.record(fleet.Uplink{Ended: w.end(ended, "closed")})
	restarting := w.gateway("gw-2", 1)
	restarting.LeaseUntil = w.now.Add(time.Second)
	w.must(w.renew(restarting, false))
	unknown := w.connect(w.enrol(), restarting)
	w.pass(time.Second)
	w.present(fleet.PresenceOnline, online.id)
	w.present(fleet.PresenceOffline, never.id, ended.id)
	w.present(fleet.PresenceUnknown, unknown.id)
}

// present wants exactly these agents to have the presence, wherever it is judged.
func (w *world) present(presence fleet.Presence, want ...fleet.AgentID) {
	w.Helper()
	slices.Sort(want)
	got := w.listed(fleet.AgentFilter{Presence: presence})
	if !slices.Equal(got, want) {
		w.Errorf("presence %d has %v, want %v", presence, got, want)
	}
	for _, id := range got {
		if is := w.agent(id).Session.Presence(w.now); is != presence {
			w.Errorf("agent %s was listed as %d and is %d", id, presence, is)
		}
	}
}

func agentsUnheard(w *world) {
	s := w.connected()
	elsewhere := w.connect(w.enrol(), w.gateway("gw-2", 2))
	w.must(w.renew(s.gateway, true))
	w.present(fleet.PresenceUnknown, s.id)
	w.present(fleet.PresenceOnline, elsewhere.id)
	w.present(fleet.PresenceOffline)
	w.must(w.renew(s.gateway, false))
	w.present(fleet.PresenceOnline, s.id, elsewhere.id)
}

func agentsMoving(w *world) {
	s := w.connected()
	w.record(fleet.Uplink{Ended: w.end(s, fleet.EndDrained)})
	w.pass(fleet.MoveGrace - time.Microsecond)
	w.present(fleet.PresenceUnknown, s.id)
	w.present(fleet.PresenceOffline)
	w.pass(time.Microsecond)
	w.present(fleet.PresenceUnknown)
	w.present(fleet.PresenceOffline, s.id)
	s = w.connect(s.agent, w.gateway("gw-2", 2))
	w.present(fleet.PresenceOnline, s.id)
	w.record(fleet.Uplink{Ended: w.end(s, "closed")})
	w.present(fleet.PresenceOffline, s.id)
}

func ledgerOrder(w *world) {
	s := w.connected()
	var lines []fleet.Attempt
	for i, name := range []string{"a", "b", "c"} {
		line := w.attempt(w.version(name), fleet.AttemptOffered)
		line.LastAt = w.now.Add(time.Duration(i) * time.Second)
		lines = append([]fleet.Attempt{line}, lines...)
	}
	w.apply(fleet.Step{Attempts: lines})
	if got := w.attempts(s.id); !slices.Equal(got, lines) {
		w.Errorf("the ledger is %+v, want %+v", got, lines)
	}
}

func clearAttempts(w *world) {
	s := w.connected()
	var lines []fleet.Attempt
	for _, outcome := range []fleet.AttemptOutcome{fleet.AttemptFailed, fleet.AttemptRolledBack, fleet.AttemptApplied, fleet.AttemptOffered, fleet.AttemptSuperseded} {
		lines = append(lines, w.attempt(w.version(string(outcome)), outcome))
	}
	w.apply(fleet.Step{Attempts: lines})
	w.pass(time.Second)
	for _, want := range []int{2, 0} {
		if got, err := w.ClearAttempts(w.Context(), w.by(), s.id); err != nil || got != want {
			w.Errorf("cleared %d, %v, want %d", got, err, want)
		}
		w.item() // the engine was woken
	}
	for _, line := range w.attempts(s.id) {
		blocked := line.Outcome == fleet.AttemptFailed || line.Outcome == fleet.AttemptRolledBack
		if line.Blocks() || line.ClearedAt.Equal(w.now) != blocked {
			w.Errorf("the line is %+v", line)
		}
	}
	if words := w.audited(string(s.id)); !slices.Contains(words, "agent.retry_config") {
		w.Errorf("audited is %q", words)
	}
}

func allowChildren(w *world) {
	a := w.enrol()
	for _, n := range []int{3, 0} {
		got, err := w.AllowChildren(w.Context(), w.by(), a.id, n)
		if err != nil || got.MaxChildren != n || got.ID != a.id || w.agent(a.id).MaxChildren != n {
			w.Errorf("allowed %d: %+v, %v", n, got, err)
		}
	}
	if words := w.audited(string(a.id)); !slices.Contains(words, "agent.allow_children") {
		w.Errorf("audited is %q", words)
	}
}

func agentsByBuild(w *world) {
	group := w.group("edge")
	say := func(a agent, version, list, digest string) {
		s := w.connect(a, w.gateway("gw-1", 1<<63+7))
		r := w.report(s, 1, digest, fleet.PartComponents, fleet.PartDescription)
		r.Parts[0].Value = []byte(list)
		name := "otelcol"
		r.Summary.ServiceName, r.Summary.ServiceVersion = &name, &version
		w.said(r)
	}
	const otlp = `{"list":[{"kind":"receiver","name":"otlp"}]}`
	a, b := w.enrol(), w.enrol()
	_, err := w.AddGroupMembers(w.Context(), w.by(), group.ID, []fleet.AgentID{a.id, b.id}, 20)
	w.must(err)
	say(a, "1", otlp, "a")
	say(b, "1", otlp, "a")
	say(w.enrol(), "2", otlp, "a")
	say(w.enrol(), "2", `{"list":[{"kind":"receiver","name":"nop"}]}`, "b")
	silent := w.enrol().id
	w.in("theirs").enrol()

	of := func(target fleet.Target, max int) []fleet.Build {
		builds, total, err := w.Builds(w.Context(), w.tenant, target, max)
		w.must(err)
		counted := 0
		for _, b := range builds {
			counted += b.Agents
		}
		if max == 10 && counted != total || counted > total {
			w.Errorf("of %+v there are %d agents, %d in builds", target, total, counted)
		}
		return builds
	}
	list := []fleet.Component{{Kind: "receiver", Name: "otlp"}}
	want := fleet.Build{ServiceName: "otelcol", ServiceVersion: "1", Components: list, Agents: 2, Example: min(a.id, b.id)}
	all := of(fleet.Target{}, 10)
	if len(all) != 4 || !reflect.DeepEqual(all[0], want) {
		w.Errorf("all: %+v", all)
	}
	if some := of(fleet.Target{}, 1); len(some) != 1 || !reflect.DeepEqual(some[0], want) {
		w.Errorf("the most frequent: %+v", some)
	}
	if grouped := of(fleet.Target{Group: group.ID}, 10); len(grouped) != 1 || !reflect.DeepEqual(grouped[0], want) {
		w.Errorf("of the group: %+v", grouped)
	}
	if one := of(fleet.Target{Agent: silent}, 10); len(one) != 1 || !reflect.DeepEqual(one[0], fleet.Build{Agents: 1, Example: silent}) {
		w.Errorf("of the silent one: %+v", one)
	}
	if none := of(fleet.Target{Group: "nobody"}, 10); len(none) != 0 {
		w.Errorf("of no group: %+v", none)
	}
}

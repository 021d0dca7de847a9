// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// work is store.Work.
var work = suite{
	"an item is claimed once until its claim runs out":            workClaimed,
	"items of all tenants are claimed, at most as many as asked":  workOfTenants,
	"a settled item is gone":                                      workSettled,
	"an item is due again when the step says":                     workWakeAt,
	"a wake after the claim keeps the item":                       workWoken,
	"who was too slow does nothing after another's claim":         workTooSlow,
	"the situation of an agent nobody assigned anything to":       situationBare,
	"an agent's own assignment comes before its group's":          situationAssigned,
	"the situation has the grant and what others noted on it":     situationGrant,
	"the situation has the attempts in question":                  situationAttempts,
	"the situation has the agent's last word":                     situationStatus,
	"a template that is assigned is what it became":               situationRendered,
	"what a template became is granted, sent and remembered":      renderedGranted,
	"what templates ask for is read":                              templateValues,
	"renderings are stored once, of what is there":                renderingsStored,
	"situations stand in the order of the agents, gone or not":    situationsOrder,
	"situations of many are those of each":                        situationsMany,
	"a step under an old generation changes nothing":              applyStale,
	"a grant's generation does not go back":                       applyBackwards,
	"a settled grant keeps what was noted, a new one begins bare": applyGrants,
	"a step does all it says":                                     applyAll,
	"a remark made meanwhile is not written over":                 applyRemark,
	"an attempt cleared meanwhile is not written over":            applyCleared,
	"sending and withdrawing offers":                              applySend,
	"a step that cannot be done leaves the others be":             applySome,
}

func workClaimed(w *world) {
	s := w.connected()
	item := w.item()
	if item.Tenant != w.tenant || item.Agent != s.id {
		w.Errorf("%+v is due", item)
	}
	w.pass(9 * time.Second)
	if items := w.work(); len(items) != 0 {
		w.Errorf("%+v is due", items)
	}
	w.pass(time.Second)
	if again := w.item(); again.Agent != s.id {
		w.Errorf("%+v is due", again)
	}
}

func workOfTenants(w *world) {
	s, other := w.connected(), w.in("umbrella")
	theirs := other.connect(other.enrol(), s.gateway)
	var got []store.WorkItem
	for range 2 {
		some, err := w.ClaimWork(w.Context(), w.now, w.now.Add(time.Minute), 1)
		if err != nil || len(some) != 1 {
			w.Fatalf("claimed %+v, %v", some, err)
		}
		got = append(got, some...)
	}
	for i, want := range []store.WorkItem{{Tenant: w.tenant, Agent: s.id}, {Tenant: other.tenant, Agent: theirs.id}} {
		if !slices.ContainsFunc(got, func(item store.WorkItem) bool { return item.Tenant == want.Tenant && item.Agent == want.Agent }) {
			w.Errorf("claimed %+v, item %d is not among them", got, i)
		}
	}
}

// later is whether something is due after a while, and forgets it.
func (w *world) later(d time.Duration) bool {
	w.Helper()
	w.pass(d)
	return len(w.work()) > 0
}

func workSettled(w *world) {
	s := w.connected()
	w.apply(fleet.Step{})
	if w.later(time.Hour) {
		w.Error("a settled item is due")
	}
	_, err := w.ClearAttempts(w.Context(), w.by(), s.id)
	w.must(err)
	if item := w.item(); item.Agent != s.id {
		w.Errorf("%+v is due", item)
	}
}

func workWakeAt(w *world) {
	w.connected()
	w.apply(fleet.Step{WakeAt: w.now.Add(time.Hour)})
	if w.later(59 * time.Minute) {
		w.Error("it is due early")
	}
	if !w.later(time.Minute) {
		w.Error("it is not due in time")
	}
}

func workWoken(w *world) {
	s := w.connected()
	item := w.item()
	situation := w.situation(item)
	w.pass(time.Second)
	r := w.report(s, 1, "x", fleet.PartHealth)
	r.Wake = true
	w.said(r)
	for _, step := range []fleet.Step{{}, {WakeAt: w.now.Add(time.Hour)}} {
		w.want(w.do(item, situation, step), store.ErrConflict)
	}
	if again := w.item(); again.Agent != s.id || again.Version == item.Version {
		w.Errorf("%+v is due", again)
	}
}

// workTooSlow lets an engine stand still until another has taken its item, and done it.
func workTooSlow(w *world) {
	s := w.connected()
	slow := w.item()
	situation := w.situation(slow)
	w.pass(10 * time.Second)
	newer := fleet.Delivery{State: fleet.DeliverySkipped, Since: w.now}
	w.apply(fleet.Step{Delivery: &newer})
	for range 2 {
		older := fleet.Delivery{State: fleet.DeliverySent, Since: w.now}
		w.want(w.do(slow, situation, fleet.Step{Delivery: &older}), store.ErrConflict)
		if got := w.agent(s.id).Delivery; got != newer {
			w.Errorf("the delivery is %+v", got)
		}
		w.must(w.wake())
	}
	if items := w.work(); len(items) != 1 || items[0].Agent != s.id {
		w.Errorf("%+v is due: a wake was lost", items)
	}
}

func situationBare(w *world) {
	s := w.connected()
	got := w.situation(w.item())
	want := fleet.Situation{
		Tenant: w.tenant, Agent: s.id, Attempts: map[fleet.OfferHash]fleet.Attempt{},
		Delivery: fleet.Delivery{State: fleet.DeliveryNone}, Attention: []fleet.Attention{}, Session: w.agent(s.id).Session,
	}
	if !reflect.DeepEqual(got, want) {
		w.Errorf("the situation is %+v, want %+v", got, want)
	}
}

func situationAssigned(w *world) {
	s := w.connected()
	own, groups := w.version("own"), w.version("group's")
	group, err := w.CreateGroup(w.Context(), w.by(), fleet.Group{Tenant: w.tenant, ID: newID[fleet.GroupID](), Name: "edge", CreatedAt: w.now})
	w.must(err)
	_, err = w.AddGroupMembers(w.Context(), w.by(), group.ID, []fleet.AgentID{s.id}, fleet.ImmediateLimit)
	w.must(err)
	w.assign(fleet.Target{Group: group.ID}, groups)
	if got := w.situation(w.item()); got.Through != "group" || got.Assigned == nil || *got.Assigned != groups {
		w.Errorf("assigned is %+v through %s, want %+v", got.Assigned, got.Through, groups)
	}
	w.assign(fleet.Target{Agent: s.id}, own)
	if got := w.situation(w.item()); got.Through != "agent" || got.Assigned == nil || *got.Assigned != own {
		w.Errorf("assigned is %+v through %s, want %+v", got.Assigned, got.Through, own)
	}
}

func situationGrant(w *world) {
	s := w.connected()
	v := w.version("v1")
	g := fleet.Grant{
		Version: v, State: fleet.GrantOpen, Reason: fleet.GrantRestore, Generation: 3, OpenedAt: w.now, Seen: fleet.Stamp{Epoch: 2, Sequence: 9},
		ApplyingAt: w.now.Add(time.Second), Message: "words",
	}
	w.apply(fleet.Step{Grant: &g, Send: true})
	w.must(w.MarkSent(w.Context(), w.dispatches(), w.now))
	g.SentAt = w.now
	w.record(fleet.Uplink{Delivery: w.delivery(s, 3, fleet.Delivered)})
	g.DeliveredAt = w.now
	if got := w.situation(w.item()); got.Grant == nil || *got.Grant != g {
		w.Errorf("the grant is %+v, want %+v", got.Grant, g)
	}
}

// attempt is a line of the ledger.
func (w *world) attempt(v fleet.VersionRef, outcome fleet.AttemptOutcome) fleet.Attempt {
	return fleet.Attempt{Version: v, Outcome: outcome, Message: "words", FirstAt: w.now, LastAt: w.now}
}

func situationAttempts(w *world) {
	s := w.connected()
	versions := map[string]fleet.VersionRef{}
	var lines []fleet.Attempt
	for name, outcome := range map[string]fleet.AttemptOutcome{
		"assigned": fleet.AttemptFailed, "granted": fleet.AttemptOffered, "reported": fleet.AttemptRolledBack,
		"good": fleet.AttemptApplied, "good long ago": fleet.AttemptApplied, "other": fleet.AttemptFailed,
	} {
		versions[name] = w.version(name)
		line := w.attempt(versions[name], outcome)
		if name == "good long ago" {
			line.LastAt = w.now.Add(-time.Hour)
		}
		lines = append(lines, line)
	}
	g := fleet.Grant{Version: versions["granted"], State: fleet.GrantOpen, Reason: fleet.GrantAssigned, Generation: 1, OpenedAt: w.now}
	w.apply(fleet.Step{Grant: &g, Attempts: lines})
	w.assign(fleet.Target{Agent: s.id}, versions["assigned"])
	w.status(s, 1, versions["reported"].Offer, fleet.ConfigApplied)
	got := w.situation(w.item())
	want := map[fleet.OfferHash]fleet.Attempt{}
	for _, line := range lines {
		if name := line.Version.ConfigName; name != "other" && name != "good long ago" {
			want[line.Version.Offer] = line
		}
	}
	if !reflect.DeepEqual(got.Attempts, want) {
		w.Errorf("attempts are %+v, want %+v", got.Attempts, want)
	}
	if got.LastGood == nil || *got.LastGood != versions["good"] {
		w.Errorf("the last good is %+v", got.LastGood)
	}
}

// status records the agent's word on an offer, and wakes.
func (w *world) status(s session, sequence fleet.Sequence, offer fleet.OfferHash, state fleet.ConfigState) {
	w.Helper()
	r := w.report(s, sequence, string(state), fleet.PartRemoteConfigStatus)
	value, err := json.Marshal(fleet.RemoteConfigStatus{LastOffer: offer[:], State: state, Error: "no such exporter"})
	w.must(err)
	r.Parts[0].Value, r.Wake = value, true
	w.said(r)
}

func situationStatus(w *world) {
	s := w.connected()
	offer := fleet.OfferHash{1, 2, 3}
	w.status(s, 4, offer, fleet.ConfigFailed)
	r := w.report(s, 5, "x", fleet.PartCapabilities)
	accepts := true
	r.Summary.AcceptsConfig = &accepts
	w.said(r)
	got := w.situation(w.item())
	if want := (fleet.RemoteConfigStatus{LastOffer: offer[:], State: fleet.ConfigFailed, Error: "no such exporter"}); !reflect.DeepEqual(got.Status, want) {
		w.Errorf("the status is %+v, want %+v", got.Status, want)
	}
	if got.StatusStamp != (fleet.Stamp{Epoch: s.epoch, Sequence: 4}) {
		w.Errorf("its stamp is %+v", got.StatusStamp)
	}
	if got.AcceptsConfig == nil || !*got.AcceptsConfig {
		w.Errorf("accepts configurations: %v", got.AcceptsConfig)
	}
}

func situationsOrder(w *world) {
	ids := []fleet.AgentID{w.enrol().id, w.in("umbrella").enrol().id, "0190aaaa-0000-7000-8000-000000000000", w.enrol().id}
	slices.Reverse(ids)
	got, err := w.Situations(w.Context(), w.tenant, ids, nil)
	if err != nil || len(got) != len(ids) {
		w.Fatalf("%+v, %v", got, err)
	}
	for i, known := range []bool{true, false, false, true} {
		want := fleet.Situation{}
		if known {
			want.Tenant, want.Agent = w.tenant, ids[i]
		}
		if got[i].Tenant != want.Tenant || got[i].Agent != want.Agent {
			w.Errorf("situation %d is %+v, want that of %q", i, got[i], want.Agent)
		}
	}
	if none, err := w.Situations(w.Context(), w.tenant, nil, nil); err != nil || len(none) != 0 {
		w.Errorf("of nobody: %+v, %v", none, err)
	}
}

// situationsMany gives agents different things to have in their situations.
func situationsMany(w *world) {
	g, versions := w.gateway("gw", 1), []fleet.VersionRef{w.version("v1"), w.version("v2"), w.version("v3")}
	group := w.group("edge")
	w.assign(fleet.Target{Group: group.ID}, versions[0])
	for n := range 6 {
		s := w.connect(w.enrol(), g)
		if n%2 == 0 {
			_, err := w.AddGroupMembers(w.Context(), w.by(), group.ID, []fleet.AgentID{s.id}, fleet.ImmediateLimit)
			w.must(err)
		}
		step := fleet.Step{Attempts: []fleet.Attempt{w.attempt(versions[n%3], fleet.AttemptApplied), w.attempt(versions[(n+1)%3], fleet.AttemptFailed)}}
		if n > 2 {
			w.assign(fleet.Target{Agent: s.id}, versions[n%3])
			step.Grant = &fleet.Grant{Version: versions[n%3], State: fleet.GrantOpen, Reason: fleet.GrantAssigned, Generation: 1, OpenedAt: w.now}
			w.status(s, 1, versions[(n+1)%3].Offer, fleet.ConfigApplied)
		}
		w.apply(step)
		w.pass(time.Second)
	}
	list, _, err := w.Agents(w.Context(), w.tenant, fleet.AgentFilter{}, w.now, fleet.Page{Size: 100})
	w.must(err)
	var ids []fleet.AgentID
	for _, a := range list {
		ids = append(ids, a.ID)
	}
	got, err := w.Situations(w.Context(), w.tenant, ids, nil)
	w.must(err)
	for i, id := range ids {
		if each := w.situation(store.WorkItem{Tenant: w.tenant, Agent: id}); !reflect.DeepEqual(got[i], each) {
			w.Errorf("among others it is %+v, alone %+v", got[i], each)
		}
	}
}

func applyStale(w *world) {
	s := w.connected()
	v := w.version("v1")
	item := w.item()
	before := w.situation(item)
	g := fleet.Grant{Version: v, State: fleet.GrantOpen, Reason: fleet.GrantAssigned, Generation: 1, OpenedAt: w.now}
	w.must(w.do(item, before, fleet.Step{Grant: &g}))
	_, err := w.ClearAttempts(w.Context(), w.by(), s.id)
	w.must(err)
	item = w.item()
	g.Message = "another"
	delivery := fleet.Delivery{State: fleet.DeliverySent}
	for name, step := range map[string]fleet.Step{
		"a grant": {Grant: &g, Delivery: &delivery, Send: true, Attempts: []fleet.Attempt{w.attempt(v, fleet.AttemptFailed)}},
		"nothing": {},
	} {
		if err := w.do(item, before, step); err == nil {
			w.Errorf("%s was applied", name)
		} else {
			w.want(err, store.ErrConflict)
		}
	}
	after := w.situation(item)
	if after.Grant.Message != "" || after.Delivery.State != fleet.DeliveryNone || len(after.Attempts) != 0 || len(w.dispatches()) != 0 {
		w.Errorf("something was written: %+v", after)
	}
	if !w.later(10 * time.Second) {
		w.Error("the item is gone")
	}
}

func applyBackwards(w *world) {
	w.connected()
	v := w.version("v1")
	item := w.item()
	situation := w.situation(item)
	for _, generation := range []fleet.Generation{0, -1} {
		g := fleet.Grant{Version: v, State: fleet.GrantOpen, Reason: fleet.GrantAssigned, Generation: generation, OpenedAt: w.now}
		w.want(w.do(item, situation, fleet.Step{Grant: &g}), store.ErrState)
	}
}

func applyGrants(w *world) {
	s := w.connected()
	v, next := w.version("v1"), w.version("v2")
	w.grant(v, 1)
	w.must(w.MarkSent(w.Context(), w.dispatches(), w.now))
	w.record(fleet.Uplink{Delivery: w.delivery(s, 1, fleet.Delivered)})
	noted := w.now
	item := w.item()
	replace := func(state fleet.GrantState, v fleet.VersionRef, generation fleet.Generation) fleet.Grant {
		w.pass(time.Second)
		before := w.situation(item)
		g := fleet.Grant{Version: v, State: state, Reason: fleet.GrantAssigned, Generation: generation, OpenedAt: w.now, ApplyingAt: w.now}
		w.must(w.do(item, before, fleet.Step{Grant: &g}))
		return *w.situation(item).Grant
	}
	if g := replace(fleet.GrantOpen, v, 1); !g.SentAt.Equal(noted) || !g.DeliveredAt.Equal(noted) || !g.ApplyingAt.Equal(w.now) {
		w.Errorf("the same grant: %+v", g)
	}
	if g := replace(fleet.GrantMet, v, 2); !g.SentAt.Equal(noted) || !g.DeliveredAt.Equal(noted) {
		w.Errorf("settled: %+v", g)
	}
	if g := replace(fleet.GrantOpen, next, 4); !g.SentAt.IsZero() || !g.DeliveredAt.IsZero() || g.Version != next || g.Generation != 4 {
		w.Errorf("opened: %+v", g)
	}
}

func applyAll(w *world) {
	s := w.connected()
	v := w.version("v1")
	delivery := fleet.Delivery{State: fleet.DeliveryFailed, Desired: v, Through: "agent", Message: "words", Since: w.now, Restored: v}
	remarks := []fleet.Attention{{Reason: fleet.AttentionConfigFailed, Message: "words", Since: w.now}}
	line := w.attempt(v, fleet.AttemptOffered)
	w.apply(fleet.Step{
		Attempts: []fleet.Attempt{line}, Delivery: &delivery, Attention: &remarks,
		Events: []fleet.Event{{Tenant: w.tenant, At: w.now, Kind: fleet.EventConfigSettled, Agent: s.id, Message: "words"}},
	})
	got := w.agent(s.id)
	if got.Delivery != delivery || !slices.Equal(got.Attention, remarks) {
		w.Errorf("the agent is %+v", got)
	}
	if kinds := w.kinds(s.id); kinds[len(kinds)-1] != fleet.EventConfigSettled {
		w.Errorf("events are %v", kinds)
	}
	w.pass(time.Second)
	_, err := w.ClearAttempts(w.Context(), w.by(), s.id)
	w.must(err)
	later := w.attempt(v, fleet.AttemptFailed)
	w.apply(fleet.Step{Attempts: []fleet.Attempt{later}, Attention: &[]fleet.Attention{}})
	later.FirstAt = line.FirstAt
	if lines := w.attempts(s.id); !slices.Equal(lines, []fleet.Attempt{later}) {
		w.Errorf("the ledger is %+v, want %+v", lines, later)
	}
	if got := w.agent(s.id); got.Delivery != delivery || len(got.Attention) != 0 {
		w.Errorf("the agent is %+v", got)
	}
}

// attempts reads an agent's ledger.
func (w *world) attempts(id fleet.AgentID) []fleet.Attempt {
	w.Helper()
	lines, err := w.Attempts(w.Context(), w.tenant, id)
	w.must(err)
	return lines
}

func applyRemark(w *world) {
	s := w.connected()
	item := w.item()
	before := w.situation(item)
	for range fleet.CloneTakeovers {
		w.clone(s.agent, s.gateway)
	}
	item = w.item()
	w.want(w.do(item, before, fleet.Step{Attention: &[]fleet.Attention{}}), store.ErrConflict)
	if got := w.agent(s.id).Attention; len(got) != 1 {
		w.Errorf("remarks are %+v", got)
	}
}

func applyCleared(w *world) {
	s := w.connected()
	v := w.version("v1")
	w.assign(fleet.Target{Agent: s.id}, v)
	w.apply(fleet.Step{Attempts: []fleet.Attempt{w.attempt(v, fleet.AttemptFailed)}, WakeAt: w.now})
	item := w.item()
	before := w.situation(item)
	w.pass(time.Second)
	cleared, err := w.ClearAttempts(w.Context(), w.by(), s.id)
	if err != nil || cleared != 1 {
		w.Fatalf("cleared %d, %v", cleared, err)
	}
	item = w.item()
	again := fleet.Step{Attempts: []fleet.Attempt{w.attempt(v, fleet.AttemptFailed)}}
	w.want(w.do(item, before, again), store.ErrConflict)
	if w.attempts(s.id)[0].Blocks() {
		w.Error("what an operator cleared blocks again")
	}
	w.must(w.do(item, w.situation(item), again))
	if !w.attempts(s.id)[0].Blocks() {
		w.Error("what failed after it was cleared does not block")
	}
}

func applySend(w *world) {
	w.connected()
	v := w.version("v1")
	item := w.item()
	step := func(step fleet.Step) []fleet.Dispatch {
		w.pass(time.Minute / 6)
		w.must(w.do(item, w.situation(item), step))
		return w.dispatches()
	}
	grant := func(state fleet.GrantState, generation fleet.Generation) *fleet.Grant {
		return &fleet.Grant{Version: v, State: state, Reason: fleet.GrantAssigned, Generation: generation, OpenedAt: w.now}
	}
	if due := step(fleet.Step{Grant: grant(fleet.GrantOpen, 1)}); len(due) != 0 {
		w.Errorf("not sent: %+v", due)
	}
	if due := step(fleet.Step{Send: true}); len(due) != 1 || due[0].Generation != 1 || due[0].Version != v {
		w.Errorf("sent: %+v", due)
	}
	if due := step(fleet.Step{Withdraw: true}); len(due) != 0 {
		w.Errorf("withdrawn: %+v", due)
	}
	if due := step(fleet.Step{Grant: grant(fleet.GrantOpen, 2), Send: true, Withdraw: true}); len(due) != 1 || due[0].Generation != 2 {
		w.Errorf("withdrawn and sent: %+v", due)
	}
	if due := step(fleet.Step{Grant: grant(fleet.GrantMet, 3)}); len(due) != 0 {
		w.Errorf("settled: %+v", due)
	}
}

// applySome applies steps of which some cannot be done, each for a reason of its own, in one go.
func applySome(w *world) {
	v, g := w.version("v1"), w.gateway("gw", 1)
	opened := func(generation fleet.Generation) *fleet.Grant {
		return &fleet.Grant{Version: v, State: fleet.GrantOpen, Reason: fleet.GrantAssigned, Generation: generation, OpenedAt: w.now}
	}
	nothing := func(*world, *store.Decision) {}
	cases := []struct {
		name   string
		change func(w *world, d *store.Decision)
		want   error
	}{
		{"done", nothing, nil},
		{"of no agent", func(_ *world, d *store.Decision) { d.Item.Agent = "0190aaaa-0000-7000-8000-000000000000" }, store.ErrConflict},
		{"woken since", func(w *world, d *store.Decision) { w.must(w.retry(d.Item.Agent, "")) }, store.ErrConflict},
		{"claimed since", func(_ *world, d *store.Decision) { d.Item.Version-- }, store.ErrConflict},
		{"on another grant", func(_ *world, d *store.Decision) { d.On.Grant = opened(7) }, store.ErrConflict},
		{"on other remarks", func(_ *world, d *store.Decision) {
			d.On.Attention = []fleet.Attention{{Reason: fleet.AttentionQuarantined, Since: w.now}}
		}, store.ErrConflict},
		{"on a line that was cleared", func(_ *world, d *store.Decision) {
			d.On.Attempts[v.Offer] = fleet.Attempt{Version: v, ClearedAt: w.now}
		}, store.ErrConflict},
		{"to where no grant goes", func(_ *world, d *store.Decision) { d.Step.Grant.State = fleet.GrantMet }, store.ErrState},
		{"back to generation 0", func(_ *world, d *store.Decision) { d.Step.Grant.Generation = 0 }, store.ErrState},
		{"done, too", nothing, nil},
	}
	for range cases {
		w.connect(w.enrol(), g)
	}
	items := w.work()
	decided := make([]store.Decision, len(cases))
	for i, c := range cases {
		decided[i] = store.Decision{Item: items[i], On: w.situation(items[i]), Step: fleet.Step{
			Grant: opened(1), Send: true, Attempts: []fleet.Attempt{w.attempt(v, fleet.AttemptOffered)},
			Delivery: &fleet.Delivery{State: fleet.DeliveryPending, Since: w.now},
			Events:   []fleet.Event{{At: w.now, Kind: fleet.EventConfigGranted, Message: c.name}},
		}}
		c.change(w, &decided[i])
	}
	outcomes, err := w.Apply(w.Context(), w.tenant, append(decided, decided[0]), w.now)
	if err != nil || len(outcomes) != len(cases)+1 {
		w.Fatalf("outcomes are %v, %v", outcomes, err)
	}
	w.want(outcomes[len(cases)], store.ErrConflict) // the first once more
	sent := map[fleet.AgentID]bool{}
	for _, d := range w.dispatches() {
		sent[d.Agent] = true
	}
	w.pass(10 * time.Second)
	due := map[fleet.AgentID]bool{}
	for _, item := range w.work() {
		due[item.Agent] = true
	}
	for i, c := range cases {
		id, done := items[i].Agent, c.want == nil
		if !errors.Is(outcomes[i], c.want) {
			w.Errorf("%s: %v, want %v", c.name, outcomes[i], c.want)
		}
		kinds := w.kinds(id)
		if sent[id] != done || due[id] == done || (len(w.attempts(id)) == 1) != done || (w.agent(id).Delivery.State == fleet.DeliveryPending) != done ||
			(w.situation(items[i]).Grant != nil) != done || slices.Contains(kinds, fleet.EventConfigGranted) != done {
			w.Errorf("%s: sent %v, due %v, %+v, %v", c.name, sent[id], due[id], w.agent(id), kinds)
		}
	}
}

// template publishes a configuration that is a template, and returns it with what it becomes for some.
func (w *world) template(clear, became string) (template, rendered fleet.VersionRef) {
	w.Helper()
	v := w.draft(newID[fleet.ConfigID](), clear)
	v.Templated = true
	_, err := w.CreateConfig(w.Context(), w.by(), fleet.Config{ID: v.Config, Tenant: w.tenant, Name: clear, Kind: fleet.KindCollector, CreatedAt: w.now}, &v)
	w.must(err)
	_, err = w.PublishConfigVersion(w.Context(), w.by(), fleet.Publication{Config: v.Config, Version: 1, Templated: true})
	w.must(err)
	template = fleet.VersionRef{
		Config: v.Config, ConfigName: clear, Version: 1, Offer: v.Offer, Hash: v.Hash, Size: v.Size, Type: v.ContentType, Templated: true,
	}
	rendered = template
	rendered.Hash, rendered.Size, rendered.Templated = w.body(became), int64(len(became)), false
	rendered.Offer = fleet.Rendered(rendered.Hash, rendered.Size, rendered.Type).OfferHash()
	w.must(w.PutRenderings(w.Context(), w.tenant, []fleet.Rendering{{
		Config: v.Config, Version: 1, Offer: rendered.Offer, Hash: rendered.Hash, Size: rendered.Size,
	}}, w.now))
	return template, rendered
}

func situationRendered(w *world) {
	s := w.connected()
	template, rendered := w.template("a: ${ampora:tag:x}", "a: eu")
	w.assign(fleet.Target{Agent: s.id}, template)
	assigned := func(put map[fleet.AgentID]fleet.VersionRef) fleet.VersionRef {
		all, err := w.Situations(w.Context(), w.tenant, []fleet.AgentID{s.id}, put)
		w.must(err)
		return *all[0].Assigned
	}
	if got := assigned(nil); got != template {
		w.Errorf("assigned is %+v, want %+v", got, template)
	}
	if got := assigned(map[fleet.AgentID]fleet.VersionRef{s.id: rendered}); got != rendered {
		w.Errorf("assigned is %+v, want %+v", got, rendered)
	}
	other := rendered
	other.Version = 2
	if got := assigned(map[fleet.AgentID]fleet.VersionRef{s.id: other}); got != template {
		w.Errorf("what is not assigned was put in: %+v", got)
	}
}

func renderedGranted(w *world) {
	s := w.connected()
	template, rendered := w.template("a: ${ampora:tag:x}", "a: eu")
	w.assign(fleet.Target{Agent: s.id}, template)
	g := fleet.Grant{Version: rendered, State: fleet.GrantOpen, Reason: fleet.GrantAssigned, Generation: 1, OpenedAt: w.now}
	w.apply(fleet.Step{Grant: &g, Send: true, Attempts: []fleet.Attempt{{Version: rendered, Outcome: fleet.AttemptApplied, FirstAt: w.now, LastAt: w.now}}})
	sent := w.dispatches()
	if len(sent) != 1 || sent[0].Version != rendered {
		w.Errorf("sent is %+v, want %+v", sent, rendered)
	}
	all, err := w.Situations(w.Context(), w.tenant, []fleet.AgentID{s.id}, map[fleet.AgentID]fleet.VersionRef{s.id: rendered})
	w.must(err)
	if got := all[0]; got.Grant.Version != rendered || got.LastGood == nil || *got.LastGood != rendered || got.Attempts[rendered.Offer].Version != rendered {
		w.Errorf("the situation is %+v", got)
	}
	attempts, err := w.Attempts(w.Context(), w.tenant, s.id)
	w.must(err)
	if len(attempts) != 1 || attempts[0].Version != rendered {
		w.Errorf("the ledger has %+v", attempts)
	}
	w.must(w.retry(s.id, ""))
	w.settles(rendered, fleet.GrantMet)
	if due := w.looks(); len(due) != 1 || due[0].Assigned != rendered.Hash {
		w.Errorf("to be compared is %+v", due)
	}
}

func templateValues(w *world) {
	g, s := w.group("edge"), w.connected()
	_, err := w.AddGroupMembers(w.Context(), w.by(), g.ID, []fleet.AgentID{s.id}, 20)
	w.must(err)
	r := w.report(s, 1, "d", fleet.PartDescription)
	name, version, host := "otelcol", "1.2", "db-7"
	r.Summary = fleet.Summary{ServiceName: &name, ServiceVersion: &version, HostName: &host}
	r.Labels = map[string]string{"host.name": "db-7", "rack": "r1"}
	w.said(r)
	bare := w.enrol().id
	values, err := w.TemplateValues(w.Context(), w.tenant, []fleet.AgentID{s.id, bare, "01890000-0000-7000-8000-000000000000"})
	w.must(err)
	got := values[s.id]
	for _, want := range [][3]string{
		{"agent", "id", string(s.id)},
		{"agent", "service_name", "otelcol"},
		{"agent", "service_version", "1.2"},
		{"agent", "host_name", "db-7"},
		{"agent", "group", "edge"},
		{"label", "host.name", "db-7"},
		{"label", "rack", "r1"},
	} {
		if value, known := got.Value(want[0], want[1]); !known || value != want[2] {
			w.Errorf("%s %s is %q, %v", want[0], want[1], value, known)
		}
	}
	for _, missing := range [][2]string{{"label", "region"}, {"tag", "rack"}, {"agent", "serial"}, {"other", "id"}} {
		if value, known := got.Value(missing[0], missing[1]); known {
			w.Errorf("%v is %q", missing, value)
		}
	}
	if _, known := values[bare].Value("agent", "group"); known || len(values) != 2 {
		w.Errorf("values are %+v", values)
	}
	theirs := w.in("theirs")
	if values, err := theirs.TemplateValues(w.Context(), theirs.tenant, []fleet.AgentID{s.id}); err != nil || len(values) != 0 {
		w.Errorf("another tenant reads %+v, %v", values, err)
	}
}

func renderingsStored(w *world) {
	_, rendered := w.template("a: ${ampora:tag:x}", "a: eu")
	one := fleet.Rendering{Config: rendered.Config, Version: 1, Offer: rendered.Offer, Hash: rendered.Hash, Size: rendered.Size}
	w.must(w.PutRenderings(w.Context(), w.tenant, []fleet.Rendering{one}, w.now))
	w.must(w.PutRenderings(w.Context(), w.tenant, nil, w.now))
	one.Offer, one.Hash = fleet.OfferHash{1}, fleet.HashOf([]byte("not stored"))
	w.want(w.PutRenderings(w.Context(), w.tenant, []fleet.Rendering{one}, w.now), store.ErrNotFound)
	one.Hash, one.Version = rendered.Hash, 9
	w.want(w.PutRenderings(w.Context(), w.tenant, []fleet.Rendering{one}, w.now), store.ErrNotFound)
}

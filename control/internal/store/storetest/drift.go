// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// drift is store.Drift.
var drift = suite{
	"an agent is due some time after it says something else":      driftAfterReport,
	"an agent is due at once when a grant settles":                driftAfterGrant,
	"a verdict stands until something changes":                    driftVerdicts,
	"a verdict on what is not so any more is not written":         driftStale,
	"who drifts and who does no more is told once":                driftTold,
	"of several verdicts those that stand are written":            driftSome,
	"who drifts, or does no more, is due if a rollout watches it": driftWatched,
	"agents of all tenants are due, those first that wait long":   driftOfTenants,
	"verdicts are counted, in all and in a group":                 driftCounted,
	"nobody knows whether an agent drifts that was not compared":  driftUnknown,
}

// effective says what an agent runs.
func (w *world) effective(s session, sequence fleet.Sequence, body string) fleet.ContentHash {
	w.Helper()
	hash := w.body(body)
	r := w.report(s, sequence, body, fleet.PartEffectiveConfig)
	r.Parts[0].Value = fmt.Appendf(nil, `{"files":[{"name":"","hash":"%s","size":%d}]}`, hash, len(body))
	w.said(r)
	return hash
}

// looks are the agents that are to be compared.
func (w *world) looks() []fleet.DriftLook {
	w.Helper()
	due, err := w.DueDrift(w.Context(), w.now, 100)
	w.must(err)
	return due
}

// found writes verdicts and says how many were written.
func (w *world) found(state fleet.DriftState, on ...fleet.DriftLook) int {
	w.Helper()
	verdicts := make([]store.DriftVerdict, len(on))
	for i, l := range on {
		verdicts[i] = store.DriftVerdict{On: l, Drift: fleet.Drift{State: state}}
		if state == fleet.DriftDrifted {
			verdicts[i].Drift.Changes, verdicts[i].Drift.Summary = 2, []string{"this", "that"}
		}
	}
	n, err := w.PutDrift(w.Context(), w.tenant, verdicts, w.now)
	w.must(err)
	return n
}

func (w *world) wantDrift(id fleet.AgentID, want fleet.Drift) {
	w.Helper()
	got, err := w.DriftOf(w.Context(), w.tenant, id)
	w.must(err)
	if len(got.Summary) == 0 {
		got.Summary = nil
	}
	if !reflect.DeepEqual(got, want) {
		w.Errorf("got %+v, want %+v", got, want)
	}
}

// settles lets the engine settle a grant for the version.
func (w *world) settles(v fleet.VersionRef, state fleet.GrantState) {
	w.Helper()
	g := fleet.Grant{Version: v, State: state, Reason: fleet.GrantAssigned, Generation: 1, OpenedAt: w.now, SettledAt: w.now}
	w.apply(fleet.Step{Grant: &g})
}

func driftAfterReport(w *world) {
	s := w.connected()
	w.effective(s, 1, "runs this")
	w.pass(fleet.DriftDelay - time.Second)
	w.effective(s, 2, "runs that")
	if due := w.looks(); len(due) != 0 {
		w.Errorf("too early: %+v", due)
	}
	w.pass(time.Second)
	hash := w.effective(s, 3, "runs this")
	due := w.looks()
	if len(due) != 1 || due[0].Agent != s.id || due[0].Tenant != w.tenant || due[0].Was != fleet.DriftUnknown || !due[0].Assigned.IsZero() ||
		due[0].Effective == nil || due[0].Effective.Files[0].Hash != hash {
		w.Errorf("due: %+v", due)
	}
	if n := w.found(fleet.DriftNone, due...); n != 1 {
		w.Errorf("%d verdicts were written", n)
	}
	w.effective(s, 4, "runs this")
	w.said(w.report(s, 5, "x", fleet.PartHealth, fleet.PartDescription))
	w.pass(time.Hour)
	if due := w.looks(); len(due) != 0 {
		w.Errorf("nothing has changed, and due is %+v", due)
	}
}

func driftAfterGrant(w *world) {
	s, v := w.connected(), w.version("receivers: {}")
	w.grant(v, 1)
	if due := w.looks(); len(due) != 0 {
		w.Errorf("while it is on its way: %+v", due)
	}
	w.pass(time.Minute)
	w.assign(fleet.Target{Agent: s.id}, v) // wakes the engine
	w.settles(v, fleet.GrantMet)
	due := w.looks()
	if len(due) != 1 || due[0].Assigned != v.Hash || due[0].Kind != fleet.KindCollector || due[0].Effective != nil {
		w.Errorf("when it is met: %+v", due)
	}
	w.found(fleet.DriftUnknown, due...)
	w.must(w.Unassign(w.Context(), w.by(), fleet.Target{Agent: s.id}))
	w.settles(v, fleet.GrantClosed)
	due = w.looks()
	if len(due) != 1 || !due[0].Assigned.IsZero() || due[0].Was != fleet.DriftUnknown {
		w.Errorf("when it is closed: %+v", due)
	}
}

func driftVerdicts(w *world) {
	s := w.connected()
	w.effective(s, 1, "a")
	w.pass(time.Minute)
	first := w.now
	w.found(fleet.DriftDrifted, w.looks()...)
	w.wantDrift(s.id, fleet.Drift{State: fleet.DriftDrifted, Changes: 2, Summary: []string{"this", "that"}, Since: first, LookedAt: first})
	w.effective(s, 2, "b")
	w.pass(time.Minute)
	w.wantDrift(s.id, fleet.Drift{State: fleet.DriftDrifted, Changes: 2, Summary: []string{"this", "that"}, Since: first, LookedAt: first})
	w.found(fleet.DriftDrifted, w.looks()...)
	w.wantDrift(s.id, fleet.Drift{State: fleet.DriftDrifted, Changes: 2, Summary: []string{"this", "that"}, Since: first, LookedAt: w.now})
	w.effective(s, 3, "c")
	w.pass(time.Minute)
	w.found(fleet.DriftInSync, w.looks()...)
	w.wantDrift(s.id, fleet.Drift{State: fleet.DriftInSync, Since: w.now, LookedAt: w.now})
}

func driftStale(w *world) {
	s := w.connected()
	w.effective(s, 1, "a")
	w.pass(time.Minute)
	looked := w.looks()
	w.effective(s, 2, "b")
	if n := w.found(fleet.DriftInSync, looked...); n != 0 {
		w.Errorf("%d verdicts were written", n)
	}
	if due := w.looks(); len(due) != 1 {
		w.Errorf("due is %+v", due)
	}
	w.wantDrift(s.id, fleet.Drift{State: fleet.DriftUnknown})
}

func driftTold(w *world) {
	s := w.connected()
	for i, state := range []fleet.DriftState{fleet.DriftInSync, fleet.DriftDrifted, fleet.DriftDrifted, fleet.DriftUnknown, fleet.DriftDrifted, fleet.DriftInSync} {
		w.effective(s, fleet.Sequence(i+1), fmt.Sprint("body ", i))
		w.pass(time.Minute)
		w.found(state, w.looks()...)
	}
	var told []string
	events, _, err := w.EventsBefore(w.Context(), w.tenant, fleet.EventFilter{Agent: s.id}, fleet.Page{Size: 100})
	w.must(err)
	for _, e := range events {
		if e.Kind == fleet.EventDriftChanged {
			told = append(told, e.Attributes["was"]+" "+e.Attributes["state"])
		}
	}
	if want := []string{"drifted in_sync", "unknown drifted", "drifted unknown", "in_sync drifted"}; !reflect.DeepEqual(told, want) {
		w.Errorf("told was %q, want %q", told, want)
	}
}

func driftSome(w *world) {
	a, b := w.connected(), w.connected()
	w.effective(a, 1, "a")
	w.effective(b, 1, "b")
	w.pass(time.Minute)
	looked := w.looks()
	if len(looked) != 2 {
		w.Fatalf("due is %+v", looked)
	}
	w.effective(b, 2, "c")
	if n := w.found(fleet.DriftInSync, append(looked, fleet.DriftLook{Tenant: w.tenant, Agent: w.enrol().id, Version: 1})...); n != 1 {
		w.Errorf("%d verdicts were written", n)
	}
	w.wantDrift(a.id, fleet.Drift{State: fleet.DriftInSync, Since: w.now, LookedAt: w.now})
}

func driftWatched(w *world) {
	g, sessions, agents := w.connectedTo(2)
	w.rolling(g, w.version("one"), agents[:1], agents[1:])
	w.woken()
	for i, verdict := range []struct {
		state fleet.DriftState
		wakes bool
	}{{fleet.DriftDrifted, true}, {fleet.DriftDrifted, false}, {fleet.DriftInSync, true}} {
		for _, s := range sessions {
			w.effective(s, fleet.Sequence(i+1), fmt.Sprint("runs ", i))
		}
		w.pass(time.Minute)
		w.woken()
		if n := w.found(verdict.state, w.looks()...); n != 2 {
			w.Errorf("%d verdicts were written", n)
		}
		want := []fleet.AgentID{}
		if verdict.wakes {
			want = agents[:1]
		}
		w.wantWoken(want...)
	}
}

func driftOfTenants(w *world) {
	s, other := w.connected(), w.in("umbrella")
	theirs := other.connect(other.enrol(), s.gateway)
	w.effective(s, 1, "ours")
	w.pass(time.Second)
	other.now = w.now
	other.effective(theirs, 1, "theirs")
	w.pass(time.Minute)
	due := w.looks()
	if len(due) != 2 || due[0].Agent != s.id || due[1].Tenant != other.tenant || due[1].Agent != theirs.id {
		w.Errorf("due is %+v", due)
	}
	if n := w.found(fleet.DriftDrifted, due[1]); n != 0 {
		w.Errorf("a verdict on another tenant's agent was written")
	}
	if first, err := w.DueDrift(w.Context(), w.now, 1); err != nil || len(first) != 1 || first[0].Agent != s.id {
		w.Errorf("the first is %+v, %v", first, err)
	}
	_, err := w.DriftOf(w.Context(), other.tenant, s.id)
	w.want(err, store.ErrNotFound)
}

func driftCounted(w *world) {
	g, a := w.group("edge"), w.connected()
	_, err := w.AddGroupMembers(w.Context(), w.by(), g.ID, []fleet.AgentID{a.id}, 20)
	w.must(err)
	b, never := w.connected(), w.enrol().id
	w.in("theirs").enrol()
	w.effective(a, 1, "a")
	w.effective(b, 1, "b")
	w.pass(time.Minute)
	for _, l := range w.looks() {
		w.found(map[fleet.AgentID]fleet.DriftState{a.id: fleet.DriftDrifted, b.id: fleet.DriftInSync}[l.Agent], l)
	}
	for _, c := range []struct {
		of   fleet.Target
		want map[fleet.DriftState]int
	}{
		{fleet.Target{}, map[fleet.DriftState]int{fleet.DriftDrifted: 1, fleet.DriftInSync: 1, fleet.DriftUnknown: 1}},
		{fleet.Target{Group: g.ID}, map[fleet.DriftState]int{fleet.DriftDrifted: 1}},
		{fleet.Target{Agent: b.id}, map[fleet.DriftState]int{fleet.DriftInSync: 1}},
		{fleet.Target{Group: "nobody"}, map[fleet.DriftState]int{}},
	} {
		got, err := w.DriftCounts(w.Context(), w.tenant, c.of)
		w.must(err)
		if !reflect.DeepEqual(got, c.want) {
			w.Errorf("of %+v: %v, want %v", c.of, got, c.want)
		}
	}
	for state, want := range map[fleet.DriftState][]fleet.AgentID{
		fleet.DriftDrifted: {a.id}, fleet.DriftInSync: {b.id}, fleet.DriftUnknown: {never}, fleet.DriftNone: nil,
	} {
		if got := w.listed(fleet.AgentFilter{Drift: state}); !slices.Equal(got, want) {
			w.Errorf("%s are %v, want %v", state, got, want)
		}
	}
}

func driftUnknown(w *world) {
	w.wantDrift(w.enrol().id, fleet.Drift{State: fleet.DriftUnknown})
	_, err := w.DriftOf(w.Context(), w.tenant, "nobody")
	w.want(err, store.ErrNotFound)
}

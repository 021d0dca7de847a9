// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// history is the part of store.Events and store.Inbox that keeps what changed about an agent.
var history = suite{
	"only a change is told":                              historyOfChanges,
	"history is narrowed by kind and time, page by page": historyNarrowed,
	"an agent that flaps does not fill the history":      historyBounded,
	"one that connects again and again does not fill it": historyOfConnections,
	"old events are pruned in batches, the oldest first": historyPruned,
}

// told is how many of an agent's events there are, of the kinds or of all.
func (w *world) told(id fleet.AgentID, kinds ...fleet.EventKind) (n int) {
	w.Helper()
	events, _, err := w.EventsBefore(w.Context(), w.tenant, fleet.EventFilter{Agent: id, Kinds: kinds}, fleet.Page{Size: 1000})
	w.must(err)
	return len(events)
}

// Heartbeats and reports that say nothing new write no history, however many there are.
func historyOfChanges(w *world) {
	s := w.connected()
	w.said(w.report(s, 1, "same", fleet.PartHealth, fleet.PartEffectiveConfig, fleet.PartComponents))
	before := w.told(s.id)
	for n := range fleet.Sequence(50) {
		w.pass(time.Second)
		w.said(w.report(s, 2+n, "same", fleet.PartHealth, fleet.PartEffectiveConfig, fleet.PartComponents))
		w.said(w.report(s, 100+n, "")) // a heartbeat
	}
	if now := w.told(s.id); now != before {
		w.Errorf("%d events were written for nothing new", now-before)
	}
	w.said(w.report(s, 500, "other", fleet.PartHealth))
	if now := w.told(s.id); now != before+1 {
		w.Errorf("%d events were written for one change", now-before)
	}
}

func historyNarrowed(w *world) {
	s := w.connected()
	start := w.now
	const health, config = fleet.EventKind("test.health"), fleet.EventKind("test.effective_config")
	for n := range fleet.Sequence(4) {
		w.pass(time.Minute)
		w.said(w.report(s, 1+n, fmt.Sprint(n), fleet.PartHealth, fleet.PartEffectiveConfig))
	}
	for name, c := range map[string]struct {
		filter fleet.EventFilter
		want   int
	}{
		"a kind":        {fleet.EventFilter{Agent: s.id, Kinds: []fleet.EventKind{health}}, 4},
		"kinds":         {fleet.EventFilter{Agent: s.id, Kinds: []fleet.EventKind{health, config}}, 8},
		"no such":       {fleet.EventFilter{Agent: s.id, Kinds: []fleet.EventKind{"none"}}, 0},
		"from":          {fleet.EventFilter{Agent: s.id, Kinds: []fleet.EventKind{health}, From: start.Add(2 * time.Minute)}, 3},
		"until":         {fleet.EventFilter{Agent: s.id, Kinds: []fleet.EventKind{health}, Until: start.Add(2 * time.Minute)}, 1},
		"another agent": {fleet.EventFilter{Agent: w.enrol().id, Kinds: []fleet.EventKind{health}}, 0},
		"of all":        {fleet.EventFilter{Kinds: []fleet.EventKind{config}, From: start, Until: start.Add(4 * time.Minute)}, 3},
	} {
		found := pages(w, func(page fleet.Page) ([]fleet.Event, string, error) {
			return w.EventsBefore(w.Context(), w.tenant, c.filter, page)
		})
		if len(found) != c.want || !slices.IsSortedFunc(found, func(a, b fleet.Event) int { return b.At.Compare(a.At) }) {
			w.Errorf("%s: %d events, or not newest first; want %d", name, len(found), c.want)
		}
	}
}

func historyBounded(w *world) {
	w.now = w.now.Truncate(time.Hour)
	s, calm := w.connected(), w.enrol()
	calmly := w.connect(calm, w.gateway("gw-1", 1<<63+7))
	for n := range fleet.Sequence(300) {
		w.pass(time.Second)
		w.said(w.report(s, 1+n, fmt.Sprint(n), fleet.PartHealth))
	}
	// One of those that are told was the session.
	if n := w.told(s.id, "test.health"); n != fleet.HistoryPerHour-1 {
		w.Errorf("%d changes were told of 300", n)
	}
	if n := w.told(s.id, fleet.EventHistoryBounded); n != 1 {
		w.Errorf("that there are more was told %d times", n)
	}
	w.said(w.report(calmly, 1, "x", fleet.PartHealth))
	if n := w.told(calm.id, "test.health"); n != 1 {
		w.Error("what another agent does is not told")
	}
	w.pass(time.Hour)
	w.said(w.report(s, 1000, "x", fleet.PartHealth))
	bounds, _, err := w.EventsBefore(w.Context(), w.tenant, fleet.EventFilter{Agent: s.id, Kinds: []fleet.EventKind{fleet.EventHistoryBounded}}, fleet.Page{Size: 1})
	w.must(err)
	if untold := bounds[0].Attributes["untold"]; untold != fmt.Sprint(300-fleet.HistoryPerHour+1) {
		w.Errorf("%s changes are said to be untold", untold)
	}
}

func historyOfConnections(w *world) {
	w.now = w.now.Truncate(time.Hour)
	a, g := w.enrol(), w.gateway("gw-1", 7)
	for range 100 {
		w.pass(time.Millisecond)
		s := w.connect(a, g)
		w.record(fleet.Uplink{Ended: &fleet.SessionEnd{
			Tenant: w.tenant, Agent: a.id, Gateway: g.ID, BootID: g.BootID, Epoch: s.epoch, At: w.now, Reason: "CLOSED", LastSeenAt: w.now,
		}})
	}
	if n := w.told(a.id, fleet.EventAgentConnected, fleet.EventAgentDisconnected); n != fleet.HistoryPerHour {
		w.Errorf("%d ends and beginnings of sessions were told of 200", n)
	}
	if w.agent(a.id).Session.Epoch != 100 {
		w.Error("a session was not given for want of room in the history")
	}
}

func historyPruned(w *world) {
	s := w.connected()
	for n := range fleet.Sequence(5) {
		w.pass(time.Minute)
		w.said(w.report(s, 1+n, fmt.Sprint(n), fleet.PartHealth))
	}
	for _, want := range []int{2, 2, 0} { // enrolled, connected, and two changes are older
		n, err := w.PruneEvents(w.Context(), w.now.Add(-2*time.Minute), 2)
		w.must(err)
		if n != want {
			w.Errorf("%d events were pruned, want %d", n, want)
		}
	}
	if n := w.told(s.id); n != 3 {
		w.Errorf("%d events are left", n)
	}
}

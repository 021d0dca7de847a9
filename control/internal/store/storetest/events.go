// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// follow reads the stream after a cursor until it has n events. A store may hold events back while anybody writes.
func (w *world) follow(after fleet.Cursor, n int) []fleet.Event {
	w.Helper()
	var events []fleet.Event
	for deadline := time.After(time.Minute); len(events) < n; {
		select {
		case <-deadline:
			w.Fatalf("%d events of %d came", len(events), n)
		default:
		}
		list, err := w.EventsAfter(w.Context(), w.tenant, after, 3)
		w.must(err)
		if len(list) > 3 {
			w.Fatalf("%d events, 3 were asked for", len(list))
		}
		if len(list) > 0 {
			after = list[len(list)-1].Cursor
		}
		events = append(events, list...)
	}
	return events
}

func eventAgent(e fleet.Event) fleet.AgentID { return e.Agent }

var events = suite{
	"history lists newest first": func(w *world) {
		var want []fleet.AgentID
		for range 5 {
			want = append([]fleet.AgentID{w.member("")}, want...)
		}
		w.in("theirs").member("")
		list := pages(w, func(page fleet.Page) ([]fleet.Event, string, error) {
			return w.EventsBefore(w.Context(), w.tenant, fleet.EventFilter{}, page)
		})
		wantIDs(w, list, want, eventAgent)
		first := list[len(list)-1]
		if first.Kind != fleet.EventAgentEnrolled || first.Tenant != w.tenant || !first.At.Equal(w.now) || first.Cursor == "" ||
			first.Message == "" || first.Attributes["method"] != string(fleet.EnrolledByAgentCSR) {
			w.Errorf("got %+v", first)
		}
	},
	"an agent narrows history": func(w *world) {
		a := w.member("")
		w.member("")
		list := pages(w, func(page fleet.Page) ([]fleet.Event, string, error) {
			return w.EventsBefore(w.Context(), w.tenant, fleet.EventFilter{Agent: a}, page)
		})
		wantIDs(w, list, []fleet.AgentID{a}, eventAgent)
	},
	"the stream goes on after a cursor": func(w *world) {
		var want []fleet.AgentID
		for range 7 {
			want = append(want, w.member(""))
		}
		w.in("theirs").member("")
		stream := w.follow("", 7)
		wantIDs(w, stream, want, eventAgent)
		wantIDs(w, w.follow(stream[3].Cursor, 3), want[4:], eventAgent)
		list, err := w.EventsAfter(w.Context(), w.tenant, stream[6].Cursor, 10)
		if err != nil || len(list) != 0 {
			w.Errorf("after the end: %+v, %v", list, err)
		}
	},
	"the last cursor is where what comes next begins": func(w *world) {
		empty, err := w.LastCursor(w.Context(), w.tenant)
		w.must(err)
		first := w.member("")
		if got := w.follow(empty, 1); got[0].Agent != first {
			w.Errorf("after the cursor of an empty stream: %+v", got)
		}
		last, err := w.LastCursor(w.Context(), w.tenant)
		w.must(err)
		second := w.member("")
		if got := w.follow(last, 1); got[0].Agent != second {
			w.Errorf("after the last cursor: %+v", got)
		}
	},
	"nothing appears later before something already returned": func(w *world) {
		const writers, each = 6, 8
		done := make(chan struct{})
		go func() {
			defer close(done)
			atOnce(w, writers, func(int) (struct{}, error) {
				for range each {
					t := w.newToken("")
					if err := w.IssueBootstrapToken(w.Context(), w.by(), t); err != nil {
						return struct{}{}, err
					}
					if err := w.redeem(w.redemption(t.ID)); err != nil {
						return struct{}{}, err
					}
				}
				return struct{}{}, nil
			})
		}()
		defer func() { <-done }() // even if too little comes: they tell the test of their errors
		live := w.follow("", writers*each)
		<-done
		wantIDs(w, live, agentsOf(w.follow("", writers*each)), eventAgent)
	},
	"what is no cursor is the place of nothing": func(w *world) {
		_, err := w.EventsAfter(w.Context(), w.tenant, "no cursor", 1)
		w.want(err, store.ErrNotFound)
		_, _, err = w.EventsBefore(w.Context(), w.tenant, fleet.EventFilter{}, fleet.Page{Size: 1, After: "no cursor"})
		w.want(err, store.ErrNotFound)
	},
	"pruning deletes what is older, of every tenant": func(w *world) {
		w.member("")
		w.in("theirs").member("")
		w.pass(time.Hour)
		kept := w.member("")
		n, err := w.PruneEvents(w.Context(), w.now, 10)
		w.must(err)
		list, _, err := w.EventsBefore(w.Context(), w.tenant, fleet.EventFilter{}, fleet.Page{Size: 10})
		w.must(err)
		if n != 2 {
			w.Errorf("pruned %d", n)
		}
		wantIDs(w, list, []fleet.AgentID{kept}, eventAgent)
	},
}

func agentsOf(events []fleet.Event) (agents []fleet.AgentID) {
	for _, e := range events {
		agents = append(agents, e.Agent)
	}
	return agents
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// queues is store.Queues, and how connections are used.
var queues = suite{
	"nothing waits in an empty store":                 queuesEmpty,
	"what is due waits, over all tenants":             queuesDue,
	"the pool says what it may use, and does not ask": poolUsed,
}

func (w *world) backlog() store.Backlog {
	w.Helper()
	b, err := w.Backlog(w.Context(), w.now)
	w.must(err)
	return b
}

func queuesEmpty(w *world) {
	if b := w.backlog(); b != (store.Backlog{}) {
		w.Errorf("the backlog is %+v", b)
	}
}

func queuesDue(w *world) {
	s, other := w.connected(), w.in("umbrella")
	woken := w.now
	w.pass(time.Second)
	other.now = w.now
	theirs := other.connect(other.enrol(), s.gateway)
	if b := w.backlog(); b.Work.Due != 2 || !b.Work.Oldest.Equal(woken) || b.Outbox != (store.Queue{}) {
		w.Errorf("the backlog is %+v", b)
	}
	item := w.work()
	if b := w.backlog(); len(item) != 2 || b.Work.Due != 0 {
		w.Errorf("of %d claimed the backlog is %+v", len(item), b)
	}
	_, err := w.Resync(w.Context(), theirs.partition, "", w.now)
	w.must(err)
	asked := w.now
	w.pass(time.Second)
	if b := w.backlog(); b.Outbox.Due == 0 || !b.Outbox.Oldest.Equal(asked) {
		w.Errorf("the backlog is %+v", b)
	}
	_, err = w.ClaimDispatches(w.Context(), w.now, w.now.Add(time.Minute), 10)
	w.must(err)
	if b := w.backlog(); b.Outbox != (store.Queue{}) {
		w.Errorf("the backlog is %+v", b)
	}
}

func poolUsed(w *world) {
	_, _, err := w.Agents(w.Context(), w.tenant, fleet.AgentFilter{}, w.now, fleet.Page{Size: 1})
	w.must(err)
	p := w.Pool()
	if p.Max < 1 || p.Used != 0 || p.Idle < 1 || p.Idle > p.Max {
		w.Errorf("the pool is %+v", p)
	}
}

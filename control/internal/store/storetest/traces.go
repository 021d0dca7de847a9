// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// traces is how traces pass through the rows of store.Work and store.Outbox.
var traces = suite{
	"an item has the trace of the latest wake that had one, until it settles": traceOfWake,
	"the members of a group are woken in the trace of the assignment":         traceOfMembers,
	"an uplink's trace counts if it wakes":                                    traceOfUplinks,
	"an offer has the trace of the item, and a later one its own":             traceOfOffers,
}

// trace is a traceparent that no other is.
func trace(n byte) fleet.Traceparent {
	return fleet.Traceparent(fmt.Sprintf("00-4bf92f3577b34da6a3ce929d0e0e47%02x-00f067aa0ba902b7-01", n))
}

func traceOfWake(w *world) {
	s := w.connected()
	w.must(w.retry(s.id, trace(1)))
	w.must(w.retry(s.id, trace(2)))
	w.must(w.retry(s.id, ""))
	if item := w.item(); item.Trace != trace(2) {
		w.Errorf("the item's trace is %q", item.Trace)
	}
	w.pass(10 * time.Second) // and its claim runs out
	if item := w.item(); item.Trace != trace(2) {
		w.Errorf("claimed again, the item's trace is %q", item.Trace)
	}
	w.pass(10 * time.Second)
	w.apply(fleet.Step{WakeAt: w.now.Add(time.Minute)})
	w.pass(time.Minute)
	if item := w.item(); item.Trace != "" {
		w.Errorf("after it was settled its trace is %q", item.Trace)
	}
}

func traceOfMembers(w *world) {
	s := w.connected()
	group, err := w.CreateGroup(w.Context(), w.by(), fleet.Group{Tenant: w.tenant, ID: newID[fleet.GroupID](), Name: "edge", CreatedAt: w.now})
	w.must(err)
	_, err = w.AddGroupMembers(w.Context(), w.by(), group.ID, []fleet.AgentID{s.id}, fleet.ImmediateLimit)
	w.must(err)
	v, by := w.version("v1"), w.by()
	by.Trace = trace(1)
	_, _, err = w.Assign(w.Context(), by, fleet.Assignment{Target: fleet.Target{Group: group.ID}, Config: v.Config, Version: v.Version}, fleet.ImmediateLimit)
	w.must(err)
	if item := w.item(); item.Trace != trace(1) {
		w.Errorf("a member's trace is %q", item.Trace)
	}
}

func traceOfUplinks(w *world) {
	s := w.connected()
	waking, idle := w.report(s, 1, "x", fleet.PartHealth), w.report(s, 2, "y", fleet.PartHealth)
	waking.Wake = true
	w.record(fleet.Uplink{Report: waking, Trace: trace(1)}, fleet.Uplink{Report: idle, Trace: trace(2)})
	if item := w.item(); item.Trace != trace(1) {
		w.Errorf("the item's trace is %q", item.Trace)
	}
}

func traceOfOffers(w *world) {
	s := w.connected()
	v := w.version("v1")
	offered := func(generation fleet.Generation, t fleet.Traceparent) {
		w.Helper()
		w.must(w.retry(s.id, t))
		w.apply(fleet.Step{Send: true, Grant: &fleet.Grant{
			Version: v, State: fleet.GrantOpen, Reason: fleet.GrantAssigned, Generation: generation, OpenedAt: w.now,
		}})
		if due := w.dispatches(); len(due) != 1 || due[0].Trace != t || due[0].Generation != generation {
			w.Errorf("due is %+v, want the trace %q", due, t)
		}
		w.pass(10 * time.Second)
	}
	offered(1, trace(1))
	offered(2, trace(2))
	offered(3, "")
}

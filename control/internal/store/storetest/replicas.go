// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// replicas is store.Replicas.
var replicas = suite{
	"who lives is told to whoever renews":                       replicasLiving,
	"a lease ends at its time, or at once when left":            replicasEnded,
	"replicas are forgotten an hour after their lease":          replicasForgotten,
	"a duty has one holder at a time":                           dutyHeld,
	"a duty is kept while the holder's lease lasts":             dutyLasts,
	"the duty of a holder who died or left is free":             dutyTakenOver,
	"the clock is one, and goes on":                             clock,
	"who lost their lease get their duty back if nobody has it": dutyLapsed,
}

// renewed renews a replica for a minute and returns who lives.
func (w *world) renewed(id string) []string {
	w.Helper()
	living, err := w.RenewReplica(w.Context(), fleet.Replica{ID: id, Version: "1", StartedAt: w.now, LeaseUntil: w.now.Add(time.Minute)}, w.now)
	w.must(err)
	return living
}

func (w *world) wantLiving(renewing string, want ...string) {
	w.Helper()
	if got := w.renewed(renewing); !slices.Equal(got, want) {
		w.Errorf("living are %q, want %q", got, want)
	}
}

func replicasLiving(w *world) {
	w.wantLiving("b/2", "b/2")
	w.wantLiving("a-1", "a-1", "b/2")
	w.wantLiving("B/3", "B/3", "a-1", "b/2") // by the order of bytes
	w.wantLiving("b/2", "B/3", "a-1", "b/2")
}

func replicasEnded(w *world) {
	w.renewed("a")
	w.pass(30 * time.Second)
	w.renewed("b")
	w.renewed("c")
	w.must(w.LeaveReplica(w.Context(), "b"))
	w.must(w.LeaveReplica(w.Context(), "b"))
	w.pass(30 * time.Second) // which ends that of a
	w.wantLiving("c", "c")
	w.wantLiving("a", "a", "c")
}

func replicasForgotten(w *world) {
	w.renewed("a")
	end := w.now.Add(time.Minute)
	for _, c := range []struct {
		at    time.Time
		known []string
	}{
		{end.Add(time.Hour - time.Microsecond), []string{"a", "b"}},
		{end.Add(time.Hour), []string{"b"}},
	} {
		w.now = c.at
		w.renewed("b")
		// Whoever is not forgotten lives, asked of a time before.
		known, err := w.RenewReplica(w.Context(), fleet.Replica{ID: "b", StartedAt: w.now, LeaseUntil: w.now.Add(time.Minute)}, end.Add(-time.Second))
		w.must(err)
		if !slices.Equal(known, c.known) {
			w.Errorf("known are %q, want %q", known, c.known)
		}
	}
}

// duty takes a duty.
func (w *world) duty(holder string) error {
	return w.AcquireDuty(w.Context(), "pruning", holder, w.now)
}

func dutyHeld(w *world) {
	w.renewed("a")
	w.renewed("b")
	w.must(w.duty("a"))
	w.want(w.duty("b"), store.ErrLeaseLost)
	w.must(w.duty("a"))
	w.must(w.AcquireDuty(w.Context(), "another", "b", w.now))
}

func dutyLasts(w *world) {
	w.renewed("a")
	w.must(w.duty("a"))
	w.pass(30 * time.Second)
	w.renewed("a") // all that is renewed
	w.pass(59 * time.Second)
	w.renewed("b")
	w.want(w.duty("b"), store.ErrLeaseLost)
	w.pass(time.Second)
	w.must(w.duty("b"))
}

func dutyTakenOver(w *world) {
	for _, holder := range []string{"a", "b", "c"} {
		w.renewed(holder)
		w.must(w.duty(holder))
		if holder == "b" {
			w.must(w.LeaveReplica(w.Context(), "b"))
		} else {
			w.pass(time.Minute)
		}
	}
}

func dutyLapsed(w *world) {
	w.renewed("a")
	w.must(w.duty("a"))
	w.pass(time.Hour)
	w.renewed("a")
	w.must(w.duty("a"))
}

func clock(w *world) {
	last := time.Time{}
	for range 3 {
		now, err := w.Clock(w.Context())
		w.must(err)
		if now.Before(last) || now.Location() != time.UTC || now.Year() < 2026 {
			w.Errorf("it is %v after %v", now, last)
		}
		last = now
	}
}

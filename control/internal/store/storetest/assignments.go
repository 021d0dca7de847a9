// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

func (w *world) assignWithin(limit int, t fleet.Target, config fleet.ConfigID, version int) (fleet.Assignment, int, error) {
	return w.Assign(w.Context(), w.by(), fleet.Assignment{Target: t, Config: config, Version: version}, limit)
}

var assignments = suite{
	"assigning to an agent decides for it and wakes the engine": func(w *world) {
		v, a := w.version("receivers: {}"), w.member("")
		w.member("")
		w.woken()
		got, n, err := w.assignWithin(0, fleet.Target{Agent: a}, v.Config, 1)
		w.must(err)
		want := fleet.Assignment{
			Tenant: w.tenant, Target: fleet.Target{Agent: a}, Config: v.Config, ConfigName: v.ConfigName, Version: 1, Offer: v.Offer,
			CreatedBy: "ci", CreatedAt: w.now, Generation: 1,
		}
		if got != want || n != 1 {
			w.Errorf("got %+v for %d agents, want %+v for 1", got, n, want)
		}
		w.wantWoken(a)
		w.wantAudit(string(a), "assignment.assign")
		if kinds := w.kinds(a); !slices.Contains(kinds, fleet.EventAssigned) {
			w.Errorf("events %v", kinds)
		}
	},
	"assigning to a group decides for members without one of their own": func(w *world) {
		v, g := w.version("receivers: {}"), w.group("web")
		a, b, own := w.member(g.ID), w.member(g.ID), w.member(g.ID)
		w.assign(fleet.Target{Agent: own}, v)
		w.woken()
		got, n, err := w.assignWithin(3, fleet.Target{Group: g.ID}, v.Config, 1)
		w.must(err)
		if got.Target != (fleet.Target{Group: g.ID}) || n != 2 {
			w.Errorf("got %+v for %d agents", got, n)
		}
		if woken := w.woken(); !slices.Contains(woken, a) || !slices.Contains(woken, b) {
			w.Errorf("woken for %v", woken)
		}
	},
	"version 0 is the newest published": func(w *world) {
		c, a := w.config("edge"), w.member("")
		_, _, err := w.assignWithin(0, fleet.Target{Agent: a}, c.ID, 0)
		w.want(err, store.ErrState)
		w.next(c.ID, "two")
		w.next(c.ID, "three")
		w.publish(c.ID, 1)
		w.publish(c.ID, 2)
		got, _, err := w.assignWithin(0, fleet.Target{Agent: a}, c.ID, 0)
		w.must(err)
		if got.Version != 2 {
			w.Errorf("got %+v", got)
		}
	},
	"only a published version can be assigned": func(w *world) {
		c, a := w.config("edge"), w.member("")
		_, _, err := w.assignWithin(0, fleet.Target{Agent: a}, c.ID, 1)
		w.want(err, store.ErrState)
		w.publish(c.ID, 1)
		w.must(w.archive(c.ID, 1))
		_, _, err = w.assignWithin(0, fleet.Target{Agent: a}, c.ID, 1)
		w.want(err, store.ErrState)
		_, _, err = w.assignWithin(0, fleet.Target{Agent: a}, c.ID, 2)
		w.want(err, store.ErrNotFound)
	},
	"target and configuration are the tenant's": func(w *world) {
		theirs := w.in("theirs")
		mine, a, g := w.version("receivers: {}"), w.member(""), w.group("web")
		deleted := w.group("old")
		w.must(w.DeleteGroup(w.Context(), w.by(), deleted.ID))
		for _, target := range []fleet.Target{
			{Agent: theirs.member("")},
			{Group: theirs.group("web").ID},
			{Agent: newID[fleet.AgentID]()},
			{Group: newID[fleet.GroupID]()},
			{Group: deleted.ID},
			{},
		} {
			_, _, err := w.assignWithin(20, target, mine.Config, 1)
			w.want(err, store.ErrNotFound)
		}
		for _, target := range []fleet.Target{{Agent: a}, {Group: g.ID}} {
			_, _, err := w.assignWithin(20, target, theirs.version("receivers: {}").Config, 1)
			w.want(err, store.ErrNotFound)
			theirs = w.in("more")
		}
	},
	"a group above the limit is not assigned to": func(w *world) {
		v, g := w.version("receivers: {}"), w.group("web")
		for range 3 {
			w.member(g.ID)
		}
		_, _, err := w.assignWithin(2, fleet.Target{Group: g.ID}, v.Config, 1)
		w.want(err, store.ErrLimit)
		_, _, err = w.assignWithin(3, fleet.Target{Group: g.ID}, v.Config, 1)
		w.must(err)
	},
	"assigning again replaces and raises the generation": func(w *world) {
		first, second, a := w.version("receivers: {}"), w.version("receivers: {otlp: {}}"), w.member("")
		w.assign(fleet.Target{Agent: a}, first)
		w.pass(time.Minute)
		got, _, err := w.assignWithin(0, fleet.Target{Agent: a}, second.Config, 1)
		w.must(err)
		if got.Config != second.Config || got.Generation != 2 || !got.CreatedAt.Equal(w.now) {
			w.Errorf("got %+v", got)
		}
		list, _, err := w.Assignments(w.Context(), w.tenant, fleet.Page{Size: 10})
		if err != nil || len(list) != 1 || list[0] != got {
			w.Errorf("got %+v, %v", list, err)
		}
	},
	"unassigning wakes the engine": func(w *world) {
		v, g, loose := w.version("receivers: {}"), w.group("web"), w.member("")
		a := w.member(g.ID)
		w.assign(fleet.Target{Group: g.ID}, v)
		w.assign(fleet.Target{Agent: loose}, v)
		w.woken()
		w.pass(time.Minute)
		w.must(w.Unassign(w.Context(), w.by(), fleet.Target{Group: g.ID}))
		w.wantAudit(string(g.ID), "assignment.unassign")
		w.wantWoken(a)
		w.must(w.Unassign(w.Context(), w.by(), fleet.Target{Agent: loose}))
		w.wantWoken(loose)
		for _, target := range []fleet.Target{{Group: g.ID}, {Agent: a}, {Agent: loose}, {Agent: "no id"}, {}} {
			w.want(w.Unassign(w.Context(), w.by(), target), store.ErrNotFound)
		}
	},
	"assignments are listed by target": func(w *world) {
		v := w.version("receivers: {}")
		var agents, groups []string
		for i := range 3 {
			a, g := w.member(""), w.group(string(rune('a'+i)))
			w.assign(fleet.Target{Group: g.ID}, v)
			w.assign(fleet.Target{Agent: a}, v)
			agents, groups = append(agents, string(a)), append(groups, string(g.ID))
		}
		slices.Sort(agents)
		slices.Sort(groups)
		list := pages(w, func(page fleet.Page) ([]fleet.Assignment, string, error) {
			return w.Assignments(w.Context(), w.tenant, page)
		})
		wantIDs(w, list, slices.Concat(agents, groups), func(a fleet.Assignment) string { return string(a.Target.Agent) + string(a.Target.Group) })
	},
}

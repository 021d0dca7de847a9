// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"maps"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// dynamic creates a dynamic group.
func (w *world) dynamic(name string, adjust ...func(*fleet.Group)) fleet.Group {
	w.Helper()
	g := fleet.Group{ID: newID[fleet.GroupID](), Tenant: w.tenant, Name: name, Selector: "true", CreatedAt: w.now}
	for _, change := range adjust {
		change(&g)
	}
	created, err := w.CreateGroup(w.Context(), w.by(), g)
	w.must(err)
	return created
}

// withDefault gives a group the version as its default.
func withDefault(v fleet.VersionRef) func(*fleet.Group) {
	return func(g *fleet.Group) { g.Default = fleet.DefaultConfig{Config: v.Config, Version: v.Version} }
}

func (w *world) choosers() fleet.Choosers {
	w.Helper()
	c, err := w.Choosers(w.Context(), w.tenant)
	w.must(err)
	return c
}

// place puts agents where they are to be, under the present generation and a limit of 3.
func (w *world) place(placements ...fleet.Placement) int {
	w.Helper()
	moved, err := w.tryPlace(placements...)
	w.must(err)
	return moved
}

func (w *world) tryPlace(placements ...fleet.Placement) (int, error) {
	w.Helper()
	return w.Place(w.Context(), w.tenant, store.Placing{Generation: w.choosers().Generation, Placements: placements, Limit: 3, At: w.now})
}

// joining places agents that are in no group into one.
func joining(g fleet.Group, agents ...fleet.AgentID) (placements []fleet.Placement) {
	for _, a := range agents {
		placements = append(placements, fleet.Placement{Agent: a, To: g.ID})
	}
	return placements
}

func (w *world) candidates(of store.Candidacy) []fleet.Candidate {
	w.Helper()
	list, err := w.Candidates(w.Context(), w.tenant, of, "", 1000)
	w.must(err)
	return list
}

// notes are the agents of which something changed.
func (w *world) notes() (agents []fleet.AgentID) {
	w.Helper()
	for _, c := range w.candidates(store.Candidacy{ChangedOnly: true}) {
		agents = append(agents, c.Agent)
	}
	return agents
}

// settled leaves no note.
func (w *world) settled() {
	w.Helper()
	var placements []fleet.Placement
	for _, c := range w.candidates(store.Candidacy{ChangedOnly: true}) {
		placements = append(placements, fleet.Placement{Agent: c.Agent, From: c.Group, To: c.Group, Changed: c.Changed})
	}
	w.place(placements...)
}

func (w *world) wantNotes(agents ...fleet.AgentID) {
	w.Helper()
	slices.Sort(agents)
	if got := w.notes(); !slices.Equal(got, agents) {
		w.Errorf("noted as changed: %v, want %v", got, agents)
	}
}

// assignedThrough reads what the agent shall end up with, and where that stands.
func (w *world) assignedThrough(id fleet.AgentID) (through string, v fleet.VersionRef) {
	w.Helper()
	s, err := w.Situations(w.Context(), w.tenant, []fleet.AgentID{id}, nil)
	w.must(err)
	if s[0].Assigned != nil {
		v = *s[0].Assigned
	}
	return s[0].Through, v
}

func (w *world) wantAssigned(id fleet.AgentID, through string, v fleet.VersionRef) {
	w.Helper()
	if gotThrough, got := w.assignedThrough(id); gotThrough != through || got != v {
		w.Errorf("assigned is %+v through %q, want %+v through %q", got, gotThrough, v, through)
	}
}

var grouping = suite{
	"a group is what it was defined as": func(w *world) {
		v := w.version("receivers: {}")
		want := w.dynamic("web", withDefault(v), func(g *fleet.Group) { g.Priority, g.DefaultOnClaims = -7, true })
		got, err := w.Group(w.Context(), w.tenant, "web")
		w.must(err)
		if got != want || got.Selector != "true" || got.Priority != -7 || !got.DefaultOnClaims ||
			got.Default != (fleet.DefaultConfig{Config: v.Config, ConfigName: v.ConfigName, Version: 1}) || !got.Dynamic() {
			w.Errorf("got %+v, want %+v", got, want)
		}
	},
	"groups choose in the order of their priority, then of their ids": func(w *world) {
		low := w.dynamic("low", func(g *fleet.Group) { g.Priority = -1 })
		first, second := w.dynamic("b"), w.dynamic("a")
		high := w.dynamic("high", func(g *fleet.Group) { g.Priority = 5 })
		w.group("static")
		w.in("theirs").dynamic("theirs")
		gone := w.dynamic("gone")
		w.must(w.DeleteGroup(w.Context(), w.by(), gone.ID))
		wantIDs(w, w.choosers().Groups, []fleet.GroupID{high.ID, first.ID, second.ID, low.ID}, groupID)
	},
	"every change of a dynamic group is a generation, and all agents are due": func(w *world) {
		if got := w.choosers(); got.Generation != 0 || got.Groups != nil {
			w.Errorf("before any: %+v", got)
		}
		w.group("static")
		var g fleet.Group
		v := w.version("receivers: {}")
		last := int64(0)
		for _, change := range []func() error{
			func() error { g = w.dynamic("web"); return nil },
			func() error {
				is := g
				is.Selector = "false"
				_, err := w.UpdateGroup(w.Context(), w.by(), g, is)
				return err
			},
			func() error { w.assign(fleet.Target{Group: g.ID}, v); return nil },
			func() error { return w.Unassign(w.Context(), w.by(), fleet.Target{Group: g.ID}) },
			func() error { return w.DeleteGroup(w.Context(), w.by(), g.ID) },
			func() error { _, err := w.UndeleteGroup(w.Context(), w.by(), g.ID); return err },
		} {
			w.pass(time.Second)
			w.must(change())
			c := w.choosers()
			due, err := w.GroupingsDue(w.Context(), w.now)
			w.must(err)
			if c.Generation <= last || !c.DueAt.Equal(w.now) || !slices.Equal(due, []fleet.TenantID{w.tenant}) {
				w.Errorf("after %d: %+v, due are %v", last, c, due)
			}
			last = c.Generation
			w.must(w.FinishGrouping(w.Context(), w.tenant, last, nil, w.now.Add(time.Hour)))
		}
		due, err := w.GroupingsDue(w.Context(), w.now.Add(59*time.Minute))
		if err != nil || len(due) != 0 {
			w.Errorf("all were looked at, and due are %v, %v", due, err)
		}
	},
	"a group is defined anew": func(w *world) {
		v, g := w.version("receivers: {}"), w.dynamic("web")
		is := g
		is.Description, is.Selector, is.Priority, is.DefaultOnClaims = "d", "1 == 1", 3, true
		is.Default = fleet.DefaultConfig{Config: v.Config}
		got, err := w.UpdateGroup(w.Context(), w.by(), g, is)
		w.must(err)
		is.Default.ConfigName = v.ConfigName
		if got != is {
			w.Errorf("got %+v, want %+v", got, is)
		}
		w.wantAudit(string(g.ID), "group.update")
		_, err = w.UpdateGroup(w.Context(), w.by(), g, is)
		w.want(err, store.ErrConflict)
		static := is
		static.Selector = ""
		_, err = w.UpdateGroup(w.Context(), w.by(), is, static)
		w.want(err, store.ErrDynamic)
		plain := w.group("plain")
		is = plain
		is.Selector = "true"
		_, err = w.UpdateGroup(w.Context(), w.by(), plain, is)
		w.want(err, store.ErrDynamic)
		w.must(w.DeleteGroup(w.Context(), w.by(), plain.ID))
		_, err = w.UpdateGroup(w.Context(), w.by(), plain, plain)
		w.want(err, store.ErrNotFound)
	},
	"a default is published, and stays so": func(w *world) {
		c := w.config("edge")
		define := func(d fleet.DefaultConfig) error {
			_, err := w.CreateGroup(w.Context(), w.by(), fleet.Group{ID: newID[fleet.GroupID](), Name: string(newID[fleet.GroupID]()), Default: d, CreatedAt: w.now})
			return err
		}
		w.want(define(fleet.DefaultConfig{Config: newID[fleet.ConfigID]()}), store.ErrNotFound)
		w.want(define(fleet.DefaultConfig{Config: c.ID, Version: 9}), store.ErrNotFound)
		w.want(define(fleet.DefaultConfig{Config: c.ID, Version: 1}), store.ErrState)
		w.want(define(fleet.DefaultConfig{Config: c.ID}), store.ErrState)
		w.publish(c.ID, 1)
		w.next(c.ID, "two")
		w.publish(c.ID, 2)
		w.must(define(fleet.DefaultConfig{Config: c.ID, Version: 1}))
		w.want(w.archive(c.ID, 1), store.ErrState)
		w.must(define(fleet.DefaultConfig{Config: c.ID}))
		w.must(w.archive(c.ID, 2))
	},
	"candidates are what is known of agents": func(w *world) {
		static, g := w.group("static"), w.dynamic("web")
		s := w.connect(w.enrol(), w.gateway("gw-1", 7))
		in := w.member(static.ID)
		r := w.report(s, 1, "v", fleet.PartDescription, fleet.PartCapabilities)
		name, version, host, bits := "otelcol", "0.149", "web-1", fleet.Capabilities(1<<63|3)
		r.Labels = map[string]string{"region": "eu", "os": "linux"}
		r.Summary = fleet.Summary{ServiceName: &name, ServiceVersion: &version, HostName: &host, Capabilities: &bits}
		w.said(r)
		w.in("theirs").enrol()
		got := w.candidates(store.Candidacy{Tags: true, Labels: true})
		if len(got) != 2 {
			w.Fatalf("got %+v", got)
		}
		c := got[slices.IndexFunc(got, func(c fleet.Candidate) bool { return c.Agent == s.id })]
		if c.Group != "" || c.Method != fleet.EnrolledByAgentCSR || !c.EnrolledAt.Equal(w.now) || c.Parent != "" || c.Capabilities != bits || c.Changed == 0 ||
			c.ServiceName != name || c.ServiceVersion != version || c.HostName != host || !maps.Equal(c.Labels, r.Labels) {
			w.Errorf("got %+v", c)
		}
		c = got[slices.IndexFunc(got, func(c fleet.Candidate) bool { return c.Agent == in })]
		if c.Group != static.ID || !maps.Equal(c.Tags, fleet.Tags{"site": "berlin"}) || len(c.Labels) != 0 {
			w.Errorf("the member is %+v", c)
		}
		for _, c := range w.candidates(store.Candidacy{}) {
			if len(c.Tags)+len(c.Labels) != 0 {
				w.Errorf("not asked for: %+v", c)
			}
		}
		w.place(joining(g, s.id)...)
		after, err := w.Candidates(w.Context(), w.tenant, store.Candidacy{}, got[0].Agent, 1)
		if err != nil || len(after) != 1 || after[0].Agent != got[1].Agent {
			w.Errorf("after the first: %+v, %v", after, err)
		}
		if first, err := w.Candidates(w.Context(), w.tenant, store.Candidacy{}, "", 1); err != nil || len(first) != 1 || first[0].Agent != got[0].Agent {
			w.Errorf("the first: %+v, %v", first, err)
		}
	},
	"what selectors can see is noted when it changes": func(w *world) {
		web := w.dynamic("web")
		s := w.connect(w.enrol(), w.gateway("gw-1", 7))
		w.wantNotes(s.id)
		due, err := w.GroupingsDue(w.Context(), w.now.Add(-time.Hour))
		if err != nil || !slices.Equal(due, []fleet.TenantID{w.tenant}) {
			w.Errorf("with a note, due are %v, %v", due, err)
		}
		w.settled()
		w.wantNotes()
		for sequence, kind := range []fleet.PartKind{fleet.PartHealth, fleet.PartEffectiveConfig, fleet.PartDescription, fleet.PartCapabilities} {
			w.said(w.report(s, fleet.Sequence(sequence+1), "one", kind))
			if seen := kind == fleet.PartDescription || kind == fleet.PartCapabilities; seen {
				w.wantNotes(s.id)
				w.settled()
				w.said(w.report(s, fleet.Sequence(sequence+10), "one", kind)) // the same
			}
			w.wantNotes()
		}
		// Who leaves a static group may be chosen.
		static := w.group("static")
		leaves, stays := w.member(static.ID), w.member(static.ID)
		w.settled()
		_, err = w.RemoveGroupMembers(w.Context(), w.by(), static.ID, []fleet.AgentID{leaves})
		w.must(err)
		w.wantNotes(leaves)
		w.settled()
		w.must(w.DeleteGroup(w.Context(), w.by(), static.ID))
		w.wantNotes(stays)
		// Nobody looks any more.
		w.settled()
		w.must(w.DeleteGroup(w.Context(), w.by(), web.ID))
		w.member("")
		w.wantNotes()
	},
	"a child is noted when it is born": func(w *world) {
		w.dynamic("web")
		s := w.connect(w.enrol(), w.gateway("gw-1", 7))
		_, err := w.AllowChildren(w.Context(), w.by(), s.id, 1)
		w.must(err)
		w.settled()
		c := w.claimOf(s.agent, s.gateway)
		c.UID = newUID()
		child := w.claim(c).Agent
		w.wantNotes(child)
		if got := w.candidates(store.Candidacy{ChangedOnly: true}); got[0].Parent != s.id || got[0].Method != fleet.EnrolledAsChild {
			w.Errorf("the child is %+v", got[0])
		}
	},
	"placing moves agents, wakes the engine, and tells": func(w *world) {
		web, db := w.dynamic("web"), w.dynamic("db")
		a, b, away := w.member(""), w.member(""), w.member("")
		w.place(joining(db, b, away)...)
		w.woken()
		moved := w.place(append(joining(web, a), fleet.Placement{Agent: b, From: db.ID, To: web.ID}, fleet.Placement{Agent: away, From: db.ID})...)
		if moved != 3 || w.agent(a).Group != web.ID || w.agent(b).Group != web.ID || w.agent(away).Group != "" {
			w.Errorf("%d moved: %s, %s, %s", moved, w.agent(a).Group, w.agent(b).Group, w.agent(away).Group)
		}
		w.wantWoken(a, b, away)
		for _, id := range []fleet.AgentID{a, b, away} {
			if kinds := w.kinds(id); kinds[len(kinds)-1] != fleet.EventGroupChanged {
				w.Errorf("events %v", kinds)
			}
		}
		if got := w.audited(string(web.ID)); !slices.Contains(got, "group.place_members") {
			w.Errorf("about the group: %v", got)
		}
		if got := w.audited(string(db.ID)); !slices.Contains(got, "group.release_members") {
			w.Errorf("about the other: %v", got)
		}
		if by := w.lastAudit(string(web.ID)); by.ActorKind != fleet.PrincipalSystem {
			w.Errorf("by %+v", by)
		}
	},
	"an agent that is not where it was is left out, and noted": func(w *world) {
		web, static := w.dynamic("web"), w.group("static")
		a, b := w.member(""), w.member("")
		w.settled()
		_, err := w.AddGroupMembers(w.Context(), w.by(), static.ID, []fleet.AgentID{a}, 20)
		w.must(err)
		if moved := w.place(append(joining(web, a, b), fleet.Placement{Agent: newID[fleet.AgentID](), To: web.ID})...); moved != 1 {
			w.Errorf("%d moved", moved)
		}
		if w.agent(a).Group != static.ID || w.agent(b).Group != web.ID {
			w.Errorf("%s, %s", w.agent(a).Group, w.agent(b).Group)
		}
		w.wantNotes(a)
	},
	"what was decided under another generation is not written": func(w *world) {
		web := w.dynamic("web")
		a, before := w.member(""), w.choosers().Generation
		w.dynamic("db")
		_, err := w.Place(w.Context(), w.tenant, store.Placing{Generation: before, Placements: joining(web, a), Limit: 3, At: w.now})
		w.want(err, store.ErrConflict)
		w.want(w.FinishGrouping(w.Context(), w.tenant, before, nil, w.now.Add(time.Hour)), store.ErrConflict)
		if w.agent(a).Group != "" || !w.choosers().DueAt.Equal(w.now) {
			w.Errorf("%s, %+v", w.agent(a).Group, w.choosers())
		}
		theirs := w.in("theirs")
		_, err = theirs.Place(w.Context(), "theirs", store.Placing{Generation: 1, At: w.now})
		w.want(err, store.ErrConflict)
	},
	"a note that came meanwhile is not settled": func(w *world) {
		w.dynamic("web")
		s := w.connect(w.enrol(), w.gateway("gw-1", 7))
		read := w.candidates(store.Candidacy{ChangedOnly: true})[0]
		w.settled()
		w.said(w.report(s, 1, "v", fleet.PartDescription))
		w.place(fleet.Placement{Agent: s.id, Changed: read.Changed})
		w.wantNotes(s.id)
	},
	"of more that join at once than may change each waits in its new group": func(w *world) {
		old, v := w.dynamic("old"), w.version("receivers: {}")
		web := w.dynamic("web", withDefault(v))
		agents := make([]fleet.AgentID, 5)
		for i := range agents {
			agents[i] = w.member("")
		}
		w.place(joining(old, agents[0])...)
		if moved := w.place(append(joining(web, agents[1:4]...), fleet.Placement{Agent: agents[0], From: old.ID, To: web.ID})...); moved != 4 {
			w.Errorf("%d moved", moved)
		}
		w.wantWaiting(web, 4)
		w.wantWaiting(old, 0)
		if moved := w.place(joining(web, agents[4])...); moved != 1 {
			w.Errorf("%d moved", moved)
		}
		w.wantWaiting(web, 4)
		w.place(fleet.Placement{Agent: agents[1], From: web.ID}, fleet.Placement{Agent: agents[2], From: web.ID, To: old.ID})
		w.wantWaiting(web, 2)
		w.wantWaiting(old, 0)
	},
	"nobody waits for a group that gives nothing, or is deleted": func(w *world) {
		web, bare := w.dynamic("web", withDefault(w.version("receivers: {}"))), w.dynamic("bare")
		agents := []fleet.AgentID{w.member(""), w.member(""), w.member(""), w.member("")}
		w.place(joining(bare, agents...)...)
		w.wantWaiting(bare, 0)
		for _, id := range agents {
			w.place(fleet.Placement{Agent: id, From: bare.ID})
		}
		w.place(joining(web, agents...)...)
		w.wantWaiting(web, 4)
		w.must(w.DeleteGroup(w.Context(), w.by(), web.ID))
		back, err := w.UndeleteGroup(w.Context(), w.by(), web.ID)
		if err != nil || back.WaitingCount != 0 || !back.Dynamic() {
			w.Errorf("back is %+v, %v", back, err)
		}
	},
	"who joins a group gets its default, until it leaves": func(w *world) {
		v1, v2 := w.version("receivers: {}"), w.version("exporters: {}")
		web, db := w.dynamic("web", withDefault(v1)), w.dynamic("db", withDefault(v2))
		a := w.member("")
		w.place(joining(web, a)...)
		w.wantAssigned(a, "default", v1)
		if got := w.audited(string(web.ID)); !slices.Contains(got, "group.give_default") {
			w.Errorf("audit log: %v", got)
		}
		if kinds := w.kinds(a); !slices.Contains(kinds, fleet.EventAssigned) {
			w.Errorf("events %v", kinds)
		}
		list, _, err := w.Assignments(w.Context(), w.tenant, fleet.Page{Size: 10})
		if err != nil || len(list) != 1 || list[0].Target != (fleet.Target{Agent: a, Default: true}) || list[0].ConfigName != v1.ConfigName {
			w.Errorf("assignments %+v, %v", list, err)
		}
		w.want(w.archive(v1.Config, 1), store.ErrState)
		w.place(fleet.Placement{Agent: a, From: web.ID, To: db.ID})
		w.wantAssigned(a, "default", v2)
		w.place(fleet.Placement{Agent: a, From: db.ID})
		w.wantAssigned(a, "", fleet.VersionRef{})
		w.place(joining(web, a)...)
		w.must(w.DeleteGroup(w.Context(), w.by(), web.ID))
		w.wantAssigned(a, "", fleet.VersionRef{})
	},
	"whatever else is assigned comes before a default": func(w *world) {
		v, groups, own := w.version("receivers: {}"), w.version("exporters: {}"), w.version("processors: {}")
		web := w.dynamic("web", withDefault(v))
		a := w.member("")
		w.place(joining(web, a)...)
		w.assign(fleet.Target{Group: web.ID}, groups)
		w.wantAssigned(a, "group", groups)
		w.assign(fleet.Target{Agent: a}, own)
		w.wantAssigned(a, "agent", own)
		w.must(w.Unassign(w.Context(), w.by(), fleet.Target{Agent: a}))
		w.must(w.Unassign(w.Context(), w.by(), fleet.Target{Group: web.ID}))
		w.wantAssigned(a, "default", v)
	},
	"a static group gives its default, too": func(w *world) {
		v := w.version("receivers: {}")
		g, err := w.CreateGroup(w.Context(), w.by(), fleet.Group{
			ID: newID[fleet.GroupID](), Tenant: w.tenant, Name: "static", Default: fleet.DefaultConfig{Config: v.Config}, CreatedAt: w.now,
		})
		w.must(err)
		enrolled, a, b, c := w.member(g.ID), w.member(""), w.member(""), w.member("")
		w.wantAssigned(enrolled, "default", v)
		_, err = w.AddGroupMembers(w.Context(), w.by(), g.ID, []fleet.AgentID{a, b, c}, 3)
		w.must(err)
		w.wantAssigned(a, "default", v)
		_, err = w.RemoveGroupMembers(w.Context(), w.by(), g.ID, []fleet.AgentID{a})
		w.must(err)
		w.wantAssigned(a, "", fleet.VersionRef{})
	},
	"a default of which nothing is published any more is left out": func(w *world) {
		v := w.version("receivers: {}")
		web := w.dynamic("web", func(g *fleet.Group) { g.Default = fleet.DefaultConfig{Config: v.Config} })
		w.must(w.archive(v.Config, 1))
		a := w.member("")
		if moved := w.place(joining(web, a)...); moved != 1 || w.agent(a).Group != web.ID {
			w.Errorf("%d moved", moved)
		}
		w.wantAssigned(a, "", fleet.VersionRef{})
	},
	"nobody else chooses for a dynamic group": func(w *world) {
		web, a := w.dynamic("web"), w.member("")
		_, err := w.AddGroupMembers(w.Context(), w.by(), web.ID, []fleet.AgentID{a}, 20)
		w.want(err, store.ErrDynamic)
		_, err = w.RemoveGroupMembers(w.Context(), w.by(), web.ID, []fleet.AgentID{a})
		w.want(err, store.ErrDynamic)
		w.want(w.IssueBootstrapToken(w.Context(), w.by(), w.newToken(web.ID)), store.ErrDynamic)
		p := w.newPool("asg")
		p.Group = web.ID
		_, err = w.CreateTokenPool(w.Context(), w.by(), p)
		w.want(err, store.ErrDynamic)
		_, err = w.UpdateTokenPool(w.Context(), w.by(), w.pool("free").ID, fleet.PoolChange{Group: &web.ID})
		w.want(err, store.ErrDynamic)
	},
	"what selectors fail of is known until all went well": func(w *world) {
		web, db := w.dynamic("web"), w.dynamic("db")
		since := w.now
		finish := func(failing map[fleet.GroupID]fleet.SelectorFailure) fleet.SelectorFailure {
			w.must(w.FinishGrouping(w.Context(), w.tenant, w.choosers().Generation, failing, w.now.Add(time.Hour)))
			got, err := w.Group(w.Context(), w.tenant, "web")
			w.must(err)
			if other, err := w.Group(w.Context(), w.tenant, "db"); err != nil || other != db {
				w.Errorf("the other is %+v, %v", other, err)
			}
			return got.Failing
		}
		failure := fleet.SelectorFailure{Agents: 3, Since: w.now, Words: "no"}
		if got := finish(map[fleet.GroupID]fleet.SelectorFailure{web.ID: failure}); got != failure {
			w.Errorf("got %+v", got)
		}
		w.pass(time.Hour)
		if got := finish(map[fleet.GroupID]fleet.SelectorFailure{web.ID: {Agents: 1, Since: w.now, Words: "still"}}); got != (fleet.SelectorFailure{Agents: 1, Since: since, Words: "still"}) {
			w.Errorf("got %+v", got)
		}
		if got := finish(nil); got != (fleet.SelectorFailure{}) {
			w.Errorf("got %+v", got)
		}
	},
	"labels and tags in use are counted": func(w *world) {
		w.member("")
		w.member("")
		r := w.redemption(func() fleet.TokenID {
			t := w.newToken("")
			t.Tags = fleet.Tags{"site": "paris", "rack": "7"}
			w.must(w.IssueBootstrapToken(w.Context(), w.by(), t))
			return t.ID
		}())
		w.must(w.redeem(r))
		s := w.connect(w.enrol(), w.gateway("gw-1", 7))
		said := w.report(s, 1, "v", fleet.PartDescription)
		said.Labels = map[string]string{"os": "linux"}
		w.said(said)
		w.in("theirs").member("")
		for _, c := range []struct {
			kind store.LabelKind
			key  string
			most int
			want []store.LabelUse
		}{
			{store.Tags, "", 10, []store.LabelUse{{Text: "site", Agents: 3}, {Text: "rack", Agents: 1}}},
			{store.Tags, "", 1, []store.LabelUse{{Text: "site", Agents: 3}}},
			{store.Tags, "site", 10, []store.LabelUse{{Text: "berlin", Agents: 2}, {Text: "paris", Agents: 1}}},
			{store.Labels, "", 10, []store.LabelUse{{Text: "os", Agents: 1}}},
			{store.Labels, "os", 10, []store.LabelUse{{Text: "linux", Agents: 1}}},
			{store.Labels, "none", 10, nil},
		} {
			got, err := w.LabelsInUse(w.Context(), w.tenant, c.kind, c.key, c.most)
			if err != nil || !slices.Equal(got, c.want) {
				w.Errorf("%v %q: %+v, %v; want %+v", c.kind, c.key, got, err, c.want)
			}
		}
	},
	"of several that place an agent at once one does": func(w *world) {
		groups := []fleet.Group{w.dynamic("a"), w.dynamic("b"), w.dynamic("c")}
		agents := make([]fleet.AgentID, 5)
		for i := range agents {
			agents[i] = w.member("")
		}
		generation := w.choosers().Generation
		moved := atOnce(w, 6, func(i int) (int, error) {
			list := joining(groups[i%3], agents...)
			return w.Place(w.Context(), w.tenant, store.Placing{Generation: generation, Placements: list, Limit: 100, At: w.now})
		})
		total := 0
		for _, n := range moved {
			total += n
		}
		if total != len(agents) {
			w.Errorf("%v moved", moved)
		}
		for _, a := range agents {
			joined := 0
			for _, kind := range w.kinds(a) {
				if kind == fleet.EventGroupChanged {
					joined++
				}
			}
			if joined != 1 {
				w.Errorf("agent %s joined %d groups", a, joined)
			}
		}
	},
	"an assignment and agents that join change no more than the limit together": func(w *world) {
		web, v := w.dynamic("web"), w.version("receivers: {}")
		agents := make([]fleet.AgentID, 4)
		for i := range agents {
			agents[i] = w.member("")
		}
		generation := w.choosers().Generation
		race(2, func(i int) (int, error) {
			if i == 0 {
				_, n, err := w.assignWithin(3, fleet.Target{Group: web.ID}, v.Config, 1)
				return n, err
			}
			return w.Place(w.Context(), w.tenant, store.Placing{Generation: generation, Placements: joining(web, agents...), Limit: 3, At: w.now})
		})
		got, err := w.Group(w.Context(), w.tenant, "web")
		if err != nil || got.Assigned && got.MemberCount > got.WaitingCount || !got.Assigned && (got.MemberCount != 4 || got.WaitingCount != 0) {
			w.Errorf("the group is %+v, %v", got, err)
		}
	},
}

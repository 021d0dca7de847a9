// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"slices"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// group creates a group.
func (w *world) group(name string) fleet.Group {
	w.Helper()
	g, err := w.CreateGroup(w.Context(), w.by(), fleet.Group{ID: newID[fleet.GroupID](), Tenant: w.tenant, Name: name, Description: "of tests", CreatedAt: w.now})
	w.must(err)
	return g
}

// member is a new agent in a group.
func (w *world) member(group fleet.GroupID) fleet.AgentID {
	w.Helper()
	r := w.redemption(w.token(group).ID)
	w.must(w.redeem(r))
	return r.Agent
}

// wantWaiting wants so many members of a group to wait.
func (w *world) wantWaiting(g fleet.Group, n int) {
	w.Helper()
	if got, err := w.Group(w.Context(), w.tenant, string(g.ID)); err != nil || got.WaitingCount != n {
		w.Errorf("%d wait in %s, want %d; %v", got.WaitingCount, g.Name, n, err)
	}
}

// woken empties the engine's queue and returns the agents that were due.
func (w *world) woken() (agents []fleet.AgentID) {
	w.Helper()
	for _, item := range w.work() {
		agents = append(agents, item.Agent)
		w.must(w.do(item, w.situation(item), fleet.Step{}))
	}
	slices.Sort(agents)
	return agents
}

func (w *world) wantWoken(agents ...fleet.AgentID) {
	w.Helper()
	slices.Sort(agents)
	if got := w.woken(); !slices.Equal(got, agents) {
		w.Errorf("the engine was woken for %v, want %v", got, agents)
	}
}

func groupID(g fleet.Group) fleet.GroupID { return g.ID }

var groups = suite{
	"a group is found by id and by name": func(w *world) {
		g := w.group("web")
		for _, key := range []string{string(g.ID), "web"} {
			found, err := w.Group(w.Context(), w.tenant, key)
			w.must(err)
			if found != g || found.Name != "web" || found.Description != "of tests" || !found.CreatedAt.Equal(w.now) {
				w.Errorf("by %s: got %+v, want %+v", key, found, g)
			}
			_, err = w.Group(w.Context(), "theirs", key)
			w.want(err, store.ErrNotFound)
		}
		_, err := w.Group(w.Context(), w.tenant, "db")
		w.want(err, store.ErrNotFound)
		w.wantAudit(string(g.ID), "group.create")
	},
	"an id comes before a name that looks like it": func(w *world) {
		g := w.group("web")
		w.group(string(g.ID))
		found, err := w.Group(w.Context(), w.tenant, string(g.ID))
		w.must(err)
		if found.Name != "web" {
			w.Errorf("got %+v", found)
		}
	},
	"a name is taken in its tenant until its group is deleted": func(w *world) {
		g := w.group("web")
		_, err := w.CreateGroup(w.Context(), w.by(), fleet.Group{ID: newID[fleet.GroupID](), Name: "web", CreatedAt: w.now})
		w.want(err, store.ErrExists)
		w.in("theirs").group("web")

		w.must(w.DeleteGroup(w.Context(), w.by(), g.ID))
		again := w.group("web")
		found, err := w.Group(w.Context(), w.tenant, "web")
		w.must(err)
		if found.ID != again.ID {
			w.Errorf("found %s, want the living %s", found.ID, again.ID)
		}
		found, err = w.Group(w.Context(), w.tenant, string(g.ID))
		w.must(err)
		if !found.DeletedAt.Equal(w.now) {
			w.Errorf("the deleted one is found by id: got %+v", found)
		}
	},
	"groups are listed by name": func(w *world) {
		var want []fleet.GroupID
		for _, name := range []string{"Zoo", "a", "b", "b-2", "c"} { // by bytes: capitals first
			want = append(want, w.group(name).ID)
		}
		w.in("theirs").group("a")
		list := pages(w, func(page fleet.Page) ([]fleet.Group, string, error) {
			return w.Groups(w.Context(), w.tenant, false, page)
		})
		wantIDs(w, list, want, groupID)
	},
	"deleted groups are listed if asked for": func(w *world) {
		var deleted []fleet.GroupID
		for range 3 {
			g := w.group("web")
			w.must(w.DeleteGroup(w.Context(), w.by(), g.ID))
			deleted = append(deleted, g.ID)
		}
		living := w.group("web")
		read := func(withDeleted bool) []fleet.Group {
			return pages(w, func(page fleet.Page) ([]fleet.Group, string, error) {
				return w.Groups(w.Context(), w.tenant, withDeleted, page)
			})
		}
		wantIDs(w, read(false), []fleet.GroupID{living.ID}, groupID)
		all := append(deleted, living.ID)
		slices.Sort(all)
		wantIDs(w, read(true), all, groupID)
	},
	"deleting a group removes members and assignment and wakes the engine": func(w *world) {
		g := w.group("web")
		a, b := w.member(g.ID), w.member(g.ID)
		w.assign(fleet.Target{Group: g.ID}, w.version("receivers: {}"))
		w.woken()
		w.pass(time.Minute)
		w.must(w.DeleteGroup(w.Context(), w.by(), g.ID))

		for _, id := range []fleet.AgentID{a, b} {
			if got := w.agent(id); got.Group != "" || got.GroupName != "" {
				w.Errorf("still in %+v", got)
			}
			if kinds := w.kinds(id); kinds[len(kinds)-1] != fleet.EventGroupChanged {
				w.Errorf("events %v", kinds)
			}
		}
		list, _, err := w.Assignments(w.Context(), w.tenant, fleet.Page{Size: 10})
		if err != nil || len(list) != 0 {
			w.Errorf("assignments %+v, %v", list, err)
		}
		w.wantAudit(string(g.ID), "group.delete")
		w.wantWoken(a, b)
		w.want(w.DeleteGroup(w.Context(), w.by(), g.ID), store.ErrNotFound)
		w.want(w.DeleteGroup(w.Context(), w.by(), newID[fleet.GroupID]()), store.ErrNotFound)
	},
	"an undeleted group is empty": func(w *world) {
		g := w.group("web")
		w.member(g.ID)
		w.must(w.DeleteGroup(w.Context(), w.by(), g.ID))
		back, err := w.UndeleteGroup(w.Context(), w.by(), g.ID)
		w.must(err)
		if back != g {
			w.Errorf("got %+v, want %+v", back, g)
		}
		w.wantAudit(string(g.ID), "group.undelete")
		_, err = w.UndeleteGroup(w.Context(), w.by(), newID[fleet.GroupID]())
		w.want(err, store.ErrNotFound)
	},
	"a group does not come back to a name that is taken": func(w *world) {
		g := w.group("web")
		w.must(w.DeleteGroup(w.Context(), w.by(), g.ID))
		w.group("web")
		_, err := w.UndeleteGroup(w.Context(), w.by(), g.ID)
		w.want(err, store.ErrExists)
	},
	"adding moves agents and wakes the engine for those that moved": func(w *world) {
		web, db := w.group("web"), w.group("db")
		inWeb, inDB, loose := w.member(web.ID), w.member(db.ID), w.member("")
		w.woken()
		got, err := w.AddGroupMembers(w.Context(), w.by(), web.ID, []fleet.AgentID{inWeb, inDB, loose, loose}, 0)
		w.must(err)
		if got.ID != web.ID || got.MemberCount != 3 {
			w.Errorf("got %+v", got)
		}
		if from, err := w.Group(w.Context(), w.tenant, "db"); err != nil || from.MemberCount != 0 {
			w.Errorf("left behind: %+v, %v", from, err)
		}
		w.wantAudit(string(web.ID), "group.add_members")
		w.wantWoken(inDB, loose)
		if kinds := w.kinds(loose); kinds[len(kinds)-1] != fleet.EventGroupChanged {
			w.Errorf("events %v", kinds)
		}
	},
	"all agents must be there to be added": func(w *world) {
		g, a := w.group("web"), w.member("")
		stranger := w.in("theirs").member("")
		for _, list := range [][]fleet.AgentID{{a, newID[fleet.AgentID]()}, {a, stranger}, {a, "no id"}} {
			_, err := w.AddGroupMembers(w.Context(), w.by(), g.ID, list, 20)
			w.want(err, store.ErrNotFound)
		}
		if got := w.agent(a); got.Group != "" {
			w.Errorf("a failure moved %+v", got)
		}
		_, err := w.AddGroupMembers(w.Context(), w.by(), newID[fleet.GroupID](), []fleet.AgentID{a}, 20)
		w.want(err, store.ErrNotFound)
	},
	"of more that join at once than may change each waits, until it leaves": func(w *world) {
		g, other := w.group("web"), w.group("other")
		w.member(g.ID)
		a, b, c, d := w.member(""), w.member(""), w.member(""), w.member("")
		w.assign(fleet.Target{Group: g.ID}, w.version("receivers: {}"))
		got, err := w.AddGroupMembers(w.Context(), w.by(), g.ID, []fleet.AgentID{a, b, c}, 2)
		if err != nil || got.MemberCount != 4 || got.WaitingCount != 3 {
			w.Errorf("joined %+v, %v", got, err)
		}
		_, err = w.AddGroupMembers(w.Context(), w.by(), g.ID, []fleet.AgentID{a, d}, 1) // one is new
		w.must(err)
		w.wantWaiting(g, 3)
		_, err = w.AddGroupMembers(w.Context(), w.by(), other.ID, []fleet.AgentID{a}, 2)
		w.must(err)
		got, err = w.RemoveGroupMembers(w.Context(), w.by(), g.ID, []fleet.AgentID{b})
		if err != nil || got.WaitingCount != 1 {
			w.Errorf("left %+v, %v", got, err)
		}
		w.wantWaiting(other, 0)
	},
	"who joins while the group's rollout is not completed waits, however few": func(w *world) {
		g, agents := w.groupOf(1)
		r := w.rolling(g, w.version("one"), agents)
		enrolled, moved := w.member(g.ID), w.member("")
		_, err := w.AddGroupMembers(w.Context(), w.by(), g.ID, []fleet.AgentID{moved}, 20)
		w.must(err)
		w.wantWaiting(g, 2)
		for _, id := range []fleet.AgentID{enrolled, moved} {
			if s := w.situationOf(id); !strings.Contains(s.Held, "waits") || s.Through != "group" {
				w.Errorf("the situation is %+v", s)
			}
		}
		w.steered(r.ID, becoming(fleet.RolloutPaused, true))
		w.member(g.ID)
		w.wantWaiting(g, 3)
		w.steered(r.ID, becoming(fleet.RolloutInProgress, false))
		w.steered(r.ID, becoming(fleet.RolloutCompleted, false))
		late := w.member(g.ID)
		w.wantWaiting(g, 3)
		if s := w.situationOf(late); s.Held != "" {
			w.Errorf("who came late is held: %s", s.Held)
		}
	},
	"who waits is held until an assignment of its own, or the group's, comes": func(w *world) {
		g := w.group("web")
		a, b := w.member(""), w.member("")
		w.assign(fleet.Target{Group: g.ID}, w.version("receivers: {}"))
		_, err := w.AddGroupMembers(w.Context(), w.by(), g.ID, []fleet.AgentID{a, b}, 1)
		w.must(err)
		w.assign(fleet.Target{Agent: a}, w.version("exporters: {}"))
		if s := w.situationOf(a); s.Held != "" || s.Through != "agent" {
			w.Errorf("with an assignment of its own: %+v", s)
		}
		if s := w.situationOf(b); s.Held == "" {
			w.Errorf("without: %+v", s)
		}
		w.assign(fleet.Target{Group: g.ID}, w.version("processors: {}"))
		w.wantWaiting(g, 0)
		if s := w.situationOf(b); s.Held != "" {
			w.Errorf("with what the group is assigned since: %+v", s)
		}
	},
	"removing takes out those that are in": func(w *world) {
		web, db := w.group("web"), w.group("db")
		a, b, elsewhere := w.member(web.ID), w.member(web.ID), w.member(db.ID)
		w.woken()
		got, err := w.RemoveGroupMembers(w.Context(), w.by(), web.ID, []fleet.AgentID{a, elsewhere, newID[fleet.AgentID](), "no id"})
		w.must(err)
		if got.MemberCount != 1 || w.agent(a).Group != "" || w.agent(b).Group != web.ID || w.agent(elsewhere).Group != db.ID {
			w.Errorf("got %+v", got)
		}
		w.wantAudit(string(web.ID), "group.remove_members")
		w.wantWoken(a)
		_, err = w.RemoveGroupMembers(w.Context(), w.by(), newID[fleet.GroupID](), []fleet.AgentID{a})
		w.want(err, store.ErrNotFound)
	},
}

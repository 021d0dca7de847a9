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

// calendars is store.Calendars, and what budgets mean to restarts.
var calendars = suite{
	"schedules are listed by name, as they were put":               listSchedules,
	"a schedule takes the place of the one with its id":            putScheduleAgain,
	"two schedules of a tenant have two names":                     putScheduleNamed,
	"a schedule is about groups that there are":                    putScheduleOfGroups,
	"a schedule is deleted once":                                   deleteSchedule,
	"a tenant has only so many schedules, and budgets":             putTooMany,
	"budgets are listed by name, and changed in their place":       listBudgets,
	"a budget is deleted once":                                     deleteBudget,
	"a restart counts in budgets until it waits no more":           restartCounts,
	"a tag comes before a label, and without either nothing is":    restartByTagOrLabel,
	"a budget is not overdrawn by restarts":                        restartWithinBudget,
	"who is disturbed already counts once":                         restartAgain,
	"a preview of restarts says what budgets leave, and keeps off": restartPreviewed,
	"restarts at the same time do not overdraw a budget":           restartRaced,
	"without budgets nothing is counted":                           restartUncounted,
}

func (w *world) newSchedule(name string, groups ...fleet.GroupID) fleet.Schedule {
	return fleet.Schedule{
		Tenant: w.tenant, ID: newID[fleet.ScheduleID](), Name: name, Kind: fleet.ScheduleWindow, Groups: groups,
		Cron: "0 2 * * *", Length: 90 * time.Minute, Zone: "Europe/Berlin", CreatedBy: "ci", CreatedAt: w.now,
	}
}

func (w *world) putSchedule(s fleet.Schedule) fleet.Schedule {
	w.Helper()
	put, err := w.PutSchedule(w.Context(), w.by(), s)
	w.must(err)
	wantSame(w, []fleet.Schedule{put}, []fleet.Schedule{s})
	return put
}

func (w *world) wantSchedules(want ...fleet.Schedule) {
	w.Helper()
	got, err := w.Schedules(w.Context(), w.tenant)
	w.must(err)
	wantSame(w, got, want)
}

// wantSame compares schedules; none and no groups are the same.
func wantSame(w *world, got, want []fleet.Schedule) {
	w.Helper()
	alike := func(a, b fleet.Schedule) bool {
		same := slices.Equal(a.Groups, b.Groups)
		a.Groups, b.Groups = nil, nil
		return same && reflect.DeepEqual(a, b)
	}
	if !slices.EqualFunc(got, want, alike) {
		w.Errorf("got %+v, want %+v", got, want)
	}
}

func listSchedules(w *world) {
	w.wantSchedules()
	nights := w.putSchedule(w.newSchedule("nights", w.group("g").ID, w.group("h").ID))
	w.wantAudit(string(nights.ID), "schedule.put")
	freeze := w.newSchedule("freeze")
	freeze.Kind, freeze.Cron, freeze.Length, freeze.From, freeze.Until = fleet.ScheduleFreeze, "", 0, w.now, w.now.Add(time.Hour)
	freeze = w.putSchedule(freeze)
	rule := w.newSchedule("rule")
	rule.Cron, rule.Rule, rule.From = "", "FREQ=DAILY", w.now
	rule = w.putSchedule(rule)
	w.in("theirs").putSchedule(w.in("theirs").newSchedule("nights"))
	w.wantSchedules(freeze, nights, rule)
}

func putScheduleAgain(w *world) {
	s := w.putSchedule(w.newSchedule("nights"))
	w.pass(time.Minute)
	changed := s
	changed.Name, changed.Kind, changed.Groups, changed.Cron, changed.Length, changed.Zone = "days", fleet.ScheduleFreeze, []fleet.GroupID{w.group("g").ID}, "0 12 * * *", time.Hour, "UTC"
	changed.CreatedBy, changed.CreatedAt = "another", w.now
	put, err := w.PutSchedule(w.Context(), w.by(), changed)
	w.must(err)
	changed.CreatedBy, changed.CreatedAt = s.CreatedBy, s.CreatedAt // who made it first stays
	wantSame(w, []fleet.Schedule{put}, []fleet.Schedule{changed})
	w.wantSchedules(changed)
}

func putScheduleNamed(w *world) {
	w.putSchedule(w.newSchedule("nights"))
	days := w.putSchedule(w.newSchedule("days"))
	_, err := w.PutSchedule(w.Context(), w.by(), w.newSchedule("nights"))
	w.want(err, store.ErrExists)
	renamed := days
	renamed.Name = "nights"
	_, err = w.PutSchedule(w.Context(), w.by(), renamed)
	w.want(err, store.ErrExists)
}

func putScheduleOfGroups(w *world) {
	gone := w.group("gone")
	w.must(w.DeleteGroup(w.Context(), w.by(), gone.ID))
	for name, id := range map[string]fleet.GroupID{"none": newID[fleet.GroupID](), "deleted": gone.ID, "theirs": w.in("theirs").group("g").ID, "no id": "g"} {
		_, err := w.PutSchedule(w.Context(), w.by(), w.newSchedule(name, w.group("of "+name).ID, id))
		w.want(err, store.ErrNotFound)
	}
	w.wantSchedules()
}

func deleteSchedule(w *world) {
	s := w.putSchedule(w.newSchedule("nights"))
	theirs := w.in("theirs")
	w.want(theirs.DeleteSchedule(w.Context(), theirs.by(), s.ID), store.ErrNotFound)
	w.must(w.DeleteSchedule(w.Context(), w.by(), s.ID))
	w.wantAudit(string(s.ID), "schedule.delete")
	w.want(w.DeleteSchedule(w.Context(), w.by(), s.ID), store.ErrNotFound)
	w.wantSchedules()
}

func putTooMany(w *world) {
	var first fleet.Schedule
	for i := range fleet.MaxSchedules {
		first = w.putSchedule(w.newSchedule(fmt.Sprint("schedule ", i)))
	}
	_, err := w.PutSchedule(w.Context(), w.by(), w.newSchedule("one more"))
	w.want(err, store.ErrState)
	w.putSchedule(first) // one that is there may still be changed
	for i := range fleet.MaxBudgets - 1 {
		w.budget(fmt.Sprint("budget ", i), "zone", 1)
	}
	won, lost := race(3, func(i int) (fleet.Budget, error) {
		return w.PutBudget(w.Context(), w.by(), fleet.Budget{ID: newID[fleet.BudgetID](), Name: fmt.Sprint("more ", i), Label: "zone", Most: 1, CreatedAt: w.now})
	})
	if len(won) != 1 {
		w.Errorf("%d more were stored", len(won))
	}
	for _, err := range lost {
		w.want(err, store.ErrState)
	}
	w.in("theirs").budget("theirs", "zone", 1)
}

func (w *world) budget(name, label string, most int) fleet.Budget {
	w.Helper()
	b := fleet.Budget{Tenant: w.tenant, ID: newID[fleet.BudgetID](), Name: name, Label: label, Most: most, CreatedBy: "ci", CreatedAt: w.now}
	put, err := w.PutBudget(w.Context(), w.by(), b)
	w.must(err)
	if put != b {
		w.Errorf("put %+v, want %+v", put, b)
	}
	return b
}

func listBudgets(w *world) {
	b, a := w.budget("b", "zone", 3), w.budget("a", "site", 1)
	w.wantAudit(string(a.ID), "budget.put")
	w.in("theirs").budget("a", "zone", 1)
	_, err := w.PutBudget(w.Context(), w.by(), fleet.Budget{ID: newID[fleet.BudgetID](), Name: "a", Label: "zone", Most: 1, CreatedAt: w.now})
	w.want(err, store.ErrExists)
	b.Name, b.Label, b.Most = "c", "rack", 7
	put, err := w.PutBudget(w.Context(), w.by(), b)
	w.must(err)
	list, err := w.Budgets(w.Context(), w.tenant)
	w.must(err)
	if put != b || !slices.Equal(list, []fleet.Budget{a, b}) {
		w.Errorf("put %+v, listed %+v", put, list)
	}
}

func deleteBudget(w *world) {
	b := w.budget("b", "zone", 3)
	theirs := w.in("theirs")
	w.want(theirs.DeleteBudget(w.Context(), theirs.by(), b.ID), store.ErrNotFound)
	w.must(w.DeleteBudget(w.Context(), w.by(), b.ID))
	w.wantAudit(string(b.ID), "budget.delete")
	w.want(w.DeleteBudget(w.Context(), w.by(), b.ID), store.ErrNotFound)
	if list, err := w.Budgets(w.Context(), w.tenant); err != nil || len(list) != 0 {
		w.Errorf("left are %v, %v", list, err)
	}
}

// restartables are sessions of agents with a tag, ascending by their ids.
func (w *world) restartables(tag map[string]string, n int) (agents []fleet.AgentID) {
	w.Helper()
	for range n {
		agents = append(agents, w.restartable().id)
	}
	slices.Sort(agents)
	w.act(tagging(tag, nil, agents...))
	return agents
}

func (w *world) wantUses(want ...fleet.BudgetUse) {
	w.Helper()
	got, err := w.BudgetUses(w.Context(), w.tenant, w.now, 10)
	w.must(err)
	if !slices.Equal(got, want) {
		w.Errorf("used is %+v, want %+v", got, want)
	}
}

func use(b fleet.Budget, value string, used int) fleet.BudgetUse {
	return fleet.BudgetUse{BudgetKey: fleet.BudgetKey{Budget: b.ID, Value: value}, Name: b.Name, Used: used, Most: b.Most}
}

func restartCounts(w *world) {
	zone, site := w.budget("by zone", "zone", 4), w.budget("by site", "site", 2)
	a := w.restartables(map[string]string{"zone": "a", "site": "s"}, 1)
	b := w.restartables(map[string]string{"zone": "b"}, 3)
	w.wantUses()
	w.act(restarting(append(a, b...)...))
	w.wantUses(use(zone, "b", 3), use(site, "s", 1), use(zone, "a", 1))
	if first, err := w.BudgetUses(w.Context(), w.tenant, w.now, 1); err != nil || len(first) != 1 || first[0] != use(zone, "b", 3) {
		w.Errorf("the fullest is %+v, %v", first, err)
	}
	if theirs, err := w.BudgetUses(w.Context(), w.in("theirs").tenant, w.now, 10); err != nil || len(theirs) != 0 {
		w.Errorf("theirs are %+v, %v", theirs, err)
	}
	w.pass(fleet.RestartLife - time.Microsecond)
	w.wantUses(use(zone, "b", 3), use(site, "s", 1), use(zone, "a", 1))
	w.pass(time.Microsecond)
	w.wantUses()
}

func restartByTagOrLabel(w *world) {
	b := w.budget("by zone", "zone", 5)
	labelled, tagged, neither := w.restartable(), w.restartable(), w.restartable()
	for _, s := range []session{labelled, tagged} {
		r := w.report(s, 2, "x", fleet.PartDescription)
		r.Labels = map[string]string{"zone": "label"}
		w.said(r)
	}
	w.act(tagging(map[string]string{"zone": "tag"}, nil, tagged.id))
	w.act(restarting(labelled.id, tagged.id, neither.id))
	w.wantUses(use(b, "label", 1), use(b, "tag", 1))
}

func restartWithinBudget(w *world) {
	b := w.budget("by zone", "zone", 2)
	w.budget("by site", "site", 9)
	agents := w.restartables(map[string]string{"zone": "a", "site": "s"}, 3)
	other := w.restartables(map[string]string{"zone": "b"}, 1)[0]
	outcome := w.act(restarting(append(agents, other)...))
	if len(outcome.Done) != 3 || !slices.Contains(outcome.Done, other) || !slices.Equal(outcome.Skipped[fleet.SkipBudget], agents[2:]) {
		w.Errorf("done to %v, skipped %v", outcome.Done, outcome.Skipped)
	}
	if sent := w.dispatches(); len(sent) != 3 {
		w.Errorf("sent are %+v", sent)
	}
	if got, err := w.BudgetUses(w.Context(), w.tenant, w.now, 1); err != nil || len(got) != 1 || got[0] != use(b, "a", 2) {
		w.Errorf("used is %+v, %v", got, err)
	}
	w.pass(fleet.RestartLife)
	if outcome := w.act(restarting(agents[2])); len(outcome.Done) != 1 {
		w.Errorf("later: skipped %v", outcome.Skipped)
	}
}

func restartAgain(w *world) {
	b := w.budget("by zone", "zone", 1)
	agents := w.restartables(map[string]string{"zone": "a"}, 2)
	w.act(restarting(agents[0]))
	w.pass(time.Second)
	outcome := w.act(restarting(agents...))
	if !slices.Equal(outcome.Done, agents[:1]) || !slices.Equal(outcome.Skipped[fleet.SkipBudget], agents[1:]) {
		w.Errorf("done to %v, skipped %v", outcome.Done, outcome.Skipped)
	}
	w.wantUses(use(b, "a", 1))
	w.pass(fleet.RestartLife - time.Second) // of the first; the second has a second left
	w.wantUses(use(b, "a", 1))
}

func restartPreviewed(w *world) {
	w.budget("by zone", "zone", 1)
	agents := w.restartables(map[string]string{"zone": "a"}, 2)
	preview := restarting(agents...)
	preview.Preview = true
	outcome := w.act(preview)
	if !slices.Equal(outcome.Done, agents[:1]) || !slices.Equal(outcome.Skipped[fleet.SkipBudget], agents[1:]) {
		w.Errorf("it would be done to %v, skipped %v", outcome.Done, outcome.Skipped)
	}
	w.wantUses()
}

func restartRaced(w *world) {
	b := w.budget("by zone", "zone", 3)
	agents := w.restartables(map[string]string{"zone": "a"}, 8)
	outcomes, failed := race(len(agents), func(i int) (fleet.ActOutcome, error) {
		act := restarting(agents[i])
		act.Most = 1
		return w.Act(w.Context(), w.by(), act)
	})
	done := 0
	for _, o := range outcomes {
		done += len(o.Done)
	}
	if done != b.Most || len(failed) != 0 {
		w.Errorf("%d were restarted; %v", done, failed)
	}
	w.wantUses(use(b, "a", 3))
}

func restartUncounted(w *world) {
	agents := w.restartables(map[string]string{"zone": "a"}, 2)
	w.act(restarting(agents...))
	w.budget("late", "zone", 1)
	w.wantUses()
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/api"
	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func TestSchedules(t *testing.T) {
	w := newWorld(t)
	operator, admin := w.as(fleet.RoleOperator), w.as(fleet.RoleAdmin)
	nights := &amporav1.Schedule{
		Name: "nights", Kind: amporav1.ScheduleKind_SCHEDULE_KIND_WINDOW, GroupIds: []string{must(operator.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "edge"}))(t).GetGroup().GetId()},
		Cron: "30 2 * * *", Length: durationpb.New(2 * time.Hour), Zone: "Europe/Berlin",
	}
	_, err := operator.schedules.PutSchedule(t.Context(), &amporav1.PutScheduleRequest{Schedule: nights})
	refused(t, err, connect.CodePermissionDenied, auth.ReasonRoleTooLow)
	put := must(admin.schedules.PutSchedule(t.Context(), &amporav1.PutScheduleRequest{Schedule: nights}))(t).GetSchedule()
	want := proto.CloneOf(nights)
	want.Id, want.CreatedBy, want.CreatedAt, want.Next = put.GetId(), put.GetCreatedBy(), put.GetCreatedAt(), put.GetNext()
	if !proto.Equal(put, want) || put.GetId() == "" || put.GetNext() == nil {
		t.Errorf("put is %v", put)
	}

	nights.Cron = "0 3 * * 6"
	again := must(admin.schedules.PutSchedule(t.Context(), &amporav1.PutScheduleRequest{Schedule: nights}))(t).GetSchedule()
	list := must(operator.schedules.ListSchedules(t.Context(), &amporav1.ListSchedulesRequest{}))(t).GetSchedules()
	if again.GetId() != put.GetId() || len(list) != 1 || list[0].GetCron() != nights.GetCron() {
		t.Errorf("put again is %v, listed are %v", again, list)
	}

	_, err = admin.schedules.DeleteSchedule(t.Context(), &amporav1.DeleteScheduleRequest{Name: "days"})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	must(admin.schedules.DeleteSchedule(t.Context(), &amporav1.DeleteScheduleRequest{Name: "nights"}))(t)
	if list := must(operator.schedules.ListSchedules(t.Context(), &amporav1.ListSchedulesRequest{}))(t).GetSchedules(); len(list) != 0 {
		t.Errorf("left are %v", list)
	}
}

func TestASchedulesMistakesAreNamed(t *testing.T) {
	w := newWorld(t)
	admin := w.as(fleet.RoleAdmin)
	good := &amporav1.Schedule{
		Name: "nights", Kind: amporav1.ScheduleKind_SCHEDULE_KIND_FREEZE, Cron: "30 2 * * *", Length: durationpb.New(2 * time.Hour), Zone: "Europe/Berlin",
	}
	for field, change := range map[string]func(*amporav1.Schedule){
		"cron":         func(s *amporav1.Schedule) { s.Cron = "* * * * *" },
		"zone":         func(s *amporav1.Schedule) { s.Zone = "Europe/Nowhere" },
		"length":       func(s *amporav1.Schedule) { s.Length = nil },
		"from":         func(s *amporav1.Schedule) { s.Cron, s.Rule = "", "FREQ=DAILY" },
		"cron or rule": func(s *amporav1.Schedule) { s.Cron = "0 0 31 2 *" },
		"until": func(s *amporav1.Schedule) {
			s.Cron, s.Length, s.From = "", nil, timestamppb.Now()
			s.Until = s.GetFrom()
		},
	} {
		bad := proto.CloneOf(good)
		change(bad)
		_, err := admin.schedules.PutSchedule(t.Context(), &amporav1.PutScheduleRequest{Schedule: bad})
		if about := refused(t, err, connect.CodeInvalidArgument, api.ReasonScheduleInvalid); about["field"] != field {
			t.Errorf("it names %v, want %s", about, field)
		}
		_, err = admin.schedules.PreviewSchedule(t.Context(), &amporav1.PreviewScheduleRequest{Of: &amporav1.PreviewScheduleRequest_Schedule{Schedule: bad}})
		refused(t, err, connect.CodeInvalidArgument, api.ReasonScheduleInvalid)
	}
	bad := proto.CloneOf(good)
	bad.Name = "All Nights"
	_, err := admin.schedules.PutSchedule(t.Context(), &amporav1.PutScheduleRequest{Schedule: bad})
	refused(t, err, connect.CodeInvalidArgument, auth.ReasonInvalidField)
	bad = proto.CloneOf(good)
	bad.GroupIds = []string{"01890000-0000-7000-8000-000000000000"}
	_, err = admin.schedules.PutSchedule(t.Context(), &amporav1.PutScheduleRequest{Schedule: bad})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
}

func TestSchedulesArePreviewed(t *testing.T) {
	w := newWorld(t)
	admin, viewer := w.as(fleet.RoleAdmin), w.as(fleet.RoleViewer)
	nights := &amporav1.Schedule{
		Name: "nights", Kind: amporav1.ScheduleKind_SCHEDULE_KIND_WINDOW, Cron: "30 2 * * *", Length: durationpb.New(2 * time.Hour), Zone: "Europe/Berlin",
	}
	ask := &amporav1.PreviewScheduleRequest{
		Of:   &amporav1.PreviewScheduleRequest_Schedule{Schedule: nights},
		From: timestamppb.New(time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)), Count: 2,
	}
	wantSpans := func() {
		t.Helper()
		spans := must(viewer.schedules.PreviewSchedule(t.Context(), ask))(t).GetSpans()
		// The clocks of Berlin skip 02:30 that day.
		if len(spans) != 2 || !spans[0].GetFrom().AsTime().Equal(time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)) ||
			spans[0].GetUntil().AsTime().Sub(spans[0].GetFrom().AsTime()) != 2*time.Hour {
			t.Errorf("spans are %v", spans)
		}
	}
	wantSpans()
	ask.Of = &amporav1.PreviewScheduleRequest_Name{Name: "nights"}
	_, err := viewer.schedules.PreviewSchedule(t.Context(), ask)
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	must(admin.schedules.PutSchedule(t.Context(), &amporav1.PutScheduleRequest{Schedule: nights}))(t)
	wantSpans()
	ask.From, ask.Count = nil, 0
	if spans := must(viewer.schedules.PreviewSchedule(t.Context(), ask))(t).GetSpans(); len(spans) != 10 || spans[0].GetUntil().AsTime().Before(w.now()) {
		t.Errorf("from now on it is on %v", spans)
	}
}

func TestBudgets(t *testing.T) {
	w := newWorld(t)
	operator, admin := w.as(fleet.RoleOperator), w.as(fleet.RoleAdmin)
	zones := &amporav1.Budget{Name: "zones", Label: "zone", Most: 1}
	_, err := operator.budgets.PutBudget(t.Context(), &amporav1.PutBudgetRequest{Budget: zones})
	refused(t, err, connect.CodePermissionDenied, auth.ReasonRoleTooLow)
	put := must(admin.budgets.PutBudget(t.Context(), &amporav1.PutBudgetRequest{Budget: zones}))(t).GetBudget()
	if put.GetId() == "" || put.GetMost() != 1 || put.GetCreatedBy() == "" {
		t.Errorf("put is %v", put)
	}
	zones.Most = 3
	again := must(admin.budgets.PutBudget(t.Context(), &amporav1.PutBudgetRequest{Budget: zones}))(t).GetBudget()
	list := must(operator.budgets.ListBudgets(t.Context(), &amporav1.ListBudgetsRequest{}))(t).GetBudgets()
	if again.GetId() != put.GetId() || len(list) != 1 || list[0].GetMost() != 3 {
		t.Errorf("put again is %v, listed are %v", again, list)
	}
	_, err = admin.budgets.PutBudget(t.Context(), &amporav1.PutBudgetRequest{Budget: &amporav1.Budget{Name: "b", Label: "a=b", Most: 1}})
	refused(t, err, connect.CodeInvalidArgument, auth.ReasonInvalidField)
	if uses := must(operator.budgets.ListBudgetUses(t.Context(), &amporav1.ListBudgetUsesRequest{}))(t).GetUses(); len(uses) != 0 {
		t.Errorf("used is %v", uses)
	}
	must(admin.budgets.DeleteBudget(t.Context(), &amporav1.DeleteBudgetRequest{Name: "zones"}))(t)
	_, err = admin.budgets.DeleteBudget(t.Context(), &amporav1.DeleteBudgetRequest{Name: "zones"})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
}

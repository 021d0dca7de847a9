// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/calendar"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/fault"
)

// ReasonScheduleInvalid refuses a schedule that cannot be read, or never is on.
const ReasonScheduleInvalid = "SCHEDULE_INVALID"

// How many are told if nobody says.
const (
	spansTold = 10
	usesTold  = 100
)

// schedules is the ScheduleService.
type schedules struct {
	store store.Calendars
	now   func() time.Time
}

// ListSchedules lists by name.
func (s *schedules) ListSchedules(ctx context.Context, _ *amporav1.ListSchedulesRequest) (*amporav1.ListSchedulesResponse, error) {
	all, err := s.store.Schedules(ctx, auth.By(ctx).Tenant)
	return &amporav1.ListSchedulesResponse{Schedules: each(all, s.encode)}, err
}

// PutSchedule stores a schedule.
func (s *schedules) PutSchedule(ctx context.Context, r *amporav1.PutScheduleRequest) (*amporav1.PutScheduleResponse, error) {
	by, given := auth.By(ctx), scheduleFrom(r.GetSchedule())
	if err := checkSchedule(given); err != nil {
		return nil, err
	}
	there, err := s.named(ctx, given.Name)
	if err != nil {
		return nil, err
	}
	given.Tenant, given.ID, given.CreatedBy, given.CreatedAt = by.Tenant, newID[fleet.ScheduleID](), by.Principal.Name, by.At
	if there != nil {
		given.ID = there.ID
	}
	put, err := s.store.PutSchedule(ctx, by, given)
	return &amporav1.PutScheduleResponse{Schedule: s.encode(put)}, err
}

// DeleteSchedule ends a schedule.
func (s *schedules) DeleteSchedule(ctx context.Context, r *amporav1.DeleteScheduleRequest) (*amporav1.DeleteScheduleResponse, error) {
	there, err := s.stored(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	return &amporav1.DeleteScheduleResponse{}, s.store.DeleteSchedule(ctx, auth.By(ctx), there.ID)
}

// PreviewSchedule says when a schedule is on.
func (s *schedules) PreviewSchedule(ctx context.Context, r *amporav1.PreviewScheduleRequest) (*amporav1.PreviewScheduleResponse, error) {
	of := scheduleFrom(r.GetSchedule())
	if r.GetSchedule() == nil {
		there, err := s.stored(ctx, r.GetName())
		if err != nil {
			return nil, err
		}
		of = *there
	} else if err := checkSchedule(of); err != nil {
		return nil, err
	}
	from := timeFrom(r.GetFrom())
	if from.IsZero() {
		from = s.now()
	}
	next, err := calendar.Preview(of, from, cmp.Or(int(r.GetCount()), spansTold))
	return &amporav1.PreviewScheduleResponse{Spans: each(next, span), Zone: of.Zone}, err
}

// named finds a schedule by its name; nil if there is none.
func (s *schedules) named(ctx context.Context, name string) (*fleet.Schedule, error) {
	all, err := s.store.Schedules(ctx, auth.By(ctx).Tenant)
	return found(all, func(of fleet.Schedule) bool { return of.Name == name }), err
}

// stored finds a schedule that there must be.
func (s *schedules) stored(ctx context.Context, name string) (*fleet.Schedule, error) {
	there, err := s.named(ctx, name)
	if err == nil && there == nil {
		err = fmt.Errorf("schedule: %w", store.ErrNotFound)
	}
	return there, err
}

func found[T any](list []T, is func(T) bool) *T {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return &list[i]
	}
	return nil
}

// checkSchedule refuses when a schedule is; the metadata names the field.
func checkSchedule(s fleet.Schedule) error {
	err := calendar.Check(s)
	if err == nil {
		return nil
	}
	field, _, _ := strings.Cut(err.Error(), ":")
	return fault.New(fault.Invalid, ReasonScheduleInvalid, "%s", err).With("field", field)
}

var scheduleKinds = word[fleet.ScheduleKind, amporav1.ScheduleKind]{
	{fleet.ScheduleWindow, amporav1.ScheduleKind_SCHEDULE_KIND_WINDOW},
	{fleet.ScheduleFreeze, amporav1.ScheduleKind_SCHEDULE_KIND_FREEZE},
}

func scheduleFrom(s *amporav1.Schedule) fleet.Schedule {
	return fleet.Schedule{
		Name: s.GetName(), Kind: scheduleKinds.decode(s.GetKind()), Groups: idsFrom[fleet.GroupID](s.GetGroupIds()), Cron: s.GetCron(),
		Rule: s.GetRule(), From: timeFrom(s.GetFrom()), Until: timeFrom(s.GetUntil()), Length: s.GetLength().AsDuration(), Zone: s.GetZone(),
	}
}

// encode shows a schedule, with when it is on next.
func (s *schedules) encode(of fleet.Schedule) *amporav1.Schedule {
	shown := &amporav1.Schedule{
		Id: string(of.ID), Name: of.Name, Kind: scheduleKinds.encode(of.Kind), GroupIds: each(of.Groups, func(g fleet.GroupID) string { return string(g) }),
		Cron: of.Cron, Rule: of.Rule, From: moment(of.From), Until: moment(of.Until), Zone: of.Zone, CreatedBy: of.CreatedBy, CreatedAt: moment(of.CreatedAt),
	}
	if of.Length > 0 {
		shown.Length = durationpb.New(of.Length)
	}
	if next, err := calendar.Preview(of, s.now(), 1); err == nil && len(next) > 0 {
		shown.Next = span(next[0])
	}
	return shown
}

func span(s calendar.Span) *amporav1.Span {
	return &amporav1.Span{From: moment(s.From), Until: moment(s.Until)}
}

// budgets is the BudgetService.
type budgets struct {
	store store.Calendars
	now   func() time.Time
}

// ListBudgets lists by name.
func (s *budgets) ListBudgets(ctx context.Context, _ *amporav1.ListBudgetsRequest) (*amporav1.ListBudgetsResponse, error) {
	all, err := s.store.Budgets(ctx, auth.By(ctx).Tenant)
	return &amporav1.ListBudgetsResponse{Budgets: each(all, budget)}, err
}

// PutBudget stores a budget.
func (s *budgets) PutBudget(ctx context.Context, r *amporav1.PutBudgetRequest) (*amporav1.PutBudgetResponse, error) {
	by, given := auth.By(ctx), r.GetBudget()
	if err := fleet.CheckTag(given.GetLabel(), ""); err != nil {
		return nil, auth.InvalidField("budget.label", err.Error())
	}
	there, err := s.named(ctx, given.GetName())
	if err != nil {
		return nil, err
	}
	b := fleet.Budget{
		Tenant: by.Tenant, ID: newID[fleet.BudgetID](), Name: given.GetName(), Label: given.GetLabel(), Most: int(given.GetMost()),
		CreatedBy: by.Principal.Name, CreatedAt: by.At,
	}
	if there != nil {
		b.ID = there.ID
	}
	put, err := s.store.PutBudget(ctx, by, b)
	return &amporav1.PutBudgetResponse{Budget: budget(put)}, err
}

// DeleteBudget ends a budget.
func (s *budgets) DeleteBudget(ctx context.Context, r *amporav1.DeleteBudgetRequest) (*amporav1.DeleteBudgetResponse, error) {
	there, err := s.named(ctx, r.GetName())
	switch {
	case err != nil:
		return nil, err
	case there == nil:
		return nil, fmt.Errorf("budget: %w", store.ErrNotFound)
	}
	return &amporav1.DeleteBudgetResponse{}, s.store.DeleteBudget(ctx, auth.By(ctx), there.ID)
}

// ListBudgetUses says how budgets are used.
func (s *budgets) ListBudgetUses(ctx context.Context, r *amporav1.ListBudgetUsesRequest) (*amporav1.ListBudgetUsesResponse, error) {
	uses, err := s.store.BudgetUses(ctx, auth.By(ctx).Tenant, s.now(), cmp.Or(int(r.GetCount()), usesTold))
	return &amporav1.ListBudgetUsesResponse{Uses: each(uses, func(u fleet.BudgetUse) *amporav1.BudgetUse {
		return &amporav1.BudgetUse{Budget: u.Name, Value: u.Value, Used: count(u.Used), Most: count(u.Most)}
	})}, err
}

// named finds a budget by its name; nil if there is none.
func (s *budgets) named(ctx context.Context, name string) (*fleet.Budget, error) {
	all, err := s.store.Budgets(ctx, auth.By(ctx).Tenant)
	return found(all, func(b fleet.Budget) bool { return b.Name == name }), err
}

func budget(b fleet.Budget) *amporav1.Budget {
	return &amporav1.Budget{
		Id: string(b.ID), Name: b.Name, Label: b.Label, Most: count(b.Most), CreatedBy: b.CreatedBy, CreatedAt: moment(b.CreatedAt),
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

type scheduleServer struct{ *state }

func at(month time.Month, day, hour int) *timestamppb.Timestamp {
	return timestamppb.New(time.Date(2027, month, day, hour, 0, 0, 0, time.UTC))
}

func (s scheduleServer) ListSchedules(context.Context, *amporav1.ListSchedulesRequest) (*amporav1.ListSchedulesResponse, error) {
	return &amporav1.ListSchedulesResponse{Schedules: []*amporav1.Schedule{
		{
			Name: "nights", Kind: amporav1.ScheduleKind_SCHEDULE_KIND_WINDOW, GroupIds: []string{"01890000-0000-7000-8000-000000000001"},
			Cron: "0 2 * * *", Length: durationpb.New(3 * time.Hour), Zone: "Europe/Berlin", Next: &amporav1.Span{From: at(7, 1, 0), Until: at(7, 1, 3)},
		},
		{Name: "over", Kind: amporav1.ScheduleKind_SCHEDULE_KIND_FREEZE, From: at(1, 1, 0), Until: at(1, 3, 0), Zone: "UTC"},
	}}, nil
}

func (s scheduleServer) PutSchedule(_ context.Context, r *amporav1.PutScheduleRequest) (*amporav1.PutScheduleResponse, error) {
	if r.GetSchedule().GetZone() == "Nowhere" {
		return nil, refuse(connect.CodeInvalidArgument, "SCHEDULE_INVALID", `zone: "Nowhere" is no IANA time zone, such as Europe/Berlin`, map[string]string{"field": "zone"})
	}
	put := proto.CloneOf(r.GetSchedule())
	put.Next = &amporav1.Span{From: put.GetFrom(), Until: put.GetUntil()}
	if put.GetLength() != nil {
		put.Next.Until = timestamppb.New(put.GetFrom().AsTime().Add(put.GetLength().AsDuration()))
	}
	return &amporav1.PutScheduleResponse{Schedule: put}, nil
}

func (s scheduleServer) DeleteSchedule(_ context.Context, r *amporav1.DeleteScheduleRequest) (*amporav1.DeleteScheduleResponse, error) {
	if r.GetName() != "nights" {
		return nil, notFound("schedule")
	}
	return &amporav1.DeleteScheduleResponse{}, nil
}

func (s scheduleServer) PreviewSchedule(_ context.Context, r *amporav1.PreviewScheduleRequest) (*amporav1.PreviewScheduleResponse, error) {
	answer := &amporav1.PreviewScheduleResponse{Zone: "Europe/Berlin", Spans: []*amporav1.Span{{From: at(3, 28, 1), Until: at(3, 28, 3)}}}
	if given := r.GetSchedule(); given != nil {
		answer.Zone = given.GetZone()
	} else if r.GetName() != "nights" {
		return nil, notFound("schedule")
	}
	return answer, nil
}

type budgetServer struct{ *state }

func (s budgetServer) ListBudgets(context.Context, *amporav1.ListBudgetsRequest) (*amporav1.ListBudgetsResponse, error) {
	return &amporav1.ListBudgetsResponse{Budgets: []*amporav1.Budget{{Name: "sites", Label: "site", Most: 2, CreatedBy: "alice", CreatedAt: timestamppb.Now()}}}, nil
}

func (s budgetServer) PutBudget(_ context.Context, r *amporav1.PutBudgetRequest) (*amporav1.PutBudgetResponse, error) {
	put := proto.CloneOf(r.GetBudget())
	put.CreatedBy, put.CreatedAt = "alice", timestamppb.Now()
	return &amporav1.PutBudgetResponse{Budget: put}, nil
}

func (s budgetServer) DeleteBudget(_ context.Context, r *amporav1.DeleteBudgetRequest) (*amporav1.DeleteBudgetResponse, error) {
	if r.GetName() != "sites" {
		return nil, notFound("budget")
	}
	return &amporav1.DeleteBudgetResponse{}, nil
}

func (s budgetServer) ListBudgetUses(context.Context, *amporav1.ListBudgetUsesRequest) (*amporav1.ListBudgetUsesResponse, error) {
	return &amporav1.ListBudgetUsesResponse{Uses: []*amporav1.BudgetUse{{Budget: "sites", Value: "berlin\x1b[2J", Used: 2, Most: 2}}}, nil
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) scheduleCommands() *cobra.Command {
	return noun("schedules", "Maintenance windows and freezes: when rollouts may let agents in",
		p.schedulesList(), p.schedulesPut(), p.schedulesPreview(), p.schedulesDelete())
}

func (p *program) schedulesList() *cobra.Command {
	return p.remote(verb{use: "list", short: "List schedules", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			answer, err := api.schedules.ListSchedules(ctx, &amporav1.ListSchedulesRequest{})
			if err != nil {
				return err
			}
			return p.show(answer, func() view { return scheduleTable(answer.GetSchedules()) })
		})
}

func scheduleTable(schedules []*amporav1.Schedule) view {
	t := newTable("NAME", "KIND", "WHEN", "FOR", "ZONE", "GROUPS", "NEXT", "UNTIL")
	for _, s := range schedules {
		groups := "all"
		if n := len(s.GetGroupIds()); n > 0 {
			groups = number(int64(n))
		}
		t.row(or(s.GetName()), word(s.GetKind()), whenOf(s), forOf(s), or(s.GetZone()), groups,
			clockIn(s.GetZone(), s.GetNext().GetFrom()), clockIn(s.GetZone(), s.GetNext().GetUntil()))
	}
	return t
}

func whenOf(s *amporav1.Schedule) string {
	switch {
	case s.GetCron() != "":
		return escape(s.GetCron())
	case s.GetRule() != "":
		return escape(s.GetRule())
	default:
		return "once"
	}
}

func forOf(s *amporav1.Schedule) string {
	length := s.GetLength().AsDuration()
	if s.GetLength() == nil {
		length = s.GetUntil().AsTime().Sub(s.GetFrom().AsTime())
	}
	return exactly(length)
}

// clockIn is what clocks of a zone show; in UTC if this machine does not know it.
func clockIn(zone string, at *timestamppb.Timestamp) string {
	if at == nil {
		return none
	}
	place, err := time.LoadLocation(zone)
	if err != nil {
		place = time.UTC
	}
	return at.AsTime().In(place).Format("2006-01-02 15:04 MST")
}

// scheduleFlags define a schedule.
type scheduleFlags struct {
	kind, cron, rule, from, until, zone string
	groups                              []string
	length                              lifetime
}

func (f *scheduleFlags) declare(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kind, "kind", "window", "`KIND`: window or freeze")
	cmd.Flags().StringSliceVar(&f.groups, "group", nil, "only about this `GROUP` (name or id), or several")
	cmd.Flags().StringVar(&f.cron, "cron", "", "begins at `TIMES`: minute, hour, day of month, month, day of week")
	cmd.Flags().StringVar(&f.rule, "rule", "", "begins by this `RRULE` of RFC 5545, counted from --from")
	cmd.Flags().StringVar(&f.from, "from", "", "begins at `TIME`, "+zonedTimeForms)
	cmd.Flags().StringVar(&f.until, "until", "", "ends at `TIME`, if it does not recur")
	cmd.Flags().Var(&f.length, "for", "lasts `DURATION` each time, if it recurs")
	cmd.Flags().StringVar(&f.zone, "zone", "UTC", "on the clocks of this IANA time `ZONE`")
}

// given says that any of what makes a schedule was given.
func (f *scheduleFlags) given() bool {
	return f.cron != "" || f.rule != "" || f.from != "" || f.until != ""
}

func (f *scheduleFlags) schedule(ctx context.Context, api *api, name string, now time.Time) (*amporav1.Schedule, error) {
	s := &amporav1.Schedule{Name: name, Cron: f.cron, Rule: f.rule, Zone: f.zone, Length: f.length.proto()}
	var err error
	if s.Kind, err = enumNamed[amporav1.ScheduleKind]("kind", f.kind); err != nil {
		return nil, err
	}
	if s.From, err = timeInZone("from", f.from, f.zone, now); err != nil {
		return nil, err
	}
	if s.Until, err = timeInZone("until", f.until, f.zone, now); err != nil {
		return nil, err
	}
	for _, group := range f.groups {
		id, err := api.groupID(ctx, group)
		if err != nil {
			return nil, err
		}
		s.GroupIds = append(s.GroupIds, id)
	}
	return s, nil
}

const zonedTimeForms = "as 2027-05-04 or 2027-05-04T09:00 on the clocks of the zone, 2027-05-04T09:00:00Z, or +30d from now"

// timeInZone is timeFlag, but what has no offset is of a zone.
func timeInZone(flag, text, zone string, now time.Time) (*timestamppb.Timestamp, error) {
	for _, layout := range []string{"2006-01-02T15:04", time.DateOnly} {
		if _, err := time.Parse(layout, text); err != nil {
			continue
		}
		place, err := time.LoadLocation(zone)
		if err != nil {
			return nil, usage("--%s: this machine does not know the time zone %q; give a time with its offset", flag, zone)
		}
		at, _ := time.ParseInLocation(layout, text, place) // it was one a moment ago
		return timestamppb.New(at), nil
	}
	return timeFlag(flag, text, now)
}

func (p *program) schedulesPut() *cobra.Command {
	var flags scheduleFlags
	cmd := p.remote(verb{
		use: "put NAME [flags]", short: "Store a schedule, in the place of the one of its name", args: cobra.ExactArgs(1),
		long: `Store a schedule, in the place of the one of its name: either --cron, or --rule with --from, or --from with --until. What
recurs lasts as long as --for says, whatever clocks do. Rollouts go by it at once. Needs the role admin.`,
		example: `amporactl schedules put nights --cron '0 2 * * *' --for 3h --zone Europe/Berlin --group edge
amporactl schedules put year-end --kind freeze --from 2026-12-19 --until 2027-01-04 --zone Europe/Berlin
amporactl schedules put last-sunday --rule 'FREQ=MONTHLY;BYDAY=-1SU' --from 2026-05-31T03:00:00Z --for 4h`,
	}, func(ctx context.Context, api *api, args []string) error {
		s, err := flags.schedule(ctx, api, args[0], p.now())
		if err != nil {
			return err
		}
		answer, err := api.schedules.PutSchedule(ctx, &amporav1.PutScheduleRequest{Schedule: s})
		if err != nil {
			return err
		}
		return p.show(answer.GetSchedule(), func() view { return scheduleTable([]*amporav1.Schedule{answer.GetSchedule()}) })
	})
	flags.declare(cmd)
	return cmd
}

func (p *program) schedulesPreview() *cobra.Command {
	var flags scheduleFlags
	var count int32
	var since string
	cmd := p.remote(verb{
		use: "preview NAME [flags]", short: "Show when a schedule is on, stored or not", args: cobra.ExactArgs(1),
		long: `Show when a schedule is on: the stored one of that name, or one that the flags define and that nobody stores.`,
		example: `amporactl schedules preview nights
amporactl schedules preview draft --cron '30 2 * * *' --for 2h --zone Europe/Berlin --since 2027-03-27`,
	}, func(ctx context.Context, api *api, args []string) (err error) {
		ask := &amporav1.PreviewScheduleRequest{Of: &amporav1.PreviewScheduleRequest_Name{Name: args[0]}, Count: count}
		if flags.given() {
			s, err := flags.schedule(ctx, api, args[0], p.now())
			if err != nil {
				return err
			}
			ask.Of = &amporav1.PreviewScheduleRequest_Schedule{Schedule: s}
		}
		if ask.From, err = timeFlag("since", since, p.now()); err != nil {
			return err
		}
		answer, err := api.schedules.PreviewSchedule(ctx, ask)
		if err != nil {
			return err
		}
		return p.show(answer, func() view { return spanTable(answer) })
	})
	flags.declare(cmd)
	cmd.Flags().Int32Var(&count, "count", 0, "at most `N` spans (10 if nobody says)")
	cmd.Flags().StringVar(&since, "since", "", "from this `TIME` on, "+timeForms)
	return cmd
}

func spanTable(answer *amporav1.PreviewScheduleResponse) view {
	t := newTable("FROM", "UNTIL", "FOR")
	for _, s := range answer.GetSpans() {
		t.row(clockIn(answer.GetZone(), s.GetFrom()), clockIn(answer.GetZone(), s.GetUntil()), exactly(s.GetUntil().AsTime().Sub(s.GetFrom().AsTime())))
	}
	return t
}

func (p *program) schedulesDelete() *cobra.Command {
	return p.remote(verb{use: "delete NAME", short: "Delete a schedule", args: cobra.ExactArgs(1), long: "Delete a schedule. Needs the role admin."},
		func(ctx context.Context, api *api, args []string) error {
			answer, err := api.schedules.DeleteSchedule(ctx, &amporav1.DeleteScheduleRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return p.show(answer, func() view { return sentence("deleted %s", args[0]) })
		})
}

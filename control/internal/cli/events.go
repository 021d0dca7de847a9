// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) eventCommands() *cobra.Command {
	return noun("events", "Events: what happened in the fleet", p.eventsList(), p.eventsWatch())
}

func (p *program) eventsList() *cobra.Command {
	var agent string
	var limit int
	cmd := p.remote(verb{use: "list [flags]", short: "List events, newest first", args: cobra.NoArgs},
		func(ctx context.Context, api *api, _ []string) error {
			id, err := api.agentIDOrNone(ctx, agent)
			if err != nil {
				return err
			}
			events, err := pages(ctx, limit, api.eventPages(id))
			if err != nil {
				return err
			}
			return p.show(&amporav1.ListEventsResponse{Events: events}, func() view { return eventTable(events) })
		})
	cmd.Flags().StringVar(&agent, "agent", "", "only events of this `AGENT` (id, prefix of it, or name)")
	limitFlag(cmd, &limit, 100)
	return cmd
}

func (a *api) agentIDOrNone(ctx context.Context, ref string) (string, error) {
	if ref == "" {
		return "", nil
	}
	return a.agentID(ctx, ref)
}

func (a *api) eventPages(agent string) page[*amporav1.Event] {
	return func(ctx context.Context, size int32, token string) ([]*amporav1.Event, string, error) {
		answer, err := a.events.ListEvents(ctx,
			&amporav1.ListEventsRequest{PageSize: size, PageToken: token, AgentId: agent})
		return answer.GetEvents(), answer.GetNextPageToken(), err
	}
}

func eventTable(events []*amporav1.Event) view {
	t := newTable("TIME", "AGENT", "KIND", "MESSAGE")
	for _, event := range events {
		t.row(stamp(event.GetTime()), or(event.GetAgentId()), or(event.GetKind()), or(event.GetMessage()))
	}
	return t
}

const watchLong = `Each event is one line: time, agent, kind, message; with -o json one JSON object per line, with -o yaml one
document. A broken connection is taken up again behind the last event that was shown. It ends well when it is
interrupted or when the --timeout has passed.`

func (p *program) eventsWatch() *cobra.Command {
	var agent, cursor string
	cmd := p.remote(verb{
		use: "watch [flags]", short: "Follow events as they happen", args: cobra.NoArgs, long: "Follow events as they happen.\n\n" + watchLong,
		follows: always,
	}, func(ctx context.Context, api *api, _ []string) error {
		id, err := api.agentIDOrNone(ctx, agent)
		if err != nil {
			return err
		}
		return p.watch(ctx, api, id, cursor, func(*amporav1.Event) bool { return true })
	})
	cmd.Flags().StringVar(&agent, "agent", "", "only events of this `AGENT` (id, prefix of it, or name)")
	cmd.Flags().StringVar(&cursor, "cursor", "", "go on behind the event with this `CURSOR`, as -o json shows it")
	return cmd
}

func (p *program) agentsWatch() *cobra.Command {
	return p.remote(verb{
		use: "watch [AGENT]", short: "Follow what happens to agents, or to one", args: cobra.MaximumNArgs(1),
		long: "Follow what happens to agents, or to one.\n\n" + watchLong, follows: always,
	}, func(ctx context.Context, api *api, args []string) error {
		id, err := api.agentIDOrNone(ctx, strings.Join(args, ""))
		if err != nil {
			return err
		}
		return p.watch(ctx, api, id, "", func(event *amporav1.Event) bool { return event.GetAgentId() != "" })
	})
}

func always() bool { return true }

// tellEvent writes one event as it comes.
func (p *program) tellEvent(event *amporav1.Event) error {
	if p.format == formatTable {
		_, err := fmt.Fprintf(p.streams.Out, "%s  %s  %s  %s\n",
			stamp(event.GetTime()), or(event.GetAgentId()), or(event.GetKind()), or(event.GetMessage()))
		return err
	}
	text, err := p.encode(event, "")
	if err != nil {
		return err
	}
	if p.format == formatYAML {
		text = append([]byte("---\n"), text...)
	}
	_, err = p.streams.Out.Write(text)
	return err
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) agentsHistory() *cobra.Command {
	var words []string
	var from, until string
	var limit int
	cmd := p.remote(verb{
		use: "history AGENT [flags]", short: "Show what changed about an agent, newest first", args: cobra.ExactArgs(1),
		example: "amporactl agents history otelcol@db-7 --kind connection,health --from -24h",
	}, func(ctx context.Context, api *api, args []string) error {
		request := &amporav1.ListAgentHistoryRequest{}
		for _, name := range words {
			kind, err := enumNamed[amporav1.HistoryKind]("kind", name)
			if err != nil {
				return err
			}
			request.Kinds = append(request.Kinds, kind)
		}
		var err error
		if request.From, err = timeFlag("from", from, p.now()); err != nil {
			return err
		}
		if request.Until, err = timeFlag("until", until, p.now()); err != nil {
			return err
		}
		if request.Id, err = api.agentID(ctx, args[0]); err != nil {
			return err
		}
		entries, err := pages(ctx, limit, func(ctx context.Context, size int32, token string) ([]*amporav1.HistoryEntry, string, error) {
			request.PageSize, request.PageToken = size, token
			answer, err := api.agents.ListAgentHistory(ctx, request)
			return answer.GetEntries(), answer.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		return p.show(&amporav1.ListAgentHistoryResponse{Entries: entries}, func() view { return historyTable(entries) })
	})
	flags := cmd.Flags()
	flags.StringSliceVar(&words, "kind", nil, "only changes of this `KIND`, or several: "+strings.Join(enumWords[amporav1.HistoryKind](), ", "))
	flags.StringVar(&from, "from", "", "only changes at this `TIME` or later: "+timeForms)
	flags.StringVar(&until, "until", "", "only changes before this `TIME`")
	limitFlag(cmd, &limit, 100)
	return cmd
}

func historyTable(entries []*amporav1.HistoryEntry) view {
	t := newTable("TIME", "KIND", "WHAT")
	for _, entry := range entries {
		t.row(stamp(entry.GetTime()), word(entry.GetKind()), or(entry.GetMessage()))
	}
	return t
}

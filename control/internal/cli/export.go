// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// exportLimit is how many agents an export has (product specification, section 6).
const exportLimit = 10_000

var exportColumns = []string{
	"id", "name", "service", "version", "host", "group", "presence", "gateway", "connected_at", "last_seen_at", "health",
	"config", "config_version", "config_state", "config_message", "attention", "tags", "enrolled_at", "enrolled_by",
}

func (p *program) agentsExport() *cobra.Command {
	var selection agentSelection
	cmd := p.remote(verb{
		use: "export [flags]", short: "Write agents as CSV", args: cobra.NoArgs,
		long: `Write the agents that the flags select as CSV (RFC 4180), at most 10000 of them: it fails before it writes more. What
agents say of themselves stands in it; a cell that a spreadsheet would take for a formula begins with an apostrophe.`,
		example: "amporactl agents export --presence offline > offline.csv",
	}, func(ctx context.Context, api *api, _ []string) error {
		filter, err := selection.filter(ctx, p.now(), api)
		if err != nil {
			return err
		}
		counted, err := api.agents.CountAgents(ctx, &amporav1.CountAgentsRequest{Filter: filter})
		if err != nil {
			return err
		}
		if counted.GetMore() || counted.GetCount() > exportLimit {
			return fail(ExitConflict, "narrow it by flags", "these are more than %d agents", exportLimit)
		}
		return p.export(ctx, api, filter)
	})
	selection.flags(cmd)
	return cmd
}

// export writes page by page, so that it needs no more memory than one.
func (p *program) export(ctx context.Context, api *api, filter *amporav1.AgentFilter) error {
	out := csv.NewWriter(p.streams.Out)
	out.UseCRLF = true
	if err := out.Write(exportColumns); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	var failed error
	err := eachPage(ctx, exportLimit, api.agentPages(filter), func(agents []*amporav1.Agent) bool {
		for _, agent := range agents {
			failed = errors.Join(failed, out.Write(exportRow(agent)))
		}
		out.Flush()
		failed = errors.Join(failed, out.Error())
		return failed == nil
	})
	return errors.Join(err, failed)
}

func exportRow(a *amporav1.Agent) []string {
	delivery := a.GetConfigDelivery()
	row := []string{
		a.GetId(), a.GetDisplayName(), a.GetServiceName(), a.GetServiceVersion(), a.GetHostName(), a.GetGroupName(),
		plain(word(a.GetPresence())), a.GetSession().GetGatewayId(), exportTime(a.GetSession().GetConnectedAt()),
		exportTime(a.GetSession().GetLastSeenAt()), plain(healthWord(a.GetHealth())), delivery.GetConfigName(),
		plain(number(delivery.GetVersion())), plain(word(delivery.GetState())), delivery.GetMessage(),
		strings.Join(reasons(a.GetAttention()), " "), tagList(a.GetTags()), exportTime(a.GetEnrolledAt()), plain(word(a.GetEnrolmentMethod())),
	}
	for i, cell := range row {
		row[i] = unformulated(cell)
	}
	return row
}

// plain is empty for what people see as a dash.
func plain(text string) string {
	if text == none {
		return ""
	}
	return text
}

func exportTime(at *timestamppb.Timestamp) string {
	if at == nil {
		return ""
	}
	return at.AsTime().UTC().Format(time.RFC3339)
}

// unformulated is a cell that no spreadsheet takes for a formula: what begins one is set behind an apostrophe. Agents say
// what they like of themselves.
func unformulated(cell string) string {
	if trimmed := strings.TrimLeft(cell, " \x00"); strings.IndexAny(trimmed, "=+-@\t\r\n") == 0 {
		return "'" + cell
	}
	return cell
}

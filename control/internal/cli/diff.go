// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) configsDiff() *cobra.Command {
	var file string
	var text bool
	cmd := p.remote(verb{
		use: "diff CONFIG[@VERSION] CONFIG[@VERSION] | CONFIG[@VERSION] -f FILE [flags]", short: "Say how two configurations differ", args: cobra.RangeArgs(1, 2),
		long: `Say how the meaning of the second configuration differs from that of the first: components and pipelines that come
and go, settings that change. Formatting, comments and the order of keys are no difference, and secrets are hidden.

With --text the exact bytes are compared, in the unified format. They may hold secrets: the call is audited.`,
		example: "amporactl configs diff edge@3 edge@4\namporactl configs diff edge -f edge.yaml --text",
	}, func(ctx context.Context, api *api, args []string) error {
		if (file == "") == (len(args) == 1) {
			return usage("name two versions, or one and a file")
		}
		from, err := api.side(ctx, args[0])
		if err != nil {
			return err
		}
		var to *amporav1.ConfigSide
		if file != "" {
			body, err := p.readBody(file)
			if err != nil {
				return err
			}
			to = &amporav1.ConfigSide{Side: &amporav1.ConfigSide_Body{Body: body}}
		} else if to, err = api.side(ctx, args[1]); err != nil {
			return err
		}
		return p.diff(ctx, api, from, to, text)
	})
	bodyFlag(cmd, &file)
	textFlag(cmd, &text)
	return cmd
}

func textFlag(cmd *cobra.Command, text *bool) {
	cmd.Flags().BoolVar(text, "text", false, "compare the exact bytes, which may hold secrets; audited")
}

func (a *api) side(ctx context.Context, ref string) (*amporav1.ConfigSide, error) {
	source, err := a.stored(ctx, ref)
	return &amporav1.ConfigSide{Side: &amporav1.ConfigSide_Version{Version: source.GetVersion()}}, err
}

// diff shows how two configurations differ, in meaning or in their bytes.
func (p *program) diff(ctx context.Context, api *api, from, to *amporav1.ConfigSide, text bool) error {
	if text {
		answer, err := api.configs.DiffConfigTexts(ctx, &amporav1.DiffConfigTextsRequest{From: from, To: to})
		if err != nil {
			return err
		}
		return p.show(answer, func() view { return unifiedView(answer.GetUnified()) })
	}
	answer, err := api.configs.CompareConfigs(ctx, &amporav1.CompareConfigsRequest{From: from, To: to})
	if err != nil {
		return err
	}
	return p.show(answer, func() view { return changesView{answer} })
}

// unifiedView is a difference of bytes as it came, escaped where it could drive a terminal.
type unifiedView string

func (v unifiedView) write(out io.Writer) error {
	if v == "" {
		_, err := fmt.Fprintln(out, "the bytes are the same")
		return err
	}
	return writeExact(out, []byte(v))
}

// changesView is a difference of meaning, one sentence a line.
type changesView struct {
	*amporav1.CompareConfigsResponse
}

func (v changesView) write(out io.Writer) error {
	lines := make([]string, 0, len(v.GetChanges()))
	for _, c := range v.GetChanges() {
		lines = append(lines, escape(c.GetSentence()))
	}
	switch {
	case len(lines) > 0:
	case v.GetSameBytes():
		lines = append(lines, "they are the same")
	default:
		lines = append(lines, "they mean the same")
	}
	_, err := fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

func (p *program) agentsDrift() *cobra.Command {
	var group string
	var text bool
	cmd := p.remote(verb{
		use: "drift [AGENT] [flags]", short: "Say which agents run something else than was assigned", args: cobra.MaximumNArgs(1),
		long: `Count the agents by whether they run what was assigned to them; of one agent, say what it runs otherwise. What
the Collector fills in, and what the supervisor adds, is no difference. An agent is compared with the version that it
says it has applied.

States: in-sync, drifted, none (nothing is assigned and applied), unknown (the agent does not report what it runs, or in
a way that cannot be compared).`,
		example: "amporactl agents drift --group berlin\namporactl agents drift otelcol@db-7",
	}, func(ctx context.Context, api *api, args []string) error {
		if len(args) == 0 {
			return p.countDrift(ctx, api, group)
		}
		if group != "" {
			return usage("name an agent or a group, not both")
		}
		id, err := api.agentID(ctx, args[0])
		if err != nil {
			return err
		}
		if text {
			return p.diff(ctx, api, assignedTo(id), effectiveOn(id), true)
		}
		return p.showDrift(ctx, api, id)
	})
	cmd.Flags().StringVar(&group, "group", "", "only agents of `GROUP` (name or id)")
	textFlag(cmd, &text)
	return cmd
}

func assignedTo(agent string) *amporav1.ConfigSide {
	return &amporav1.ConfigSide{Side: &amporav1.ConfigSide_AssignedToAgent{AssignedToAgent: agent}}
}

func effectiveOn(agent string) *amporav1.ConfigSide {
	return &amporav1.ConfigSide{Side: &amporav1.ConfigSide_EffectiveOnAgent{EffectiveOnAgent: agent}}
}

func (p *program) countDrift(ctx context.Context, api *api, group string) error {
	request := &amporav1.CountDriftRequest{}
	if group != "" {
		id, err := api.groupID(ctx, group)
		if err != nil {
			return err
		}
		request.GroupId = id
	}
	answer, err := api.drift.CountDrift(ctx, request)
	if err != nil {
		return err
	}
	return p.show(answer, func() view {
		t := newTable("STATE", "AGENTS")
		for _, c := range answer.GetCounts() {
			t.row(word(c.GetState()), fmt.Sprint(c.GetAgents()))
		}
		return t
	})
}

// showDrift shows the verdict on an agent and, if it drifts, all differences there are now.
func (p *program) showDrift(ctx context.Context, api *api, id string) error {
	answer, err := api.drift.GetDrift(ctx, &amporav1.GetDriftRequest{AgentId: id})
	if err != nil {
		return err
	}
	d := answer.GetDrift()
	t := newTable("STATE", "CHANGES", "SINCE", "COMPARED")
	t.row(word(d.GetState()), number(d.GetChanges()), relative(p.now(), d.GetSince()), relative(p.now(), d.GetComparedAt()))
	err = p.show(answer, func() view { return t })
	if err != nil || p.format != formatTable || d.GetState() != amporav1.DriftState_DRIFT_STATE_DRIFTED {
		return err
	}
	_, _ = fmt.Fprintln(p.streams.Out)
	return p.diff(ctx, api, assignedTo(id), effectiveOn(id), false)
}

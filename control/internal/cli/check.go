// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) configsCheck() *cobra.Command {
	var file string
	var whom audienceFlags
	cmd := p.remote(verb{
		use: "check CONFIG[@VERSION] | -f FILE [flags]", short: "Say what the Collector would refuse, and what should not run", args: cobra.MaximumNArgs(1),
		long: `Look at a version, by default the newest, or at a file, and say what the Collector would refuse and what it would
accept and should not run. With --all, --group or --agent the builds of these agents are looked at too: which of them
have every component that is used and, where the installation has a validator with such a build, what that itself says.
Nothing is stored, and nothing is sent to agents.

Exits with 2 if there is a finding of severity error, or an agent that lacks something or has a build that refuses it.
The rules are listed in docs/reference/config-rules.md.`,
		example: "amporactl configs check -f edge.yaml\namporactl configs check edge@4 --group berlin",
	}, func(ctx context.Context, api *api, args []string) error {
		source, err := p.source(ctx, api, file, args)
		if err != nil {
			return err
		}
		audience, err := whom.audience(ctx, api)
		if err != nil {
			return err
		}
		answer, err := api.configs.CheckConfig(ctx, &amporav1.CheckConfigRequest{Source: source, Audience: audience})
		if err != nil {
			return err
		}
		if err := p.show(answer, func() view { return checkView{answer} }); err != nil {
			return err
		}
		switch {
		case !answer.GetPublishable():
			return usage("it cannot be published as it is")
		case answer.GetInvalidAgents() > 0:
			return usage("%d agents cannot run it", answer.GetInvalidAgents())
		}
		return nil
	})
	bodyFlag(cmd, &file)
	whom.flags(cmd)
	return cmd
}

// source is the file, or the version that the one argument names.
func (p *program) source(ctx context.Context, api *api, file string, args []string) (*amporav1.ConfigSource, error) {
	switch {
	case (file == "") == (len(args) == 0):
		return nil, usage("name a version or a file, one of the two")
	case file != "":
		body, err := p.readBody(file)
		return &amporav1.ConfigSource{Source: &amporav1.ConfigSource_Body{Body: body}}, err
	}
	return api.stored(ctx, args[0])
}

// stored is the version that a person names, by default the newest.
func (a *api) stored(ctx context.Context, ref string) (*amporav1.ConfigSource, error) {
	config, version, err := a.version(ctx, ref, (*amporav1.Config).GetLatest)
	return &amporav1.ConfigSource{Source: &amporav1.ConfigSource_Version_{
		Version: &amporav1.ConfigSource_Version{ConfigId: config.GetId(), Version: version},
	}}, err
}

// audienceFlags name the agents whose builds are looked at.
type audienceFlags struct {
	all          bool
	agent, group string
}

func (f *audienceFlags) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.all, "all", false, "look at the builds of all agents")
	cmd.Flags().StringVar(&f.group, "group", "", "look at the builds of the agents in `GROUP` (name or id)")
	cmd.Flags().StringVar(&f.agent, "agent", "", "look at the build of `AGENT` (id, prefix of it, or name)")
	cmd.MarkFlagsMutuallyExclusive("all", "group", "agent")
}

func (f *audienceFlags) audience(ctx context.Context, api *api) (*amporav1.ConfigAudience, error) {
	switch {
	case f.all:
		return &amporav1.ConfigAudience{Audience: &amporav1.ConfigAudience_All{All: true}}, nil
	case f.group != "":
		id, err := api.groupID(ctx, f.group)
		return &amporav1.ConfigAudience{Audience: &amporav1.ConfigAudience_GroupId{GroupId: id}}, err
	case f.agent != "":
		id, err := api.agentID(ctx, f.agent)
		return &amporav1.ConfigAudience{Audience: &amporav1.ConfigAudience_AgentId{AgentId: id}}, err
	default:
		return nil, nil
	}
}

// checkView shows what a check found: the findings, then the builds.
type checkView struct{ *amporav1.CheckConfigResponse }

func (c checkView) write(out io.Writer) error {
	if len(c.GetFindings()) == 0 {
		if _, err := fmt.Fprintln(out, "nothing was found"); err != nil {
			return err
		}
	} else if err := findingTable(c.GetFindings()).write(out); err != nil {
		return err
	}
	if len(c.GetBuilds()) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "\nvalid on %d agents, invalid on %d, not known for %d\n\n", c.GetValidAgents(), c.GetInvalidAgents(), c.GetUnknownAgents())
	if err != nil {
		return err
	}
	t := newTable("BUILD", "VERSION", "AGENTS", "AN AGENT", "LACKS", "SAYS")
	for _, b := range c.GetBuilds() {
		t.row(or(b.GetServiceName()), or(b.GetServiceVersion()), fmt.Sprint(b.GetAgents()), or(b.GetExampleAgentId()), lacks(b), says(b.GetCollector()))
	}
	if err := t.write(out); err != nil {
		return err
	}
	return c.writeWords(out)
}

// writeWords shows what builds say of the configuration, once where several have the same to say.
func (c checkView) writeWords(out io.Writer) error {
	var shown []*amporav1.CollectorVerdict
	for _, b := range c.GetBuilds() {
		said := b.GetCollector()
		if len(said.GetFindings()) == 0 || slices.ContainsFunc(shown, func(v *amporav1.CollectorVerdict) bool { return proto.Equal(v, said) }) {
			continue
		}
		shown = append(shown, said)
		if _, err := fmt.Fprintf(out, "\n%s %s itself says:\n\n", or(b.GetServiceName()), or(b.GetServiceVersion())); err != nil {
			return err
		}
		if err := findingTable(said.GetFindings()).write(out); err != nil {
			return err
		}
	}
	return nil
}

// says is what a build says, in short.
func says(v *amporav1.CollectorVerdict) string {
	switch {
	case v == nil:
		return none
	case v.GetWhy() != "":
		return word(v.GetOutcome()) + ": " + escape(v.GetWhy())
	default:
		return word(v.GetOutcome())
	}
}

func findingTable(findings []*amporav1.ConfigFinding) *table {
	t := newTable("SEVERITY", "LINE", "RULE", "WHERE", "WHAT")
	for _, f := range findings {
		t.row(word(f.GetSeverity()), number(f.GetLine()), or(f.GetRule()), or(f.GetPath()), escape(f.GetMessage()))
	}
	return t
}

// lacks is what a build lacks, in short; the whole of it is in -o json.
func lacks(b *amporav1.BuildVerdict) string {
	switch n := len(b.GetMissing()); {
	case !b.GetKnown():
		return "not known: the agents did not say what they have"
	case n == 0:
		return "-"
	case n == 1:
		return escape(b.GetMissing()[0].GetPath())
	default:
		return fmt.Sprintf("%s and %d more", escape(b.GetMissing()[0].GetPath()), n-1)
	}
}

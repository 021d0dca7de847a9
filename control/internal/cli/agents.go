// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func (p *program) agentCommands() *cobra.Command {
	return noun("agents", "Agents: what is there and what it really runs",
		p.agentsList(), p.agentsCount(), p.agentsGet(), p.agentsWatch(), p.agentsEffectiveConfig(), p.agentsDrift(), p.agentsRetry(), p.agentsAllowChildren(),
		p.agentsReleaseQuarantine(), p.agentsHistory(), p.agentsExport(), p.agentsTag(), p.agentsMove(),
		p.agentsPush(), p.agentsDrain(), p.agentsRestart(), p.agentsLabels())
}

func (p *program) agentsList() *cobra.Command {
	var selection agentSelection
	var limit int
	cmd := p.remote(verb{
		use: "list [flags]", short: "List agents", args: cobra.NoArgs,
		example: "amporactl agents list --state failed\namporactl agents list --label deployment.environment=prod -o json",
	}, func(ctx context.Context, api *api, _ []string) error {
		filter, err := selection.filter(ctx, p.now(), api)
		if err != nil {
			return err
		}
		agents, err := pages(ctx, limit, api.agentPages(filter))
		if err != nil {
			return err
		}
		return p.show(&amporav1.ListAgentsResponse{Agents: agents}, func() view { return p.agentTable(agents) })
	})
	selection.flags(cmd)
	limitFlag(cmd, &limit, 0)
	return cmd
}

func (p *program) agentsCount() *cobra.Command {
	var selection agentSelection
	cmd := p.remote(verb{
		use: "count [flags]", short: "Count agents", args: cobra.NoArgs, example: "amporactl agents count --presence offline",
	}, func(ctx context.Context, api *api, _ []string) error {
		filter, err := selection.filter(ctx, p.now(), api)
		if err != nil {
			return err
		}
		answer, err := api.agents.CountAgents(ctx, &amporav1.CountAgentsRequest{Filter: filter})
		if err != nil {
			return err
		}
		return p.show(answer, func() view {
			if answer.GetMore() {
				return sentence("more than %d", answer.GetCount())
			}
			return sentence("%d", answer.GetCount())
		})
	})
	selection.flags(cmd)
	return cmd
}

// limitFlag bounds a list.
func limitFlag(cmd *cobra.Command, limit *int, normally int) {
	cmd.Flags().IntVar(limit, "limit", normally, "show at most `N`; 0 is all")
}

func (p *program) agentTable(agents []*amporav1.Agent) view {
	t := newTable("ID", "NAME", "GROUP", "PRESENCE", "LAST SEEN", "HEALTH", "CONFIG", "STATE", "TAGS", "ATTENTION")
	for _, agent := range agents {
		t.row(
			or(agent.GetId()), or(agent.GetDisplayName()), or(agent.GetGroupName()), word(agent.GetPresence()),
			lastSeen(p.now(), agent), healthWord(agent.GetHealth()),
			configOf(agent.GetConfigDelivery()), word(agent.GetConfigDelivery().GetState()),
			or(tagList(agent.GetTags())), or(strings.Join(reasons(agent.GetAttention()), ",")),
		)
	}
	return t
}

// lastSeen is when an agent was last seen. An online one is there now: its heartbeats end in its gateway, and what is on
// record of it is only when it last said something new.
func lastSeen(now time.Time, agent *amporav1.Agent) string {
	if agent.GetPresence() == amporav1.Presence_PRESENCE_ONLINE {
		return "now"
	}
	return relative(now, agent.GetSession().GetLastSeenAt())
}

func healthWord(health *amporav1.Health) string {
	switch {
	case health == nil:
		return none
	case health.GetHealthy():
		return "healthy"
	default:
		return "unhealthy"
	}
}

func configOf(delivery *amporav1.ConfigDelivery) string {
	if delivery.GetConfigName() == "" {
		return none
	}
	return fmt.Sprintf("%s@%d", escape(delivery.GetConfigName()), delivery.GetVersion())
}

func tagList(tags map[string]*amporav1.Tag) string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, key+"="+tags[key].GetValue())
	}
	return strings.Join(list, ",")
}

func reasons(list []*amporav1.Attention) []string {
	var words []string
	for _, attention := range list {
		words = append(words, attention.GetReason())
	}
	return words
}

func (p *program) agentsGet() *cobra.Command {
	return p.remote(verb{
		use: "get AGENT", short: "Show all that is known of one agent", args: cobra.ExactArgs(1),
		long: "Show all that is known of one agent, named by its id, a prefix of it, or its name.",
	}, func(ctx context.Context, api *api, args []string) error {
		id, err := api.agentID(ctx, args[0])
		if err != nil {
			return err
		}
		answer, err := api.agents.GetAgent(ctx, &amporav1.GetAgentRequest{Id: id})
		if err != nil {
			return err
		}
		return p.show(answer.GetAgent(), func() view { return p.agentProperties(answer.GetAgent()) })
	})
}

func (p *program) agentsEffectiveConfig() *cobra.Command {
	var file string
	cmd := p.remote(verb{
		use: "effective-config AGENT [flags]", short: "Print the configuration an agent says it runs", args: cobra.ExactArgs(1),
		long: `Print the exact bytes the agent last reported as its effective configuration. They may hold
secrets that the agent did not redact: the call is audited. On a terminal, characters that could
drive it are escaped.`,
	}, func(ctx context.Context, api *api, args []string) error {
		id, err := api.agentID(ctx, args[0])
		if err != nil {
			return err
		}
		answer, err := api.agents.GetEffectiveConfig(ctx, &amporav1.GetEffectiveConfigRequest{Id: id})
		if err != nil {
			return err
		}
		if p.format != formatTable {
			return p.show(answer, nil)
		}
		chosen, err := chooseFile(answer.GetFiles(), file)
		if err != nil {
			return err
		}
		if others := otherFiles(answer.GetFiles(), chosen); others != "" && file == "" {
			_, _ = fmt.Fprintf(p.streams.Err, "the agent also reports: %s; choose with --file\n", others)
		}
		return writeExact(p.streams.Out, chosen.GetBody())
	})
	cmd.Flags().StringVar(&file, "file", "", "which `FILE` of the agent's configuration map, where there are several")
	return cmd
}

// configFile is one file of an agent's configuration map. The name of most agents' only one is the empty text.
type configFile = amporav1.GetEffectiveConfigResponse_File

func chooseFile(files []*configFile, name string) (*configFile, error) {
	if len(files) == 0 {
		return nil, fail(ExitNotFound, "", "the agent has not reported an effective configuration")
	}
	if len(files) == 1 && name == "" {
		return files[0], nil
	}
	for _, file := range files {
		if file.GetFile().GetName() == name {
			return file, nil
		}
	}
	return nil, fail(ExitNotFound, "choose one with --file, or take all with -o json",
		"the agent's configuration has no file %q, but %s", name, otherFiles(files, nil))
}

func otherFiles(files []*configFile, than *configFile) string {
	var names []string
	for _, file := range files {
		if file != than {
			names = append(names, fmt.Sprintf("%q", file.GetFile().GetName()))
		}
	}
	return strings.Join(names, ", ")
}

func (p *program) agentsRetry() *cobra.Command {
	return p.remote(verb{
		use: "retry AGENT", short: "Offer a configuration that failed once more", args: cobra.ExactArgs(1),
		long: "Clear the failed attempts of an agent, so that the assigned version is offered to it once more.",
	}, func(ctx context.Context, api *api, args []string) error {
		id, err := api.agentID(ctx, args[0])
		if err != nil {
			return err
		}
		answer, err := api.agents.RetryConfig(ctx, &amporav1.RetryConfigRequest{Id: id})
		if err != nil {
			return err
		}
		return p.show(answer, func() view {
			return sentence("%s cleared; follow the agent with: amporactl agents watch %s", counted(answer.GetCleared(), "failed attempt"), id)
		})
	})
}

func (p *program) agentsAllowChildren() *cobra.Command {
	var most int32
	cmd := p.remote(verb{
		use: "allow-children AGENT --max N", short: "Let an agent speak for further agents", args: cobra.ExactArgs(1),
		long: "Let an identity (a relay, a Kubernetes bridge) speak for up to N further agents over its own connection; 0 forbids it.",
	}, func(ctx context.Context, api *api, args []string) error {
		id, err := api.agentID(ctx, args[0])
		if err != nil {
			return err
		}
		answer, err := api.agents.AllowChildren(ctx, &amporav1.AllowChildrenRequest{Id: id, MaxChildren: most})
		if err != nil {
			return err
		}
		return p.show(answer.GetAgent(), func() view {
			return sentence("%s may speak for %s besides itself", id, counted(answer.GetAgent().GetMaxChildren(), "agent"))
		})
	})
	cmd.Flags().Int32Var(&most, "max", 0, "how many further agents, `N`, 0 to 10000")
	_ = cmd.MarkFlagRequired("max") // fails for an unknown flag only
	return cmd
}

func (p *program) agentsReleaseQuarantine() *cobra.Command {
	return p.remote(verb{
		use: "release-quarantine AGENT", short: "Let a quarantined agent in again", args: cobra.ExactArgs(1),
		long: "Let an identity in again that was quarantined because several agents lived with it. See to it first that only one is left.",
	}, func(ctx context.Context, api *api, args []string) error {
		id, err := api.agentID(ctx, args[0])
		if err != nil {
			return err
		}
		answer, err := api.agents.ReleaseQuarantine(ctx, &amporav1.ReleaseQuarantineRequest{Id: id})
		if err != nil {
			return err
		}
		return p.show(answer.GetAgent(), func() view { return sentence("%s may connect again", id) })
	})
}

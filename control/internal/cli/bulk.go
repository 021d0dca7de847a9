// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// bulkFlags say whom a command is about that is about many: agents that are named, or those that the filter's flags
// select.
type bulkFlags struct {
	selection        agentSelection
	all, dryRun, yes bool
	expect           string
}

func (f *bulkFlags) flags(cmd *cobra.Command) {
	f.selection.flags(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.all, "all", false, "every agent")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only show what would be done")
	flags.BoolVar(&f.yes, "yes", false, "do it to whomever the flags select, without looking first")
	flags.StringVar(&f.expect, "expect", "", "do it to exactly those of the dry run that showed this `MARK`")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "yes", "expect")
}

// targets says whom the command is about. Agents are named or selected, not both, and everybody only on purpose.
func (f *bulkFlags) targets(ctx context.Context, now time.Time, api *api, agents []string) (*amporav1.AgentTargets, error) {
	targets := &amporav1.AgentTargets{DryRun: f.dryRun, Expect: f.expect}
	filter, err := f.selection.filter(ctx, now, api)
	if err != nil {
		return nil, err
	}
	selecting := !f.selection.empty()
	switch {
	case len(agents) > 0 && (selecting || f.all):
		return nil, usage("name agents or select them by flags, not both")
	case len(agents) > 0:
		named, err := api.agentIDs(ctx, agents)
		targets.Of = &amporav1.AgentTargets_Ids{Ids: &amporav1.AgentIds{Ids: named}}
		return targets, err
	case selecting == f.all:
		return nil, usage("name agents, select them by flags, or say --all")
	default:
		targets.Of = &amporav1.AgentTargets_Filter{Filter: filter}
		return targets, nil
	}
}

// bulkVerb is a command that does one thing to many agents.
type bulkVerb struct {
	verb
	// split parts the arguments into names of agents and the rest; nil: all are agents.
	split func(args []string) (agents []string, rest []string)
	// do calls the procedure; done says what was done, after the number of agents.
	do   func(ctx context.Context, api *api, targets *amporav1.AgentTargets, rest []string) (*amporav1.BulkOutcome, error)
	done string
}

// bulk is the command of a bulkVerb. Whom a filter selects is looked at first: without --yes or --expect that is all.
func (p *program) bulk(v bulkVerb) *cobra.Command {
	var whom bulkFlags
	cmd := p.remote(v.verb, func(ctx context.Context, api *api, args []string) error {
		agents, rest := args, []string(nil)
		if v.split != nil {
			agents, rest = v.split(args)
		}
		targets, err := whom.targets(ctx, p.now(), api, agents)
		if err != nil {
			return err
		}
		if targets.GetFilter() != nil && targets.GetExpect() == "" {
			targets.DryRun = true
			preview, err := v.do(ctx, api, targets, rest)
			if err != nil || !whom.yes {
				return p.showBulk(preview, err, true, v.done)
			}
			targets.DryRun, targets.Expect = false, preview.GetMark()
		}
		outcome, err := v.do(ctx, api, targets, rest)
		return p.showBulk(outcome, err, targets.GetDryRun(), v.done)
	})
	whom.flags(cmd)
	return cmd
}

func (p *program) showBulk(outcome *amporav1.BulkOutcome, err error, preview bool, done string) error {
	if err != nil {
		return err
	}
	return p.show(outcome, func() view { return bulkView{p, outcome, preview, done} })
}

// bulkView is what was done, or would be, and to whom it could not.
type bulkView struct {
	p       *program
	outcome *amporav1.BulkOutcome
	preview bool
	done    string
}

func (v bulkView) write(out io.Writer) error {
	text := &strings.Builder{}
	if v.preview {
		_, _ = fmt.Fprintf(text, "%s would be %s", counted(v.outcome.GetChanged(), "agent"), v.done)
	} else {
		_, _ = fmt.Fprintf(text, "%s %s", counted(v.outcome.GetChanged(), "agent"), v.done)
	}
	for _, skipped := range v.outcome.GetSkipped() {
		_, _ = fmt.Fprintf(text, "; %d skipped: %s", skipped.GetCount(), escape(skipped.GetReason()))
	}
	_, _ = fmt.Fprintln(text)
	if sample := v.outcome.GetSample(); len(sample) > 0 {
		if err := v.p.agentTable(sample).write(text); err != nil {
			return err
		}
	}
	if rest := int(v.outcome.GetChanged()) - len(v.outcome.GetSample()); v.preview && rest > 0 {
		_, _ = fmt.Fprintf(text, "and %d more\n", rest)
	}
	if v.preview {
		_, _ = fmt.Fprintf(text, "do it to exactly these with: --expect %s\n", escape(v.outcome.GetMark()))
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func (p *program) agentsTag() *cobra.Command {
	return p.bulk(bulkVerb{
		verb: verb{
			use: "tag [AGENT...] KEY=VALUE|KEY-... [flags]", short: "Set and remove tags of agents", args: cobra.MinimumNArgs(1),
			long: `Set tags with KEY=VALUE, remove them with KEY-. Tags are what operators say of agents, and what came with their
enrolment; labels are what agents say of themselves. An operator has the last word: what one sets takes the place
of what came with the enrolment.`,
			example: "amporactl agents tag web-1 site=berlin canary-\namporactl agents tag --label deployment.environment=prod tier=gold --dry-run",
		},
		split: splitTags, done: "tagged",
		do: func(ctx context.Context, api *api, targets *amporav1.AgentTargets, rest []string) (*amporav1.BulkOutcome, error) {
			set, remove, err := parseTags(rest)
			if err != nil {
				return nil, err
			}
			return api.bulk.TagAgents(ctx, &amporav1.TagAgentsRequest{Targets: targets, Set: set, Remove: remove})
		},
	})
}

// splitTags parts names of agents from what becomes of tags: neither ids nor names of agents hold "=" or end with "-".
func splitTags(args []string) (agents, tags []string) {
	for _, arg := range args {
		if strings.Contains(arg, "=") || strings.HasSuffix(arg, "-") {
			tags = append(tags, arg)
		} else {
			agents = append(agents, arg)
		}
	}
	return agents, tags
}

func parseTags(args []string) (set map[string]string, remove []string, err error) {
	set = map[string]string{}
	for _, arg := range args {
		key, value, sets := strings.Cut(arg, "=")
		if !sets {
			key = strings.TrimSuffix(arg, "-")
		}
		if _, twice := set[key]; twice || slices.Contains(remove, key) {
			return nil, nil, usage("the tag %q is named twice", key)
		}
		if sets {
			set[key] = value
		} else {
			remove = append(remove, key)
		}
	}
	if len(args) == 0 {
		return nil, nil, usage("no tag is named: KEY=VALUE sets one, KEY- removes one")
	}
	return set, remove, nil
}

func (p *program) agentsMove() *cobra.Command {
	var to string
	var out bool
	cmd := p.bulk(bulkVerb{
		verb: verb{
			use: "move [AGENT...] --to GROUP [flags]", short: "Move agents into a group, out of whichever they are in",
			example: "amporactl agents move web-1 web-2 --to berlin\namporactl agents move --tag site=berlin --no-group --to berlin --dry-run",
		},
		done: "moved",
		do: func(ctx context.Context, api *api, targets *amporav1.AgentTargets, _ []string) (*amporav1.BulkOutcome, error) {
			group, err := api.groupID(ctx, to)
			if err != nil {
				return nil, err
			}
			return api.bulk.MoveAgents(ctx, &amporav1.MoveAgentsRequest{Targets: targets, GroupId: group})
		},
	})
	cmd.Flags().StringVar(&to, "to", "", "the `GROUP` (name or id)")
	cmd.Flags().BoolVar(&out, "out", false, "out of their groups, into none")
	cmd.MarkFlagsOneRequired("to", "out")
	cmd.MarkFlagsMutuallyExclusive("to", "out")
	return cmd
}

func (p *program) agentsPush() *cobra.Command {
	var reason string
	cmd := p.bulk(bulkVerb{
		verb: verb{
			use: "push [AGENT...] --reason TEXT [flags]", short: "Send agents once more what is assigned to them",
			long: `Send what is assigned once more, even to agents that say they run it. What failed on an agent is not sent to it:
that is what retry is for. Agents say nothing to a configuration that they run already.`,
			example: "amporactl agents push web-1 --reason \"its disk was restored\"",
		},
		done: "sent what is assigned",
		do: func(ctx context.Context, api *api, targets *amporav1.AgentTargets, _ []string) (*amporav1.BulkOutcome, error) {
			return api.bulk.PushConfigs(ctx, &amporav1.PushConfigsRequest{Targets: targets, Reason: reason})
		},
	})
	reasonFlag(cmd, &reason)
	_ = cmd.MarkFlagRequired("reason") // fails for an unknown flag only
	return cmd
}

func (p *program) agentsDrain() *cobra.Command {
	var reason string
	var over time.Duration
	cmd := p.bulk(bulkVerb{
		verb: verb{
			use: "drain [AGENT...] [flags]", short: "End sessions, so that agents connect again elsewhere",
			long: `End the sessions of agents, one after the other, so that they connect again: at another gateway, if that is where they
are led. Nobody counts as offline for that.`,
			example: "amporactl agents drain --gateway edge-1 --over 10m --yes",
		},
		done: "drained",
		do: func(ctx context.Context, api *api, targets *amporav1.AgentTargets, _ []string) (*amporav1.BulkOutcome, error) {
			request := &amporav1.DrainAgentsRequest{Targets: targets, Reason: reason}
			if over > 0 {
				request.Over = durationpb.New(over)
			}
			return api.bulk.DrainAgents(ctx, request)
		},
	})
	cmd.Flags().DurationVar(&over, "over", 0, "over which `TIME`, up to 1h; by default a hundred agents in a second")
	reasonFlag(cmd, &reason)
	return cmd
}

func (p *program) agentsRestart() *cobra.Command {
	var reason string
	cmd := p.bulk(bulkVerb{
		verb: verb{
			use: "restart [AGENT...] [flags]", short: "Ask agents to restart",
			long: `Ask agents that accept the command to restart, each once: what cannot be written to an agent within a minute is
dropped, and nobody repeats it. Whether it was written stands in the agent's history.`,
			example: "amporactl agents restart web-1\namporactl agents restart --tag site=berlin --capability AcceptsRestartCommand --yes",
		},
		done: "asked to restart",
		do: func(ctx context.Context, api *api, targets *amporav1.AgentTargets, _ []string) (*amporav1.BulkOutcome, error) {
			return api.bulk.RestartAgents(ctx, &amporav1.RestartAgentsRequest{Targets: targets, Reason: reason})
		},
	})
	reasonFlag(cmd, &reason)
	return cmd
}

func reasonFlag(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "reason", "", "why, a `TEXT` for the audit log")
}

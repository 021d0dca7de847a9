// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

const waysLong = `Agents are parted into waves: immediate is one wave of all, batch has waves of --size, percentage waves by share of the
members (5, 25, 50 and 100 %), canary the same with a dwell for each (5 %/5m, 25 %/10m, 50 %/30m, 100 %). Four gates
stop the rollout when more agents than they let pass have a problem, of the open wave or of all so far:
apply-failed (20 %, 5 %), disconnect (20 %, 5 %, within 5m), mismatch (20 %, 5 %, after 10m), unhealthy (10 %, 5 %, after 10m).`

func (p *program) rolloutsPlan() *cobra.Command {
	var flags definitionFlags
	cmd := p.remote(verb{
		use: "plan CONFIG[@VERSION] --group GROUP [flags]", short: "Show what a rollout would do, and do nothing", args: cobra.ExactArgs(1),
		long:    "Show what a rollout would do, and do nothing.\n\n" + waysLong,
		example: "amporactl rollouts plan edge --group berlin --strategy percentage --spread site",
	}, func(ctx context.Context, api *api, args []string) error {
		definition, err := flags.definition(ctx, api, args[0])
		if err != nil {
			return err
		}
		answer, err := api.rollouts.PlanRollout(ctx, &amporav1.PlanRolloutRequest{Definition: definition})
		if err != nil {
			return err
		}
		return p.show(answer, func() view { return planView(answer.GetDefinition(), answer.GetPlan()) })
	})
	flags.flags(cmd)
	_ = cmd.MarkFlagRequired("group") // fails for an unknown flag only
	return cmd
}

func (p *program) rolloutsCreate() *cobra.Command {
	var flags definitionFlags
	var start bool
	cmd := p.remote(verb{
		use: "create CONFIG[@VERSION] --group GROUP [flags]", short: "Make a rollout with its plan", args: cobra.ExactArgs(1),
		long: "Make a rollout with its plan. It does nothing before it is started.\n\n" + waysLong,
		example: `amporactl rollouts create edge@3 --group berlin
amporactl rollouts create edge --group berlin --steps 5%/5m,25%/10m,100% --gate apply-failed=10%,total=off --roll-back`,
	}, func(ctx context.Context, api *api, args []string) error {
		definition, err := flags.definition(ctx, api, args[0])
		if err != nil {
			return err
		}
		made, err := api.rollouts.CreateRollout(ctx, &amporav1.CreateRolloutRequest{Definition: definition})
		if err != nil {
			return err
		}
		rollout := made.GetRollout()
		if start {
			started, err := api.rollouts.StartRollout(ctx, &amporav1.StartRolloutRequest{Id: rollout.GetId()})
			if err != nil {
				return startRefused(err, rollout.GetId())
			}
			rollout = started.GetRollout()
		}
		return p.show(rollout, func() view {
			next := "start it with: amporactl rollouts start %s"
			if start {
				next = "follow it with: amporactl rollouts watch %s"
			}
			return views{planView(rollout.GetDefinition(), rollout.GetPlan()), line(""), sentence(next, rollout.GetId())}
		})
	})
	flags.flags(cmd)
	cmd.Flags().BoolVar(&start, "start", false, "start it at once")
	_ = cmd.MarkFlagRequired("group") // fails for an unknown flag only
	return cmd
}

func (p *program) rolloutsStart() *cobra.Command {
	asked := &amporav1.StartRolloutRequest{}
	cmd := p.steer("start ROLLOUT [flags]", "Start a rollout that was made",
		`Start a rollout that was made. If its plan is not what it would be now, because more than 1 % of its agents are planned
otherwise, nothing is started, and it is shown what is otherwise: accept that plan with --accept-changes.`,
		func(ctx context.Context, api *api, id string) (*amporav1.Rollout, error) {
			asked.Id = id
			answer, err := api.rollouts.StartRollout(ctx, asked)
			return answer.GetRollout(), startRefused(err, id)
		})
	cmd.Flags().StringVar(&asked.AcceptChanges, "accept-changes", "", "start with the plan of this `DIGEST`, which a refusal has shown")
	cmd.Flags().BoolVar(&asked.Supersede, "supersede", false, "abort what is active in the group")
	return cmd
}

// startRefused tells how a plan is otherwise now, and how to accept that.
func startRefused(err error, id string) error {
	var remote *connect.Error
	if !errors.As(err, &remote) || errorInfo(remote).GetReason() != "PLAN_STALE" {
		return err
	}
	refused := failureOfAPI(remote)
	var otherwise []string
	for _, key := range slices.Sorted(maps.Keys(refused.metadata)) {
		if strings.HasPrefix(key, "agent/") {
			otherwise = append(otherwise, "  "+key+": "+refused.metadata[key])
			delete(refused.metadata, key)
		}
	}
	if len(otherwise) > 0 {
		refused.sentence += "\n" + strings.Join(otherwise, "\n")
	}
	refused.next = fmt.Sprintf("accept the plan as it would be now with: amporactl rollouts start %s --accept-changes %s", escape(id), escape(refused.metadata["digest"]))
	return refused
}

// steer is the command of a verb that changes one rollout.
func (p *program) steer(use, short, long string, do func(ctx context.Context, api *api, id string) (*amporav1.Rollout, error)) *cobra.Command {
	if long == "" {
		long = short + "."
	}
	return p.remote(verb{use: use, short: short, long: long + " " + rolloutNames, args: cobra.ExactArgs(1)},
		func(ctx context.Context, api *api, args []string) error {
			id, err := api.rolloutID(ctx, args[0])
			if err != nil {
				return err
			}
			rollout, err := do(ctx, api, id)
			if err != nil {
				return err
			}
			return p.show(rollout, func() view { return p.rolloutProperties(rollout) })
		})
}

func (p *program) rolloutsPause() *cobra.Command {
	var why string
	cmd := p.steer("pause ROLLOUT [flags]", "Let nobody in any more, for now",
		"Let nobody in any more, for now. What was not sent is withdrawn; what was sent may be finished.",
		func(ctx context.Context, api *api, id string) (*amporav1.Rollout, error) {
			answer, err := api.rollouts.PauseRollout(ctx, &amporav1.PauseRolloutRequest{Id: id, Reason: why})
			return answer.GetRollout(), err
		})
	whyFlag(cmd, &why)
	return cmd
}

func (p *program) rolloutsResume() *cobra.Command {
	asked := &amporav1.ResumeRolloutRequest{}
	cmd := p.steer("resume ROLLOUT [flags]", "Go on with a paused rollout",
		"Go on with a paused rollout. While a gate is breached, that is refused, unless the problems of now are accepted.",
		func(ctx context.Context, api *api, id string) (*amporav1.Rollout, error) {
			asked.Id = id
			answer, err := api.rollouts.ResumeRollout(ctx, asked)
			return answer.GetRollout(), err
		})
	cmd.Flags().BoolVar(&asked.AcceptProblems, "accept-problems", false, "the gates count what comes on top of the problems of now")
	return cmd
}

func (p *program) rolloutsAdvance() *cobra.Command {
	return p.steer("advance ROLLOUT", "Open the next wave now", "Open the next wave now, however long the open one was to be looked at.",
		func(ctx context.Context, api *api, id string) (*amporav1.Rollout, error) {
			answer, err := api.rollouts.AdvanceRollout(ctx, &amporav1.AdvanceRolloutRequest{Id: id})
			return answer.GetRollout(), err
		})
}

func (p *program) rolloutsExtend() *cobra.Command {
	var longer time.Duration
	cmd := p.steer("extend ROLLOUT --by TIME", "Look at the open wave for longer", "",
		func(ctx context.Context, api *api, id string) (*amporav1.Rollout, error) {
			answer, err := api.rollouts.ExtendRollout(ctx, &amporav1.ExtendRolloutRequest{Id: id, By: durationpb.New(longer)})
			return answer.GetRollout(), err
		})
	cmd.Flags().DurationVar(&longer, "by", 0, "how much longer")
	_ = cmd.MarkFlagRequired("by") // fails for an unknown flag only
	return cmd
}

func (p *program) rolloutsAbort() *cobra.Command {
	var why string
	cmd := p.steer("abort ROLLOUT [flags]", "End a rollout; agents that were given the version keep it", "",
		func(ctx context.Context, api *api, id string) (*amporav1.Rollout, error) {
			answer, err := api.rollouts.AbortRollout(ctx, &amporav1.AbortRolloutRequest{Id: id, Reason: why})
			return answer.GetRollout(), err
		})
	whyFlag(cmd, &why)
	return cmd
}

func whyFlag(cmd *cobra.Command, why *string) {
	cmd.Flags().StringVar(why, "reason", "", "why, a `TEXT` for people")
}

func (p *program) rolloutsRollback() *cobra.Command {
	var flags strategyFlags
	var note string
	cmd := p.steer("rollback ROLLOUT [flags]", "Give the agents that a rollout touched what each had before",
		`Give the agents that a rollout touched what each had before, by a rollout of its own with gates of its own. It is
made and started; what is shown is that one.`,
		func(ctx context.Context, api *api, id string) (*amporav1.Rollout, error) {
			strategy, err := flags.strategy()
			if err != nil {
				return nil, err
			}
			gates, err := flags.gatesGiven()
			if err != nil {
				return nil, err
			}
			answer, err := api.rollouts.RollBackRollout(ctx, &amporav1.RollBackRolloutRequest{Id: id, Strategy: strategy, Gates: gates, Note: note})
			return answer.GetRollout(), err
		})
	flags.flags(cmd, "immediate")
	cmd.Flags().StringVar(&note, "note", "", "why, a `TEXT` for people")
	return cmd
}

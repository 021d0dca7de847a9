// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// modelFlags say how agents answer in a simulation.
type modelFlags struct {
	fail, unhealthy, silent string
	seed                    uint64
	quickest, median, p99   time.Duration
}

func (f *modelFlags) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.fail, "fail", "0%", "the `SHARE` of agents on which the version fails")
	flags.StringVar(&f.unhealthy, "unhealthy", "0%", "the `SHARE` of agents that are not healthy with it")
	flags.StringVar(&f.silent, "silent", "0%", "the `SHARE` of agents that never answer")
	flags.Uint64Var(&f.seed, "luck", 1, "another `SEED` fails on other agents; --seed is that of the order")
	flags.DurationVar(&f.quickest, "quickest", 0, "the shortest time to an answer; by default 1s")
	flags.DurationVar(&f.median, "median", 0, "half of the agents answer within; by default 5s")
	flags.DurationVar(&f.p99, "p99", 0, "99 of 100 answer within; by default 30s")
}

func (f *modelFlags) model() (*amporav1.RolloutModel, error) {
	model := &amporav1.RolloutModel{Seed: f.seed, Quickest: orLeftOut(f.quickest), Median: orLeftOut(f.median), P99: orLeftOut(f.p99)}
	for _, share := range []struct {
		flag, text string
		to         *float64
	}{{"fail", f.fail, &model.Fail}, {"unhealthy", f.unhealthy, &model.Unhealthy}, {"silent", f.silent, &model.Silent}} {
		percent, err := parsePercent(share.text)
		if err != nil {
			return nil, usage("--%s: %v", share.flag, err)
		}
		*share.to = percent
	}
	return model, nil
}

func (p *program) rolloutsSimulate() *cobra.Command {
	var flags definitionFlags
	var model modelFlags
	cmd := p.remote(verb{
		use: "simulate CONFIG[@VERSION] --group GROUP [flags] | ROLLOUT", short: "Say how long a rollout takes, and whether a gate stops it",
		args: cobra.ExactArgs(1),
		long: `Run a rollout against agents that answer as they are told, in no time and touching no agent: how long does it take, and
would the gates have stopped it? It is what would run: the same decisions, under a clock of its own. The same seeds give
the same answer. Without --group it is about a rollout that was made. ` + rolloutNames,
		example: "amporactl rollouts simulate edge --group berlin --fail 3%\namporactl rollouts simulate berlin --fail 10% --median 20s",
	}, func(ctx context.Context, api *api, args []string) error {
		asked := &amporav1.SimulateRolloutRequest{}
		var err error
		if asked.Model, err = model.model(); err != nil {
			return err
		}
		if flags.group != "" {
			definition, err := flags.definition(ctx, api, args[0])
			if err != nil {
				return err
			}
			asked.Of = &amporav1.SimulateRolloutRequest_Definition{Definition: definition}
		} else {
			id, err := api.rolloutID(ctx, args[0])
			if err != nil {
				return err
			}
			asked.Of = &amporav1.SimulateRolloutRequest_RolloutId{RolloutId: id}
		}
		answer, err := api.rollouts.SimulateRollout(ctx, asked)
		if err != nil {
			return err
		}
		return p.show(answer, func() view { return simulatedView(answer) })
	})
	flags.flags(cmd)
	model.flags(cmd)
	return cmd
}

func simulatedView(answer *amporav1.SimulateRolloutResponse) view {
	shown := &properties{}
	shown.add("state", word(answer.GetState()))
	shown.add("reason", or(answer.GetReason()))
	shown.add("took", exactly(answer.GetTook().AsDuration().Round(time.Second)))
	shown.add("agents", strconv.Itoa(int(answer.GetPlan().GetAgents())))
	shown.add("touched", strconv.Itoa(int(answer.GetTouched())))
	shown.add("failed", strconv.Itoa(int(answer.GetFailed())))
	t := newTable("WAVE", "OPENED", "ENDED", "AGENTS", "APPLIED", "FAILED", "GONE", "UNHEALTHY", "OVERDUE")
	for _, wave := range answer.GetWaves() {
		counts := wave.GetCounts()
		t.row(number(wave.GetWave()), after(wave.GetOpened()), after(wave.GetEnded()), number(counts.GetAgents()), number(counts.GetApplied()),
			number(counts.GetFailed()), number(counts.GetGone()), number(counts.GetUnhealthy()), number(counts.GetOverdue()))
	}
	return views{shown, line(""), t}
}

// after is a time from the start.
func after(d *durationpb.Duration) string {
	if d == nil {
		return none
	}
	return "+" + exactly(d.AsDuration().Round(time.Second))
}

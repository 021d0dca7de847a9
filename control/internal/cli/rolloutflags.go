// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// strategyFlags say how a rollout parts its agents into waves, and what stops it.
type strategyFlags struct {
	kind  string
	size  int32
	steps string
	dwell time.Duration
	gates []string
	small int32
}

func (f *strategyFlags) flags(cmd *cobra.Command, kind string) {
	flags := cmd.Flags()
	flags.StringVar(&f.kind, "strategy", kind, "`HOW` agents are parted into waves: immediate, batch, percentage or canary")
	flags.Int32Var(&f.size, "size", 0, "`AGENTS` of a batch; by default 5")
	flags.StringVar(&f.steps, "steps", "", "`STEPS` of percentage and canary, with the dwell of each: 5%/5m,25%/10m,100%")
	flags.DurationVar(&f.dwell, "dwell", 0, "how long each wave is at least looked at, where no step says otherwise")
	flags.StringArrayVar(&f.gates, "gate", nil,
		"a `GATE` otherwise than by default: apply-failed, disconnect, mismatch or unhealthy, =off or as in apply-failed=10%,total=off and disconnect=20%,window=2m")
	flags.Int32Var(&f.small, "small-wave", -1, "a wave of fewer `AGENTS` is stopped by one problem; by default 5")
	completeEnum[amporav1.RolloutStrategyKind](cmd, "strategy")
}

func (f *strategyFlags) strategy() (*amporav1.RolloutStrategy, error) {
	kind, err := enumNamed[amporav1.RolloutStrategyKind]("strategy", f.kind)
	if err != nil {
		return nil, err
	}
	steps, err := parseSteps(f.steps)
	return &amporav1.RolloutStrategy{Kind: kind, Size: f.size, Steps: steps, Dwell: orLeftOut(f.dwell)}, err
}

// orLeftOut is a duration in a request; none is left out.
func orLeftOut(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// parseSteps reads 5%/5m,25%/10m,100%.
func parseSteps(text string) (steps []*amporav1.RolloutStep, err error) {
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		share, dwell, timed := strings.Cut(part, "/")
		step := &amporav1.RolloutStep{}
		if step.Percent, err = parsePercent(share); err != nil {
			return nil, usage("--steps %q: %v", text, err)
		}
		if timed {
			d, err := time.ParseDuration(dwell)
			if err != nil {
				return nil, usage("--steps %q: %q is no time such as 5m", text, dwell)
			}
			step.Dwell = durationpb.New(d)
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// parsePercent reads 5%, 2.5% and 5.
func parsePercent(text string) (float64, error) {
	percent, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "%")), 64)
	if err != nil || !(percent >= 0 && percent <= 100) {
		return 0, usage("%q is no share such as 5%%", text)
	}
	return percent, nil
}

// never is a share that nothing is above.
const never = 100.0

// gatesGiven reads the gates; nil if all are as by default.
func (f *strategyFlags) gatesGiven() (*amporav1.RolloutGates, error) {
	if len(f.gates) == 0 && f.small < 0 {
		return nil, nil
	}
	gates := &amporav1.RolloutGates{}
	if f.small >= 0 {
		gates.SmallWave = &f.small
	}
	for _, text := range f.gates {
		name, spec, _ := strings.Cut(text, "=")
		gate, err := parseGate(spec)
		if err != nil {
			return nil, usage("--gate %q: %v", text, err)
		}
		switch name {
		case "apply-failed":
			gates.ApplyFailed = gate
		case "disconnect":
			gates.Disconnect = gate
		case "mismatch":
			gates.Mismatch = gate
		case "unhealthy":
			gates.Unhealthy = gate
		default:
			return nil, usage("--gate %q: the gates are apply-failed, disconnect, mismatch and unhealthy", text)
		}
	}
	return gates, nil
}

// parseGate reads off, 10%, and 10%,total=5%,window=5m.
func parseGate(spec string) (*amporav1.RolloutGate, error) {
	if spec == "off" {
		return &amporav1.RolloutGate{Off: true}, nil
	}
	gate := &amporav1.RolloutGate{}
	for i, part := range strings.Split(spec, ",") {
		key, value, named := strings.Cut(part, "=")
		if i == 0 && !named {
			key, value = "wave", part
		}
		if err := setGate(gate, key, value); err != nil {
			return nil, err
		}
	}
	return gate, nil
}

func setGate(gate *amporav1.RolloutGate, key, value string) error {
	switch key {
	case "wave", "total":
		percent := never
		if value != "off" {
			var err error
			if percent, err = parsePercent(value); err != nil {
				return err
			}
		}
		if key == "wave" {
			gate.Wave = &percent
		} else {
			gate.Total = &percent
		}
		return nil
	case "window":
		d, err := time.ParseDuration(value)
		if err != nil {
			return usage("%q is no time such as 5m", value)
		}
		gate.Window = durationpb.New(d)
		return nil
	default:
		return usage("%q is none of wave, total and window", key)
	}
}

// definitionFlags are what a rollout is made of, beside the version.
type definitionFlags struct {
	strategyFlags
	group, advance, order, spread, late, note string
	seed                                      uint64
	deadline                                  time.Duration
	rollBack                                  bool
}

func (f *definitionFlags) flags(cmd *cobra.Command) {
	f.strategyFlags.flags(cmd, "canary")
	flags := cmd.Flags()
	flags.StringVar(&f.group, "group", "", "the `GROUP` (name or id)")
	flags.StringVar(&f.advance, "advance", "", "`WHO` opens the next wave: automatic (the default) or manual")
	flags.StringVar(&f.order, "order", "", "`WHAT` agents are ordered by: random (the default), host-name or last-seen")
	flags.StringVar(&f.spread, "spread", "", "let the values of this `LABEL` or tag take turns, so that none of them takes a wave alone")
	flags.Uint64Var(&f.seed, "seed", 0, "the same `SEED` gives the same order; by default one is drawn")
	flags.StringVar(&f.late, "late", "", "what becomes of agents that join later: freeze (the default) or join")
	flags.DurationVar(&f.deadline, "deadline", 0, "how long an agent may take to its last word; by default 10m")
	flags.BoolVar(&f.rollBack, "roll-back", false, "roll back by itself when a gate is breached")
	flags.StringVar(&f.note, "note", "", "a `TEXT` for people")
	cmd.MarkFlagsMutuallyExclusive("order", "spread")
	completeEnum[amporav1.RolloutAdvance](cmd, "advance")
	completeEnum[amporav1.RolloutOrderKind](cmd, "order")
	completeEnum[amporav1.RolloutLate](cmd, "late")
}

func completeEnum[E protoreflect.Enum](cmd *cobra.Command, flag string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(enumWords[E](), cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag only
}

// definition is what the flags say of a version.
func (f *definitionFlags) definition(ctx context.Context, api *api, version string) (*amporav1.RolloutDefinition, error) {
	ref, err := parseVersionRef(version)
	if err != nil {
		return nil, err
	}
	definition, err := f.given()
	if err != nil {
		return nil, err
	}
	config, err := api.config(ctx, ref.config)
	if err != nil {
		return nil, err
	}
	definition.ConfigId, definition.Version = config.GetId(), ref.version
	definition.GroupId, err = api.groupID(ctx, f.group)
	return definition, err
}

// given is what can be said without asking anybody.
func (f *definitionFlags) given() (*amporav1.RolloutDefinition, error) {
	definition := &amporav1.RolloutDefinition{Deadline: orLeftOut(f.deadline), RollBack: f.rollBack, Note: f.note}
	var err error
	if definition.Strategy, err = f.strategy(); err != nil {
		return nil, err
	}
	if definition.Gates, err = f.gatesGiven(); err != nil {
		return nil, err
	}
	if definition.Advance, err = enumNamed[amporav1.RolloutAdvance]("advance", f.advance); err != nil {
		return nil, err
	}
	if definition.Late, err = enumNamed[amporav1.RolloutLate]("late", f.late); err != nil {
		return nil, err
	}
	definition.Order = &amporav1.RolloutOrder{Seed: f.seed, Label: f.spread}
	order := f.order
	if f.spread != "" {
		order = cmp.Or(order, "spread")
	}
	definition.Order.Kind, err = enumNamed[amporav1.RolloutOrderKind]("order", order)
	return definition, err
}

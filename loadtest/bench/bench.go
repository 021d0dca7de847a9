// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/loadtest/swarm"
)

// Bench says what is measured, and how long.
type Bench struct {
	// Targets are compared with the first one, by turns.
	Targets []Target
	// Runs is how often each is measured; the medians count.
	Runs int
	// Agents are connected while memory and fan-out are measured, FloodAgents while the
	// CPU of messages is.
	Agents, FloodAgents int
	// FloodTime is how long a flood lasts, IdleTime how long connections are left alone,
	// GCTime how long a runtime has at most to return memory after a collection.
	FloodTime, IdleTime, GCTime time.Duration
	// Pushes is how often a configuration of PushBytes is sent to all in each run.
	Pushes, PushBytes int
	// ApplyDelay is how long agents take to apply it.
	ApplyDelay time.Duration
	// GroupSize is how many agents one rollout is for.
	GroupSize int
	// Env is added to the environment of all targets, the settings of the runtime foremost.
	Env []string
	// Dir is a folder for keys and for the state of targets.
	Dir string
	// Progress is told what is done.
	Progress io.Writer

	known *swarm.Identities
}

// Result is what was measured.
type Result struct {
	Agents      int                  `json:"agents"`
	FloodAgents int                  `json:"flood_agents"`
	Env         []string             `json:"env"`
	Runs        map[string][]Figures `json:"runs"`    // by target
	Medians     map[string]Figures   `json:"medians"` // by target
	// Ratios are each target's medians over those of the first.
	Ratios map[string]Figures `json:"ratios"`
}

func (b Bench) identities() []swarm.Identity { return b.known.List()[:b.Agents] }

func (b Bench) say(format string, args ...any) { fmt.Fprintf(b.Progress, format+"\n", args...) }

// Run measures all targets by turns. The error says what could not be measured.
func (b Bench) Run(ctx context.Context) (*Result, error) {
	if len(b.Targets) == 0 || b.Runs < 1 || b.Agents < 1 || b.FloodAgents < 1 || b.FloodAgents > b.Agents || b.Pushes < 1 || b.GroupSize < 1 {
		return nil, errors.New("there must be a target, a run, an agent, no more for the flood than in all, a push and an agent in a group")
	}
	var err error
	if b.known, err = swarm.OpenIdentities(filepath.Join(b.Dir, "identities")); err != nil {
		return nil, err
	}
	b.Env = append(slices.Clone(b.Env), "BENCH_DIR="+b.Dir)
	fleets := map[string]*fleet{}
	for _, t := range b.Targets {
		fleets[t.Name] = &fleet{bytes: b.PushBytes}
		if err := b.ready(ctx, t, fleets[t.Name]); err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	if len(b.known.List()) < b.Agents {
		return nil, errors.New("no target has an API to enrol agents with")
	}
	result := &Result{Agents: b.Agents, FloodAgents: b.FloodAgents, Env: b.Env[:len(b.Env)-1], Runs: map[string][]Figures{}}
	for number := range b.Runs {
		for _, t := range b.Targets {
			figures := Figures{}
			if err := b.measure(ctx, t, fleets[t.Name], figures); err != nil {
				return nil, fmt.Errorf("%s, run %d: %w", t.Name, number+1, err)
			}
			b.say("run %d of %d, %s: %s", number+1, b.Runs, t.Name, figures)
			result.Runs[t.Name] = append(result.Runs[t.Name], figures)
		}
	}
	result.compare(b.Targets)
	return result, nil
}

// ready enrols the agents with a target that has an API.
func (b Bench) ready(ctx context.Context, t Target, f *fleet) error {
	r, err := t.start(ctx, b.Env)
	if err != nil {
		return err
	}
	if r.API != "" {
		err = b.enrol(ctx, r, f)
	}
	return errors.Join(err, r.stop())
}

// measure takes each measurement on a process that has done nothing else yet.
func (b Bench) measure(ctx context.Context, t Target, f *fleet, into Figures) error {
	for _, take := range []func(*running) error{
		func(r *running) error { return b.flood(ctx, r, into) },
		func(r *running) error { return b.memory(ctx, r, f, into) },
	} {
		r, err := t.start(ctx, b.Env)
		if err != nil {
			return err
		}
		if err := errors.Join(take(r), r.stop()); err != nil {
			return err
		}
	}
	return nil
}

// compare fills in medians and ratios.
func (r *Result) compare(targets []Target) {
	r.Medians, r.Ratios = map[string]Figures{}, map[string]Figures{}
	for _, t := range targets {
		r.Medians[t.Name] = medians(r.Runs[t.Name])
	}
	first := r.Medians[targets[0].Name]
	for _, t := range targets[1:] {
		ratios := Figures{}
		for name, value := range r.Medians[t.Name] {
			if first[name] > 0 {
				ratios[name] = value / first[name]
			}
		}
		r.Ratios[t.Name] = ratios
	}
}

// medians are those of each figure.
func medians(runs []Figures) Figures {
	all := map[string][]float64{}
	for _, run := range runs {
		for name, value := range run {
			all[name] = append(all[name], value)
		}
	}
	middle := Figures{}
	for name, values := range all {
		slices.Sort(values)
		n := len(values)
		middle[name] = (values[(n-1)/2] + values[n/2]) / 2
	}
	return middle
}

// String tells the figures in the order of their names.
func (f Figures) String() string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(f)) {
		text += fmt.Sprintf("%s %.1f, ", name, f[name])
	}
	return text[:max(0, len(text)-2)]
}

// Markdown is a table of medians and ratios, with the least and the most of the runs.
func (r *Result) Markdown(targets []Target) string {
	head, line := "| figure |", "|---|"
	for i, t := range targets {
		head += " " + t.Name + " |"
		line += "---|"
		if i > 0 {
			head += " of " + targets[0].Name + " |"
			line += "---|"
		}
	}
	text := head + "\n" + line + "\n"
	for _, name := range slices.Sorted(maps.Keys(r.Medians[targets[len(targets)-1].Name])) {
		text += "| " + name + " |"
		for i, t := range targets {
			text += " " + r.spread(t.Name, name) + " |"
			if ratio := r.Ratios[t.Name][name]; i > 0 && ratio > 0 {
				text += fmt.Sprintf(" %.2f |", ratio)
			} else if i > 0 {
				text += " |"
			}
		}
		text += "\n"
	}
	return text
}

func (r *Result) spread(target, name string) string {
	least, most := r.Runs[target][0][name], r.Runs[target][0][name]
	for _, run := range r.Runs[target] {
		least, most = min(least, run[name]), max(most, run[name])
	}
	return fmt.Sprintf("%s (%s to %s)", short(r.Medians[target][name]), short(least), short(most))
}

// short is a number with about three digits.
func short(value float64) string {
	if value >= 100 || value <= -100 {
		return fmt.Sprintf("%.0f", value)
	}
	return fmt.Sprintf("%.1f", value)
}

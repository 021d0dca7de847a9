// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/control/internal/calendar"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/instrument"
	"gitlab.com/ampora/ampora/shared/run"
)

// RolloutsDeps is what Rollouts need.
type RolloutsDeps struct {
	Store store.Rollouts
	Log   *slog.Logger
	Meter metric.Meter
	Now   func() time.Time
	// Bell rings when there may be something to do. What is to be done at a time is looked for once a second.
	Bell *run.Bell
}

// Rollouts advances rollouts that are due: it lets agents in, opens waves, and stops where a gate says so. Agents that it
// let in are the Engine's.
type Rollouts struct {
	d        RolloutsDeps
	steps    instrument.Counter
	breaches instrument.Counter
	took     instrument.Histogram
}

// NewRollouts returns Rollouts; Run does the work.
func NewRollouts(d RolloutsDeps) (*Rollouts, error) {
	made := instrument.On(d.Meter)
	r := &Rollouts{
		d: d,
		steps: made.Counter("ampora_control_rollout_steps", "{step}",
			"Steps of rollouts by what they did: let agents in, changed where the rollout stands, closed what was granted, or nothing.",
			instrument.By("did", "nothing", "admitted", "changed", "closed", "failed")),
		breaches: made.Counter("ampora_control_rollout_breaches", "{breach}", "How often a gate stopped a rollout."),
		took: made.Histogram("ampora_control_rollout_step_duration", "s", "Time to read what is known of a rollout, decide and write.",
			instrument.Seconds),
	}
	if err := made.Err(); err != nil {
		return nil, fmt.Errorf("rollouts: %w", err)
	}
	return r, nil
}

// Run advances until ctx is done.
func (r *Rollouts) Run(ctx context.Context) error {
	pace := run.Pace{Idle: time.Second, Failed: time.Second, Bell: r.d.Bell}
	return run.Loop(ctx, pace, r.Turn, func(err error) { r.d.Log.WarnContext(ctx, "rollouts stopped for a moment", "error", err) })
}

// rolloutLimit is how many rollouts are advanced in one turn, each in a transaction of its own.
const rolloutLimit = 100

// Turn advances rollouts that are due and says how many that were. One that cannot be advanced holds up no other.
func (r *Rollouts) Turn(ctx context.Context) (int, error) {
	steps := map[fleet.RolloutID]decided{}
	began := r.d.Now()
	n, err := r.d.Store.AdvanceRollouts(ctx, began, rolloutLimit, store.Deciding{
		Elapse: rollout.Elapse,
		Decide: func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
			s.Calendar = calendar.At(s.Schedules, now)
			step := rollout.Decide(s, now)
			steps[s.Rollout.ID] = decided{s.Rollout, step} // the last word, if it is decided anew
			return step
		},
	})
	if n > 0 {
		r.took.Took(ctx, r.d.Now().Sub(began)/time.Duration(n))
	}
	for _, d := range steps {
		if err == nil || r.wasDone(ctx, d) {
			r.tell(ctx, d)
		}
	}
	if err != nil {
		r.steps.Add(ctx, int64(max(1, len(steps)-n)), "failed")
		return n, fmt.Errorf("advance rollouts: %w", err)
	}
	return n, nil
}

// decided is a rollout as it was, and what was decided for it.
type decided struct {
	of   fleet.Rollout
	step fleet.RolloutStep
}

// wasDone asks, of a step that changes where the rollout stands, whether it was not the one that failed.
func (r *Rollouts) wasDone(ctx context.Context, d decided) bool {
	if d.step.Rollout == nil {
		return false
	}
	is, err := r.d.Store.Rollout(ctx, d.of.Tenant, d.of.ID)
	return err == nil && is.Version > d.of.Version && is.State == d.step.Rollout.State
}

func (r *Rollouts) tell(ctx context.Context, d decided) {
	r.steps.Add(ctx, 1, d.did())
	is := d.step.Rollout
	if is == nil || is.State == d.of.State {
		return
	}
	level := slog.LevelInfo
	if is.State == fleet.RolloutPaused { // by itself: nobody else decides here
		level = slog.LevelWarn
		r.breaches.Add(ctx, 1)
	}
	r.d.Log.Log(ctx, level, "a rollout changed its state", "state", is.State, "tenant", d.of.Tenant, "rollout", d.of.ID, "group", d.of.Definition.GroupName,
		"config", d.of.Definition.ConfigName, "version", d.of.Definition.Version, "wave", is.Wave, "reason", is.Reason)
}

func (d decided) did() string {
	switch {
	case d.step.Close:
		return "closed"
	case len(d.step.Admit) > 0:
		return "admitted"
	case d.step.Rollout != nil:
		return "changed"
	default:
		return "nothing"
	}
}

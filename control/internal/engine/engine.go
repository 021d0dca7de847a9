// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package engine advances: it takes agents that are due, reads what is known of them, lets package rollout decide, and
// applies the step with guarded writes in one short transaction.
//
// Any number of engines may run. One that dies between two transactions leaves an item that falls due again; one that
// decided on what has changed meanwhile loses the guarded write and the item is decided anew.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/instrument"
	"gitlab.com/ampora/ampora/shared/run"
)

var pace = run.Pace{Idle: 200 * time.Millisecond, Failed: time.Second}

const (
	// claimLife is how long a claimed item is hidden from others: the life of a crashed engine's claim.
	claimLife  = 15 * time.Second
	claimLimit = 100
)

// Deps is what an Engine needs.
type Deps struct {
	Store  store.Work
	Log    *slog.Logger
	Meter  metric.Meter
	Tracer trace.Tracer
	Now    func() time.Time
}

// Engine advances agents towards what is assigned to them.
type Engine struct {
	d     Deps
	steps instrument.Counter
	took  instrument.Histogram
}

// New returns an Engine; Run does the work.
func New(d Deps) (*Engine, error) {
	made := instrument.On(d.Meter)
	e := &Engine{
		d: d,
		steps: made.Counter("ampora_control_engine_steps", "{step}",
			"Steps decided for agents by what became of them: a conflict is decided anew, gone is the agent.",
			instrument.By("outcome", "applied", "conflict", "gone", "failed")),
		took: made.Histogram("ampora_control_engine_step_duration", "s", "Time to read what is known, decide and write, for what is stepped at once.", instrument.Seconds),
	}
	if err := made.Err(); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	return e, nil
}

// Run advances until ctx is done.
func (e *Engine) Run(ctx context.Context) error {
	return run.Loop(ctx, pace, e.Turn, func(err error) { e.d.Log.WarnContext(ctx, "engine stopped for a moment", "error", err) })
}

// Turn advances what is due now and says how many items that were.
func (e *Engine) Turn(ctx context.Context) (int, error) {
	now := e.d.Now()
	items, err := e.d.Store.ClaimWork(ctx, now, now.Add(claimLife), claimLimit)
	if err != nil {
		return 0, fmt.Errorf("claim work: %w", err)
	}
	for _, item := range items {
		outcome, err := e.advance(ctx, item)
		e.steps.Add(ctx, 1, outcome)
		if errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
			return len(items), err
		}
		if err != nil {
			// Its claim runs out and it is tried again; the others must not wait for it.
			e.d.Log.ErrorContext(ctx, "engine could not advance an agent", "tenant", item.Tenant, "agent", item.Agent, "error", err)
		}
	}
	return len(items), nil
}

// advance takes one step for one agent.
func (e *Engine) advance(ctx context.Context, item store.WorkItem) (outcome string, err error) {
	began := e.d.Now()
	defer func() { e.took.Took(ctx, e.d.Now().Sub(began)) }()
	ctx, span := e.begin(ctx, &item)
	var step fleet.Step
	defer func() { end(span, outcome, step) }()
	s, err := e.d.Store.Situation(ctx, item)
	if errors.Is(err, store.ErrNotFound) {
		return "gone", nil
	}
	if err != nil {
		return "failed", fmt.Errorf("situation: %w", err)
	}
	now := e.d.Now()
	step = rollout.Decide(s, now)
	err = e.d.Store.Apply(ctx, item, s, step, now)
	if errors.Is(err, store.ErrConflict) {
		return "conflict", nil
	}
	if err != nil {
		return "failed", fmt.Errorf("apply: %w", err)
	}
	return "applied", nil
}

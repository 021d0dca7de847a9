// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package engine advances: it takes agents that are due, reads what is known of them, lets package delivery decide for
// each, and applies the steps with guarded writes, up to a thousand in one short transaction. Likewise it takes rollouts
// that are due, one at a time, and package rollout decides for them.
//
// Any number of engines may run. One that dies between two transactions leaves items that fall due again; of what it
// decided on, whatever has changed meanwhile (an item woken or claimed by another, a grant, a remark) loses its guarded
// write and is decided anew. A step that cannot be done holds up no other.
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"gitlab.com/ampora/ampora/control/internal/delivery"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/instrument"
	"gitlab.com/ampora/ampora/shared/run"
)

const (
	// claimLife is how long a claimed item is hidden from others: the life of a crashed engine's claim.
	claimLife = 15 * time.Second
	// claimLimit is how many items are claimed, and their steps applied, at once. While one lot is applied the next is
	// claimed and decided, and the offers of the one before are on their way.
	claimLimit = 1000
	parallel   = 2
)

// Deps is what an Engine needs.
type Deps struct {
	Store  store.Work
	Log    *slog.Logger
	Meter  metric.Meter
	Tracer trace.Tracer
	Now    func() time.Time
	// Bell rings when there may be something to do; nil: it looks once a second.
	Bell *run.Bell
	// Render makes offers of the templates that agents of one tenant are assigned, and says why of those of which there is
	// none; what it returns is stored. Nil: there are no templates.
	Render func(ctx context.Context, tenant fleet.TenantID, assigned []fleet.Situation) (
		offers map[fleet.AgentID]fleet.VersionRef, refused map[fleet.AgentID]string, err error)
	// Way is held while what agents are to be sent is decided and written; nil: nobody makes way.
	Way *run.Way
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
	pace := run.Pace{Idle: time.Second, Failed: time.Second, Bell: e.d.Bell}
	return run.Loop(ctx, pace, e.Turn, func(err error) { e.d.Log.WarnContext(ctx, "engine stopped for a moment", "error", err) })
}

// Turn advances what is due and says how many items that were. A whole lot is the sign of a crowd, which is advanced by
// several at once until there is no whole lot any more.
func (e *Engine) Turn(ctx context.Context) (int, error) {
	items, err := e.claim(ctx)
	switch {
	case err != nil:
		return 0, err
	case len(items) < claimLimit:
		return len(items), e.advanceLot(ctx, items)
	}
	var done atomic.Int64
	// advance goes on from a lot, an empty one if it has none yet.
	advance := func(lot []store.WorkItem) func(context.Context) error {
		return func(ctx context.Context) (err error) {
			for whole := true; whole; whole = len(lot) == claimLimit {
				if err = e.advanceLot(ctx, lot); err != nil {
					return err
				}
				done.Add(int64(len(lot)))
				if lot, err = e.claim(ctx); err != nil {
					return err
				}
			}
			done.Add(int64(len(lot)))
			return e.advanceLot(ctx, lot)
		}
	}
	tasks := slices.Repeat([]run.Task{{Name: "advance", Run: advance(nil)}}, parallel)
	tasks[0].Run = advance(items)
	err = run.All(ctx, tasks...)
	if panicked, is := errors.AsType[*run.PanicError](err); is {
		panic(panicked) // it ends the process here, too
	}
	return int(done.Load()), err
}

// advanceLot advances what was claimed, tenant by tenant.
func (e *Engine) advanceLot(ctx context.Context, lot []store.WorkItem) error {
	for _, chunk := range byTenant(lot) {
		if err := e.advance(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) claim(ctx context.Context) ([]store.WorkItem, error) {
	now := e.d.Now()
	items, err := e.d.Store.ClaimWork(ctx, now, now.Add(claimLife), claimLimit)
	if err != nil {
		return nil, fmt.Errorf("claim work: %w", err)
	}
	return items, nil
}

// byTenant parts items into lists of one tenant each.
func byTenant(items []store.WorkItem) (parted [][]store.WorkItem) {
	slices.SortStableFunc(items, func(a, b store.WorkItem) int { return strings.Compare(string(a.Tenant), string(b.Tenant)) })
	for len(items) > 0 {
		n := 1
		for n < len(items) && items[n].Tenant == items[0].Tenant {
			n++
		}
		parted = append(parted, items[:n])
		items = items[n:]
	}
	return parted
}

// advance takes a step for each item's agent. If the database refuses the lot as such, the lot is halved until what it
// refuses is alone: it is tried again when its claim has run out, and the others do not wait for it. The error is of a
// database that is away.
func (e *Engine) advance(ctx context.Context, items []store.WorkItem) error {
	err := e.step(ctx, items)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil, errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrUnknown):
		return err
	case len(items) == 1:
		e.failed(ctx, items[0], err)
		return nil
	}
	half := len(items) / 2
	if err := e.advance(ctx, items[:half]); err != nil {
		return err
	}
	return e.advance(ctx, items[half:])
}

// step decides for the items' agents, which are of one tenant, and applies what was decided.
func (e *Engine) step(ctx context.Context, items []store.WorkItem) (err error) {
	began := e.d.Now()
	defer func() { e.took.Took(ctx, e.d.Now().Sub(began)) }()
	spans := e.begin(ctx, items)
	defer func() { spans.end(err) }()
	tenant := items[0].Tenant
	agents := make([]fleet.AgentID, len(items))
	for i, item := range items {
		agents[i] = item.Agent
	}
	situations, err := e.situations(ctx, tenant, agents)
	if err != nil {
		return err
	}
	now := e.d.Now()
	decided := make([]store.Decision, 0, len(items))
	for i, s := range situations {
		if s.Agent == "" {
			spans.outcome(items[i], "gone")
			continue
		}
		s.Push = items[i].Push
		decided = append(decided, store.Decision{Item: items[i], On: s, Step: delivery.Decide(s, now)})
	}
	defer e.d.Way.Hold(sends(decided))()
	outcomes, err := e.d.Store.Apply(ctx, tenant, decided, now)
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	e.count(ctx, "gone", len(items)-len(decided))
	e.tell(ctx, decided, outcomes, spans)
	return nil
}

// situations reads what there is to know of agents. Where a template is assigned it is rendered, and of these agents it is
// read once more what there is to know, with that in its place.
func (e *Engine) situations(ctx context.Context, tenant fleet.TenantID, agents []fleet.AgentID) ([]fleet.Situation, error) {
	all, err := e.d.Store.Situations(ctx, tenant, agents, nil)
	if err != nil {
		return nil, fmt.Errorf("situations: %w", err)
	}
	var templated []fleet.Situation
	var again []fleet.AgentID
	var at []int // where they stand
	for i, s := range all {
		if s.Assigned != nil && s.Assigned.Templated {
			templated, again, at = append(templated, s), append(again, s.Agent), append(at, i)
		}
	}
	if len(templated) == 0 {
		return all, nil
	}
	offers, refused, err := e.d.Render(ctx, tenant, templated)
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	rendered, err := e.d.Store.Situations(ctx, tenant, again, offers)
	if err != nil {
		return nil, fmt.Errorf("situations: %w", err)
	}
	for i, s := range rendered {
		if s.Assigned != nil && s.Assigned.Templated {
			// What was assigned in the meantime is rendered when the engine wakes for it.
			s.Unrendered = cmp.Or(refused[s.Agent], "it is to be rendered yet")
		}
		all[at[i]] = s
	}
	return all, nil
}

// sends counts the agents that are to be sent something.
func sends(decided []store.Decision) (n int) {
	for _, d := range decided {
		if d.Step.Send {
			n++
		}
	}
	return n
}

// tell counts what became of the steps, and complains of those that nobody should have decided.
func (e *Engine) tell(ctx context.Context, decided []store.Decision, outcomes []error, spans spans) {
	applied, conflicts := 0, 0
	for i, err := range outcomes {
		switch {
		case err == nil:
			applied++
			spans.tell(decided[i], "applied")
		case errors.Is(err, store.ErrConflict):
			conflicts++
			spans.tell(decided[i], "conflict")
		default:
			spans.tell(decided[i], "failed")
			e.failed(ctx, decided[i].Item, err)
		}
	}
	e.count(ctx, "applied", applied)
	e.count(ctx, "conflict", conflicts)
}

func (e *Engine) failed(ctx context.Context, item store.WorkItem, err error) {
	e.count(ctx, "failed", 1)
	e.d.Log.ErrorContext(ctx, "engine could not advance an agent", "tenant", item.Tenant, "agent", item.Agent, "error", err)
}

func (e *Engine) count(ctx context.Context, outcome string, n int) {
	if n > 0 {
		e.steps.Add(ctx, int64(n), outcome)
	}
}

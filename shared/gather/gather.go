// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package gather turns many small calls into few large ones: callers that arrive
// within a moment of each other share one call.
//
// Each caller gets the result of its own input; one that left before the call is left
// out of it. The queue is bounded: a caller that
// finds it full is told so at once instead of waiting.
package gather

import (
	"context"
	"errors"
	"slices"
	"time"
)

// ErrFull says that too many inputs wait.
var ErrFull = errors.New("too many calls wait")

// Gatherer collects inputs of one kind.
type Gatherer[In, Out any] struct {
	call  func(context.Context, []In) ([]Out, error)
	queue chan item[In, Out]
	slots chan struct{}
	bound Bound
}

// Bound limits a gatherer.
type Bound struct {
	Waiting  int           // inputs that may wait
	Size     int           // inputs of one call
	Parallel int           // calls at a time
	Moment   time.Duration // how long the first input of a call waits for others
	Timeout  time.Duration // of one call
}

type item[In, Out any] struct {
	in     In
	gone   <-chan struct{} // nobody waits any more
	answer chan answer[Out]
}

func (i item[In, Out]) left() bool {
	select {
	case <-i.gone:
		return true
	default:
		return false
	}
}

type answer[Out any] struct {
	out Out
	err error
}

// New makes a gatherer of the call, which answers one result for each input, in order.
func New[In, Out any](bound Bound, call func(context.Context, []In) ([]Out, error)) *Gatherer[In, Out] {
	return &Gatherer[In, Out]{
		call: call, bound: bound,
		queue: make(chan item[In, Out], bound.Waiting),
		slots: make(chan struct{}, bound.Parallel),
	}
}

// Do adds an input to the next call and returns its result.
func (g *Gatherer[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	var none Out
	mine := item[In, Out]{in: in, gone: ctx.Done(), answer: make(chan answer[Out], 1)}
	select {
	case g.queue <- mine:
	default:
		return none, ErrFull
	}
	select {
	case a := <-mine.answer:
		return a.out, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// Run makes the calls until the context ends, and returns when the last has
// returned. Inputs that wait then are never answered: their callers' contexts end
// them.
func (g *Gatherer[In, Out]) Run(ctx context.Context) error {
	defer g.fill()
	for {
		select {
		case <-ctx.Done():
			return nil
		case first := <-g.queue:
			items := g.collect(ctx, first)
			g.slots <- struct{}{}
			go func() {
				defer func() { <-g.slots }()
				g.answer(ctx, items)
			}()
		}
	}
}

// fill waits for the calls under way.
func (g *Gatherer[In, Out]) fill() {
	for range cap(g.slots) {
		g.slots <- struct{}{}
	}
	for range cap(g.slots) {
		<-g.slots
	}
}

func (g *Gatherer[In, Out]) collect(ctx context.Context, first item[In, Out]) []item[In, Out] {
	items := []item[In, Out]{first}
	moment := time.NewTimer(g.bound.Moment)
	defer moment.Stop()
	for len(items) < g.bound.Size {
		select {
		case next := <-g.queue:
			items = append(items, next)
		case <-moment.C:
			return items
		case <-ctx.Done():
			return items
		}
	}
	return items
}

var errShort = errors.New("the call answered fewer results than it had inputs")

func (g *Gatherer[In, Out]) answer(ctx context.Context, items []item[In, Out]) {
	items = slices.DeleteFunc(items, item[In, Out].left)
	if len(items) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, g.bound.Timeout)
	defer cancel()
	ins := make([]In, len(items))
	for i := range items {
		ins[i] = items[i].in
	}
	outs, err := g.call(ctx, ins)
	if err == nil && len(outs) != len(ins) {
		err = errShort
	}
	for i := range items {
		if err != nil {
			items[i].answer <- answer[Out]{err: err}
			continue
		}
		items[i].answer <- answer[Out]{out: outs[i]}
	}
}

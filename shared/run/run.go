// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package run keeps the goroutines of a program together.
//
// Its guarantees: no task outlives the call that runs it; the first failure stops
// all; a panic in a task is a failure like any other, with its stack, and leaves
// the others the time to stop; what comes back names the tasks that failed. It
// bounds no waiting: a task that ignores its context holds up the end, so bound
// what a task does after its context is done inside the task.
package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// Task is a named part of a program. Run blocks until the part is done or its
// context is. Returning nil ends this task alone. Returning an error ends all,
// unless it is context.Canceled from a task whose context is done.
type Task struct {
	Name string
	Run  func(ctx context.Context) error
}

// PanicError is what became of a panic in a task.
type PanicError struct {
	Value any    // what panic was called with
	Stack []byte // of the goroutine, as by debug.Stack
}

// Error is the panic's value and the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// Unwrap returns the value of the panic where that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// All runs the tasks until each has returned. When one fails or ctx is done, the
// context of all ends. It returns the failures in the order in which they
// happened, joined, each with its task's name; the end of ctx is not a failure.
func All(ctx context.Context, tasks ...Task) error { return Phases(ctx, tasks) }

// Phases runs the tasks of all phases at once and stops them in order: when ctx is
// done or a task of any phase failed, the context of the first phase ends; when
// all its tasks have returned, that of the second; and so on. So intake stops
// before what drains it, and that before its sinks. The contexts carry the values
// of ctx, but only the first phase sees it end. It returns as [All] does.
func Phases(ctx context.Context, phases ...[]Task) error {
	stopping, stop := context.WithCancel(ctx)
	defer stop()
	g := &group{fail: stop}
	running := make([]*phase, len(phases))
	for i, tasks := range phases {
		running[i] = g.start(context.WithoutCancel(ctx), tasks)
	}
	go func() { // nothing is left to stop
		g.tasks.Wait()
		stop()
	}()
	<-stopping.Done()
	for _, p := range running {
		p.stop()
		p.tasks.Wait()
	}
	return errors.Join(g.failures...)
}

type group struct {
	fail  func()
	tasks sync.WaitGroup

	mu       sync.Mutex
	failures []error
}

type phase struct {
	stop  context.CancelFunc
	tasks sync.WaitGroup
}

func (g *group) start(ctx context.Context, tasks []Task) *phase {
	ctx, stop := context.WithCancel(ctx)
	p := &phase{stop: stop}
	for _, task := range tasks {
		g.tasks.Add(1)
		p.tasks.Go(func() {
			defer g.tasks.Done()
			g.record(ctx, task.Name, protect(ctx, task.Run))
		})
	}
	return p
}

// record keeps a failure. A task that was told to stop and says so has not failed.
func (g *group) record(ctx context.Context, name string, err error) {
	if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return
	}
	g.mu.Lock()
	g.failures = append(g.failures, fmt.Errorf("%s: %w", name, err))
	g.mu.Unlock()
	g.fail()
}

func protect(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Value: value, Stack: debug.Stack()}
		}
	}()
	return run(ctx)
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package run_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gitlab.com/ampora/ampora/shared/run"
)

// untilStopped returns a task that takes a while to stop and notes when it did.
func untilStopped(name string, takes time.Duration, note func(string)) run.Task {
	return run.Task{Name: name, Run: func(ctx context.Context) error {
		<-ctx.Done()
		note(name + " stopping")
		time.Sleep(takes) // of the bubble's clock
		note(name + " stopped")
		return ctx.Err()
	}}
}

type notes struct {
	mu   sync.Mutex
	list []string
}

func (n *notes) note(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, text)
}

func (n *notes) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(n.list, want) {
		t.Errorf("it happened %q, want %q", n.list, want)
	}
}

func TestTheFirstFailureStopsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notes
		started := time.Now()
		err := run.All(t.Context(),
			untilStopped("slow", time.Minute, n.note),
			run.Task{Name: "finishes", Run: func(context.Context) error { return nil }},
			run.Task{Name: "reader", Run: func(context.Context) error {
				time.Sleep(time.Second)
				return io.ErrUnexpectedEOF
			}},
		)
		if !errors.Is(err, io.ErrUnexpectedEOF) || err.Error() != "reader: unexpected EOF" {
			t.Errorf("All = %v, want the reader's error with its name alone", err)
		}
		if waited := time.Since(started); waited != time.Second+time.Minute {
			t.Errorf("All returned after %v: it did not wait for all", waited)
		}
		n.want(t, "slow stopping", "slow stopped")
	})
}

func TestTheEndOfTheContextIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, parent := range map[string]func() (context.Context, context.CancelFunc){
			"deadline": func() (context.Context, context.CancelFunc) { return context.WithTimeout(t.Context(), time.Second) },
			"canceled": func() (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				return ctx, cancel
			},
		} {
			var n notes
			ctx, cancel := parent()
			if err := run.All(ctx, untilStopped("task", 0, n.note)); err != nil {
				t.Errorf("%s: All = %v, want nil", name, err)
			}
			cancel()
			n.want(t, "task stopping", "task stopped")
		}
	})
}

func TestFailuresWhileStoppingAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := run.All(t.Context(),
			run.Task{Name: "first", Run: func(context.Context) error { return io.EOF }},
			run.Task{Name: "second", Run: func(ctx context.Context) error {
				<-ctx.Done()
				return io.ErrClosedPipe
			}},
		)
		if err == nil || err.Error() != "first: EOF\nsecond: io: read/write on closed pipe" {
			t.Errorf("All = %v", err)
		}
	})
}

// A context error of the task's own making is a failure: nobody told it to stop.
func TestContextErrorsOfOthersAreFailures(t *testing.T) {
	err := run.All(t.Context(), run.Task{Name: "query", Run: func(context.Context) error { return context.Canceled }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("All = %v, want the task's error", err)
	}
}

func TestAPanicIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n notes
		err := run.All(t.Context(),
			untilStopped("other", time.Second, n.note),
			run.Task{Name: "bad", Run: func(context.Context) error { panic(io.ErrNoProgress) }},
		)
		var panicked *run.PanicError
		if !errors.As(err, &panicked) || !errors.Is(err, io.ErrNoProgress) {
			t.Fatalf("All = %v, want a PanicError", err)
		}
		if text := err.Error(); !strings.HasPrefix(text, "bad: panic: ") || !strings.Contains(text, "run_test.go") {
			t.Errorf("the error has no name or no stack: %s", text)
		}
		n.want(t, "other stopping", "other stopped")
	})
}

func TestPhasesStopInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, failing := range map[string]int{"context": -1, "intake": 0, "drain": 1, "sink": 2} {
			var n notes
			ctx, cancel := context.WithCancel(t.Context())
			phases := [][]run.Task{
				{untilStopped("intake", 3*time.Second, n.note)},
				{untilStopped("drain", 2*time.Second, n.note)},
				{untilStopped("sink", time.Second, n.note)},
			}
			if failing < 0 {
				time.AfterFunc(time.Minute, cancel)
			} else {
				phases[failing] = append(phases[failing], run.Task{Name: "bad", Run: func(context.Context) error {
					time.Sleep(time.Minute)
					return io.EOF
				}})
			}
			err := run.Phases(ctx, phases...)
			if failing < 0 && err != nil || failing >= 0 && !errors.Is(err, io.EOF) {
				t.Errorf("%s: Phases = %v", name, err)
			}
			n.want(t, "intake stopping", "intake stopped", "drain stopping", "drain stopped", "sink stopping", "sink stopped")
			cancel()
		}
	})
}

func TestPhasesEndWithTheirTasks(t *testing.T) {
	finishes := []run.Task{{Name: "finishes", Run: func(context.Context) error { return nil }}}
	if err := run.Phases(t.Context(), finishes, nil, finishes); err != nil {
		t.Errorf("Phases = %v", err)
	}
	if err := run.All(t.Context()); err != nil {
		t.Errorf("All without tasks = %v", err)
	}
}

func TestTasksSeeTheValuesOfTheContext(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	err := run.All(ctx, run.Task{Name: "task", Run: func(ctx context.Context) error {
		if ctx.Value(key{}) != "value" {
			return errors.New("the value is missing")
		}
		return nil
	}})
	if err != nil {
		t.Error(err)
	}
}

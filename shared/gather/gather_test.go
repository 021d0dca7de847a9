// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gather_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gitlab.com/ampora/ampora/shared/gather"
)

var bound = gather.Bound{Waiting: 100, Size: 10, Parallel: 2, Moment: 5 * time.Millisecond, Timeout: time.Second}

func double(calls *atomic.Int64) func(context.Context, []int) ([]int, error) {
	return func(_ context.Context, in []int) ([]int, error) {
		calls.Add(1)
		out := make([]int, len(in))
		for i := range in {
			out[i] = 2 * in[i]
		}
		return out, nil
	}
}

func TestCallersShareCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int64
		g := gather.New(bound, double(&calls))
		var running sync.WaitGroup
		running.Go(func() { _ = g.Run(ctx) })
		var callers sync.WaitGroup
		for i := range 25 {
			callers.Go(func() {
				if out, err := g.Do(ctx, i); err != nil || out != 2*i {
					t.Errorf("%d gives %d, %v", i, out, err)
				}
			})
		}
		callers.Wait()
		if n := calls.Load(); n != 3 {
			t.Errorf("25 inputs took %d calls", n)
		}
		cancel()
		running.Wait()
	})
}

func TestFailures(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		call func(context.Context, []int) ([]int, error)
		want func(error) bool
	}{
		"an error is everybody's": {func(context.Context, []int) ([]int, error) { return nil, broken }, func(err error) bool { return errors.Is(err, broken) }},
		"too few answers":         {func(context.Context, []int) ([]int, error) { return nil, nil }, func(err error) bool { return err != nil }},
		"too slow": {func(ctx context.Context, _ []int) ([]int, error) { <-ctx.Done(); return nil, ctx.Err() }, func(err error) bool {
			return errors.Is(err, context.DeadlineExceeded)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				g := gather.New(bound, test.call)
				go func() { _ = g.Run(ctx) }()
				if _, err := g.Do(ctx, 1); !test.want(err) {
					t.Errorf("the error is %v", err)
				}
			})
		})
	}
}

// What nobody waits for any more is not called for: a claim would take a session that
// nobody holds.
func TestCallersThatLeftAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var called []int
		g := gather.New(bound, func(_ context.Context, in []int) ([]int, error) {
			called = append(called, in...)
			return in, nil
		})
		impatient, leave := context.WithCancel(ctx)
		leave()
		for i := range 2 {
			if _, err := g.Do(impatient, i); !errors.Is(err, context.Canceled) {
				t.Errorf("%d gives %v", i, err)
			}
		}
		go func() { _ = g.Run(ctx) }()
		if out, err := g.Do(ctx, 2); err != nil || out != 2 {
			t.Errorf("the last gives %d, %v", out, err)
		}
		if len(called) != 1 || called[0] != 2 {
			t.Errorf("the inputs called for are %v", called)
		}
	})
}

func TestFullQueueIsSaidAtOnce(t *testing.T) {
	var calls atomic.Int64
	g := gather.New(gather.Bound{Waiting: 1, Size: 1, Parallel: 1}, double(&calls)) // not running
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Do(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("the first gives %v", err)
	}
	if _, err := g.Do(ctx, 2); !errors.Is(err, gather.ErrFull) {
		t.Errorf("the second gives %v", err)
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package replica

import (
	"context"
	"errors"
	"time"

	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/run"
)

// dutyRetry is how long a duty rests at most after it failed.
const dutyRetry = time.Minute

// Duty is a task that does something every so often, on one of the living replicas at a time: the others wait until its
// holder has left or died. The context that do gets ends with the lease. A new holder begins at once, whenever it was
// last done; a failure is logged, and tried again within a minute.
func (r *Replica) Duty(name string, every time.Duration, do func(ctx context.Context) error) run.Task {
	turn := func(ctx context.Context) (int, error) { return r.turn(ctx, name, do) }
	failed := func(err error) { r.d.Log.Warn("a duty of this replica failed", "duty", name, "error", err) }
	return run.Task{Name: name, Run: func(ctx context.Context) error {
		return run.Loop(ctx, run.Pace{Idle: every, Failed: min(every, dutyRetry)}, turn, failed)
	}}
}

// turn does the duty once, or waits for the replicas to change and has found something to do: to look again.
func (r *Replica) turn(ctx context.Context, name string, do func(context.Context) error) (int, error) {
	changed := r.Changed()
	held, cancel := r.Holding(ctx)
	defer cancel()
	err := r.acquire(held, name)
	switch {
	case errors.Is(err, store.ErrLeaseLost):
		select {
		case <-changed:
		case <-ctx.Done():
		}
		return 1, nil
	case err != nil:
		return 0, err
	default:
		return 0, do(held)
	}
}

func (r *Replica) acquire(ctx context.Context, duty string) error {
	if !r.Holds() {
		return store.ErrLeaseLost
	}
	return r.d.Store.AcquireDuty(ctx, duty, r.d.ID, r.Clock()) //nolint:wrapcheck // says what it is about
}

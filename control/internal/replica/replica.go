// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package replica keeps this process's lease as a replica of the control plane, and knows which others live.
//
// What a replica does alone, such as reading a partition or a duty, it does while it holds its lease, which is renewed
// for all of it at once. Two never hold at one time what one may: a replica counts its lease from before it asked for it,
// by a clock that nobody sets, and stands still when it could not be renewed in time; the others take over later, when
// the lease has run out by the database's clock. What is done by a replica that does not know yet that it stands still
// must be fenced besides, as partitions are by their epoch.
package replica

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/run"
)

// Timing. A lease outlasts two renewals that fail, however long the database takes to fail them.
const (
	leaseLife = 15 * time.Second
	renewal   = 5 * time.Second
	patience  = 3 * time.Second // with a call of the database
	retry     = time.Second
)

// Deps is what a Replica needs.
type Deps struct {
	Store store.Replicas
	// ID names this process, unlike any other before or beside it.
	ID      string
	Version string
	Log     *slog.Logger
	Now     func() time.Time
}

// Replica is this process among the replicas. Safe for concurrent use.
type Replica struct {
	d Deps

	mu sync.Mutex
	// until is the end of the lease by the process's clock; zero before the first and after the last.
	until  time.Time
	living []string
	// started, clock and read: the database's clock when the first lease began, when it was last asked, and the process's
	// clock then.
	started, clock, read time.Time
	changed              chan struct{}
	lapse                *time.Timer
	failing              bool
}

// New returns a Replica that holds nothing until Run has taken its lease.
func New(d Deps) *Replica { return &Replica{d: d, changed: make(chan struct{})} }

// ID names this process as a holder.
func (r *Replica) ID() string { return r.d.ID }

// Holds reports whether this process has its lease.
func (r *Replica) Holds() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.d.Now().Before(r.until)
}

// Living returns the ids of the replicas that live, in ascending order, this one among them: as of the last renewal, for
// as long as Holds. The caller must not change it.
func (r *Replica) Living() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.living
}

// Changed returns a channel that is closed when Holds or Living next change, or may have. Ask for it before looking.
func (r *Replica) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Clock returns the time by the database's clock, which leases are measured by: as of the last renewal and what has
// passed since, so never later than it is, whatever becomes of the host's clock meanwhile. Before the database was asked
// for the first time it is the host's.
func (r *Replica) Clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read.IsZero() {
		return r.d.Now()
	}
	return r.clock.Add(r.d.Now().Sub(r.read))
}

// Holding returns a context that ends with ctx, or when the lease does. The caller must call cancel.
func (r *Replica) Holding(ctx context.Context) (held context.Context, cancel context.CancelFunc) {
	held, cancel = context.WithCancel(ctx)
	go func() {
		defer cancel()
		for {
			changed := r.Changed()
			if !r.Holds() {
				return
			}
			select {
			case <-changed:
			case <-held.Done():
				return
			}
		}
	}()
	return held, cancel
}

// Run takes the lease and renews it until ctx is done; then it gives it back. What is held by the lease must have
// stopped before.
func (r *Replica) Run(ctx context.Context) error {
	defer r.leave(context.WithoutCancel(ctx))
	return run.Loop(ctx, run.Pace{Idle: renewal, Failed: retry}, r.renew, func(err error) { r.failed(ctx, err) })
}

func (r *Replica) renew(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := r.d.Now()
	clock, err := r.d.Store.Clock(ctx)
	if err != nil {
		return 0, fmt.Errorf("the database's clock: %w", err)
	}
	read := r.d.Now()
	living, err := r.d.Store.RenewReplica(ctx, fleet.Replica{
		ID: r.d.ID, Version: r.d.Version, StartedAt: r.since(clock), LeaseUntil: clock.Add(leaseLife),
	}, clock)
	if err != nil {
		return 0, fmt.Errorf("renew: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock, r.read = clock, read
	r.hold(ctx, began.Add(leaseLife), living)
	return 0, nil
}

func (r *Replica) since(clock time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started.IsZero() {
		r.started = clock
	}
	return r.started
}

// hold notes a lease that was renewed, under the lock.
func (r *Replica) hold(ctx context.Context, until time.Time, living []string) {
	now := r.d.Now()
	held := now.Before(r.until)
	r.until = until
	if r.lapse == nil {
		r.lapse = time.AfterFunc(until.Sub(now), r.lapsed)
	} else {
		r.lapse.Reset(until.Sub(now))
	}
	if r.failing {
		r.failing = false
		r.d.Log.InfoContext(ctx, "the lease of this replica is renewed again", "replicas", len(living))
	}
	if !held || !slices.Equal(living, r.living) {
		r.living = living
		r.tell()
	}
}

// tell wakes whoever waits for a change, under the lock.
func (r *Replica) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// lapsed is called when the lease ends, or would have.
func (r *Replica) lapsed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.until.IsZero() && !r.d.Now().Before(r.until) {
		r.d.Log.Warn("this replica lost its lease: what it does alone stands still until the database answers")
	}
	r.tell()
}

// failed says so once until it goes well again.
func (r *Replica) failed(ctx context.Context, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.failing {
		r.d.Log.WarnContext(ctx, "the lease of this replica could not be renewed; trying on", "error", err)
	}
	r.failing = true
}

// leave ends the lease: for this process first, then for the others.
func (r *Replica) leave(ctx context.Context) {
	r.mu.Lock()
	r.until = time.Time{}
	if r.lapse != nil {
		r.lapse.Stop()
	}
	r.tell()
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.d.Store.LeaveReplica(ctx, r.d.ID); err != nil {
		r.d.Log.WarnContext(ctx, "the lease of this replica could not be given back; it runs out by itself", "error", err)
	}
}

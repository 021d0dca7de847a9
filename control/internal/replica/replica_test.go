// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package replica_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/replica"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/migrations"
	"gitlab.com/ampora/ampora/shared/run"
)

// leases is a store that can be away, or silent, and whose clock is not the process's.
type leases struct {
	store.Replicas
	ahead time.Duration // of its clock

	mu     sync.Mutex
	away   error
	silent bool
	until  map[string]time.Time // of the leases it gave
}

func newLeases(t *testing.T) *leases {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ampora.db")
	if _, err := migrations.Apply(t.Context(), "sqlite:"+path); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &leases{Replicas: db, ahead: time.Hour, until: map[string]time.Time{}}
}

// fails lets the database answer with err from now on; nil brings it back.
func (l *leases) fails(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = err
}

// falls silent: it answers nothing any more.
func (l *leases) fallsSilent() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent = true
}

func (l *leases) there(ctx context.Context) error {
	l.mu.Lock()
	silent, away := l.silent, l.away
	l.mu.Unlock()
	if silent {
		<-ctx.Done()
		return ctx.Err()
	}
	return away
}

func (l *leases) Clock(ctx context.Context) (time.Time, error) {
	if err := l.there(ctx); err != nil {
		return time.Time{}, err
	}
	now, err := l.Replicas.Clock(ctx)
	return now.Add(l.ahead), err
}

func (l *leases) RenewReplica(ctx context.Context, r fleet.Replica, now time.Time) (living []string, err error) {
	if err := l.there(ctx); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until[r.ID] = r.LeaseUntil
	return l.Replicas.RenewReplica(ctx, r, now)
}

func (l *leases) LeaveReplica(ctx context.Context, id string) error {
	if err := l.there(ctx); err != nil {
		return err
	}
	return l.Replicas.LeaveReplica(ctx, id)
}

func (l *leases) AcquireDuty(ctx context.Context, duty, holder string, now time.Time) error {
	if err := l.there(ctx); err != nil {
		return err
	}
	return l.Replicas.AcquireDuty(ctx, duty, holder, now)
}

// ends is when the replica's lease ends, by the process's clock.
func (l *leases) ends(id string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until[id].Add(-l.ahead)
}

// begin runs a replica, and other tasks before it, until stop is called or the test ends.
func begin(t *testing.T, l store.Replicas, id string, tasks ...func(*replica.Replica) run.Task) (r *replica.Replica, stop func()) {
	t.Helper()
	r = replica.New(replica.Deps{Store: l, ID: id, Version: "1", Log: slog.New(slog.DiscardHandler), Now: time.Now})
	var before []run.Task
	for _, task := range tasks {
		before = append(before, task(r))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run.Phases(ctx, before, []run.Task{{Name: id, Run: func(ctx context.Context) error { return r.Run(ctx) }}}); err != nil {
			t.Errorf("replica %s: %v", id, err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return r, stop
}

func wantHolds(t *testing.T, r *replica.Replica, want bool) {
	t.Helper()
	synctest.Wait()
	if r.Holds() != want {
		t.Errorf("replica %s holds its lease: %v, want %v", r.ID(), !want, want)
	}
}

func wantLiving(t *testing.T, r *replica.Replica, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := r.Living(); !slices.Equal(got, want) {
		t.Errorf("replica %s knows of %q, want %q", r.ID(), got, want)
	}
}

func TestALeaseIsKeptWhileTheDatabaseAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases(t)
		r, stop := begin(t, l, "a")
		wantHolds(t, r, true)
		for range 60 {
			time.Sleep(time.Second)
			wantHolds(t, r, true)
		}
		stop()
		wantHolds(t, r, false)
		b, _ := begin(t, l, "b")
		wantLiving(t, b, "b")
	})
}

// TestOneStandsStillBeforeOthersTakeOver: whatever way the database goes, a replica knows of the end of its lease before
// the database does, to the moment.
func TestOneStandsStillBeforeOthersTakeOver(t *testing.T) {
	for name, breaks := range map[string]func(*leases){
		"failing": func(l *leases) { l.fails(store.ErrUnavailable) },
		"unsure":  func(l *leases) { l.fails(store.ErrUnknown) },
		"silent":  (*leases).fallsSilent,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeases(t)
				r, _ := begin(t, l, "a")
				wantHolds(t, r, true)
				ends := l.ends("a")
				held, cancel := r.Holding(t.Context())
				defer cancel()
				breaks(l)
				time.Sleep(time.Until(ends) - time.Nanosecond)
				if wantHolds(t, r, true); held.Err() != nil {
					t.Error("what is done under the lease was ended before it")
				}
				time.Sleep(time.Nanosecond)
				if wantHolds(t, r, false); held.Err() == nil {
					t.Error("what is done under the lease goes on without it")
				}
				if late, cancel := r.Holding(t.Context()); late.Err() == nil {
					synctest.Wait()
					if cancel(); late.Err() == nil {
						t.Error("something was begun without the lease")
					}
				}
			})
		})
	}
}

func TestALeaseComesBackWithTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases(t)
		r, _ := begin(t, l, "a")
		wantHolds(t, r, true)
		l.fails(store.ErrUnavailable)
		time.Sleep(time.Minute)
		wantHolds(t, r, false)
		changed := r.Changed()
		l.fails(nil)
		time.Sleep(time.Second)
		wantHolds(t, r, true)
		select {
		case <-changed:
		default:
			t.Error("nobody was told")
		}
	})
}

func TestReplicasKnowOfEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases(t)
		a, _ := begin(t, l, "a")
		wantLiving(t, a, "a")
		changed := a.Changed()
		b, stop := begin(t, l, "b")
		wantLiving(t, b, "a", "b")
		<-changed // within a renewal, or this is a deadlock
		wantLiving(t, a, "a", "b")
		changed = a.Changed()
		stop()
		<-changed
		wantLiving(t, a, "a")
	})
}

func TestTheClockIsTheDatabasesAndNeverAheadOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeases(t)
		r, _ := begin(t, l, "a")
		wantHolds(t, r, true)
		for range 10 {
			time.Sleep(1700 * time.Millisecond)
			if got, is := r.Clock(), time.Now().Add(l.ahead); got.After(is) || is.Sub(got) > time.Millisecond {
				t.Errorf("the clock says %v, it is %v", got, is)
			}
		}
	})
}

// done notes when a duty was done, and by whom.
type done struct {
	mu sync.Mutex
	by []string
}

func (d *done) task(every time.Duration, do func(ctx context.Context) error) func(*replica.Replica) run.Task {
	return func(r *replica.Replica) run.Task {
		return r.Duty("pruning", every, func(ctx context.Context) error {
			d.mu.Lock()
			d.by = append(d.by, r.ID())
			d.mu.Unlock()
			return do(ctx)
		})
	}
}

func (d *done) want(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.by, want) {
		t.Errorf("the duty was done by %q, want %q", d.by, want)
	}
	d.by = nil
}

func succeeds(context.Context) error { return nil }

func TestADutyIsDoneByOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, d := newLeases(t), &done{}
		a, stop := begin(t, l, "a", d.task(time.Minute, succeeds))
		wantHolds(t, a, true)
		d.want(t, "a")
		begin(t, l, "b", d.task(time.Minute, succeeds))
		time.Sleep(2 * time.Minute)
		d.want(t, "a", "a")
		stop()
		d.want(t)
		time.Sleep(5 * time.Second) // until b renews
		d.want(t, "b")
		time.Sleep(time.Minute)
		d.want(t, "b")
	})
}

func TestTheDutyOfTheDeadIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, d := newLeases(t), &done{}
		now := time.Now().Add(l.ahead)
		_, err := l.RenewReplica(t.Context(), fleet.Replica{ID: "dead", StartedAt: now, LeaseUntil: now.Add(15 * time.Second)}, now)
		if err := errors.Join(err, l.AcquireDuty(t.Context(), "pruning", "dead", now)); err != nil {
			t.Fatal(err)
		}
		begin(t, l, "a", d.task(time.Hour, succeeds))
		time.Sleep(15*time.Second - time.Nanosecond)
		d.want(t)
		time.Sleep(5 * time.Second)
		d.want(t, "a")
	})
}

func TestADutyThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &done{}
		begin(t, newLeases(t), "a", d.task(time.Hour, func(context.Context) error { return errors.New("no room") }))
		d.want(t, "a")
		time.Sleep(time.Minute)
		d.want(t, "a")
	})
}

func TestADutyEndsWithTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, d := newLeases(t), &done{}
		var ended time.Time
		begin(t, l, "a", d.task(time.Hour, func(ctx context.Context) error {
			<-ctx.Done()
			ended = time.Now()
			return ctx.Err()
		}))
		d.want(t, "a")
		ends := l.ends("a")
		l.fails(store.ErrUnavailable)
		time.Sleep(time.Minute)
		if synctest.Wait(); !ended.Equal(ends) {
			t.Errorf("it ended at %v, the lease at %v", ended, ends)
		}
		d.want(t)
		l.fails(nil)
		time.Sleep(time.Minute)
		d.want(t, "a")
	})
}

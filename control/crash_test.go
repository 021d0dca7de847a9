// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// failing is a store whose calls fail, as those of a process whose database comes and goes: before they did anything, or
// after they did it all and only the answer was lost.
type failing struct {
	store.Store
	mu     sync.Mutex
	draw   func(call string) harm
	faults atomic.Int64
	calm   atomic.Bool
}

// harm is how a call fails.
type harm int

const (
	unharmed harm = iota
	before
	after
)

func (f *failing) next(call string) harm {
	if f.calm.Load() {
		return unharmed
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	how := f.draw(call)
	if how != unharmed {
		f.faults.Add(1)
	}
	return how
}

// atRandom lets a quarter of all calls fail; reproducible on purpose.
func atRandom(seed uint64) func(string) harm {
	random := rand.New(rand.NewPCG(seed, 2))
	return func(string) harm { return max(unharmed, after-harm(random.IntN(8))) }
}

// inTurn lets each of some calls fail before, then after, then not, and so on: whatever they do suffers all of it.
func inTurn(those ...string) func(string) harm {
	times := map[string]harm{}
	return func(call string) harm {
		if !slices.Contains(those, call) {
			return unharmed
		}
		times[call]++
		return times[call] % 3
	}
}

func faulty[T any](f *failing, call string, do func() (T, error)) (T, error) {
	var none T
	how := f.next(call)
	if how == before {
		return none, fmt.Errorf("injected before: %w", store.ErrUnavailable)
	}
	got, err := do()
	if err == nil && how == after {
		return none, fmt.Errorf("injected after: %w", store.ErrUnavailable)
	}
	return got, err
}

func faultyDo(f *failing, call string, do func() error) error {
	_, err := faulty(f, call, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

func (f *failing) Record(ctx context.Context, r store.Record) (store.Recorded, error) {
	return faulty(f, "Record", func() (store.Recorded, error) { return f.Store.Record(ctx, r) })
}

func (f *failing) AcquirePartition(ctx context.Context, n int, holder string, now time.Time) (store.PartitionLease, error) {
	return faulty(f, "AcquirePartition", func() (store.PartitionLease, error) { return f.Store.AcquirePartition(ctx, n, holder, now) })
}

func (f *failing) RenewReplica(ctx context.Context, r fleet.Replica, now time.Time) ([]string, error) {
	return faulty(f, "RenewReplica", func() ([]string, error) { return f.Store.RenewReplica(ctx, r, now) })
}

func (f *failing) Counters(ctx context.Context, n int) ([]store.Counter, error) {
	return faulty(f, "Counters", func() ([]store.Counter, error) { return f.Store.Counters(ctx, n) })
}

func (f *failing) Resync(ctx context.Context, n int, gateway fleet.GatewayID, at time.Time) (int, error) {
	return faulty(f, "Resync", func() (int, error) { return f.Store.Resync(ctx, n, gateway, at) })
}

func (f *failing) ClaimWork(ctx context.Context, now, until time.Time, most int) ([]store.WorkItem, error) {
	// A claim that is lost hides its items until the claim runs out; keep that short enough for a test.
	return faulty(f, "ClaimWork", func() ([]store.WorkItem, error) {
		return f.Store.ClaimWork(ctx, now, now.Add(500*time.Millisecond), most)
	})
}

func (f *failing) Situations(ctx context.Context, tenant fleet.TenantID, agents []fleet.AgentID, rendered map[fleet.AgentID]fleet.VersionRef) ([]fleet.Situation, error) {
	return faulty(f, "Situations", func() ([]fleet.Situation, error) { return f.Store.Situations(ctx, tenant, agents, rendered) })
}

func (f *failing) Apply(ctx context.Context, tenant fleet.TenantID, decided []store.Decision, at time.Time) ([]error, error) {
	return faulty(f, "Apply", func() ([]error, error) { return f.Store.Apply(ctx, tenant, decided, at) })
}

func (f *failing) ClaimDispatches(ctx context.Context, now, _ time.Time, most int) ([]fleet.Dispatch, error) {
	return faulty(f, "ClaimDispatches", func() ([]fleet.Dispatch, error) {
		return f.Store.ClaimDispatches(ctx, now, now.Add(500*time.Millisecond), most)
	})
}

func (f *failing) AdvanceRollouts(ctx context.Context, now time.Time, most int, d store.Deciding) (int, error) {
	return faulty(f, "AdvanceRollouts", func() (int, error) { return f.Store.AdvanceRollouts(ctx, now, most, d) })
}

func (f *failing) MarkSent(ctx context.Context, sent []fleet.Dispatch, at time.Time) error {
	return faultyDo(f, "MarkSent", func() error { return f.Store.MarkSent(ctx, sent, at) })
}

// TestEveryStoreCallMayFail: with a quarter of all calls of the loops failing, before or after their effect, every agent ends
// where it should, and no version that failed is offered twice.
func TestEveryStoreCallMayFail(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		f := &failing{Store: db, draw: atRandom(1)}
		f.calm.Store(true)
		b := newBus(t)
		p := start(t, f, b, newMasterKey())
		c := newCrowd(t, p, b, 5)
		config := p.published(t, "edge", bodyOne)
		f.calm.Store(false)
		for id, a := range c.agents {
			c.breaks(a, bodyTwo)
			p.assignTo(t, config, id)
		}
		for id := range c.agents {
			p.deliveryOf(t, id, amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
		}
		p.next(t, config, bodyTwo)
		for id := range c.agents {
			p.assignTo(t, config, id)
		}
		for id := range c.agents {
			p.deliveryOf(t, id, amporav1.DeliveryState_DELIVERY_STATE_FAILED)
		}
		for _, a := range c.agents {
			c.holds(a, bodyOne)
		}
		if n := f.faults.Load(); n < 20 {
			t.Errorf("only %d faults were injected", n)
		} else {
			t.Logf("%d faults were injected", n)
		}
	})
}

// TestReplicasShareTheWork: two control planes on one database and one bus; one dies in the middle and the other goes on.
func TestReplicasShareTheWork(t *testing.T) {
	t.Parallel()
	db := backends["postgres"](t)
	b, key := newBus(t), newMasterKey()
	first, second := start(t, db, b, key), start(t, db, b, key)
	c := newCrowd(t, second, b, 10)
	config := second.published(t, "edge", bodyOne)
	for id := range c.agents {
		second.assignTo(t, config, id)
	}
	first.stop()
	for id := range c.agents {
		second.deliveryOf(t, id, amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
	}
}

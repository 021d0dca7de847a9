// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// failing is a store whose calls fail at random, as those of a process whose database comes and goes: before they did
// anything, or after they did it all and only the answer was lost.
type failing struct {
	store.Store
	mu     sync.Mutex
	random *rand.Rand
	faults atomic.Int64
	calm   atomic.Bool
}

func (f *failing) draw() (before, after bool) {
	if f.calm.Load() {
		return false, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.random.IntN(8) {
	case 0:
		f.faults.Add(1)
		return true, false
	case 1:
		f.faults.Add(1)
		return false, true
	default:
		return false, false
	}
}

func faulty[T any](f *failing, do func() (T, error)) (T, error) {
	var none T
	before, after := f.draw()
	if before {
		return none, fmt.Errorf("injected before: %w", store.ErrUnavailable)
	}
	got, err := do()
	if err == nil && after {
		return none, fmt.Errorf("injected after: %w", store.ErrUnavailable)
	}
	return got, err
}

func faultyDo(f *failing, do func() error) error {
	_, err := faulty(f, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

func (f *failing) Record(ctx context.Context, r store.Record) (store.Recorded, error) {
	return faulty(f, func() (store.Recorded, error) { return f.Store.Record(ctx, r) })
}

func (f *failing) AcquirePartition(ctx context.Context, n int, holder string, now time.Time) (store.PartitionLease, error) {
	return faulty(f, func() (store.PartitionLease, error) { return f.Store.AcquirePartition(ctx, n, holder, now) })
}

func (f *failing) RenewReplica(ctx context.Context, r fleet.Replica, now time.Time) ([]string, error) {
	return faulty(f, func() ([]string, error) { return f.Store.RenewReplica(ctx, r, now) })
}

func (f *failing) Counters(ctx context.Context, n int) ([]store.Counter, error) {
	return faulty(f, func() ([]store.Counter, error) { return f.Store.Counters(ctx, n) })
}

func (f *failing) Resync(ctx context.Context, n int, gateway fleet.GatewayID, at time.Time) (int, error) {
	return faulty(f, func() (int, error) { return f.Store.Resync(ctx, n, gateway, at) })
}

func (f *failing) ClaimWork(ctx context.Context, now, until time.Time, most int) ([]store.WorkItem, error) {
	// A claim that is lost hides its items until the claim runs out; keep that short enough for a test.
	return faulty(f, func() ([]store.WorkItem, error) {
		return f.Store.ClaimWork(ctx, now, now.Add(500*time.Millisecond), most)
	})
}

func (f *failing) Situations(ctx context.Context, tenant fleet.TenantID, agents []fleet.AgentID, rendered map[fleet.AgentID]fleet.VersionRef) ([]fleet.Situation, error) {
	return faulty(f, func() ([]fleet.Situation, error) { return f.Store.Situations(ctx, tenant, agents, rendered) })
}

func (f *failing) Apply(ctx context.Context, tenant fleet.TenantID, decided []store.Decision, at time.Time) ([]error, error) {
	return faulty(f, func() ([]error, error) { return f.Store.Apply(ctx, tenant, decided, at) })
}

func (f *failing) ClaimDispatches(ctx context.Context, now, _ time.Time, most int) ([]fleet.Dispatch, error) {
	return faulty(f, func() ([]fleet.Dispatch, error) {
		return f.Store.ClaimDispatches(ctx, now, now.Add(500*time.Millisecond), most)
	})
}

func (f *failing) MarkSent(ctx context.Context, sent []fleet.Dispatch, at time.Time) error {
	return faultyDo(f, func() error { return f.Store.MarkSent(ctx, sent, at) })
}

// TestEveryStoreCallMayFail: with a quarter of all calls of the loops failing, before or after their effect, every agent ends
// where it should, and no version that failed is offered twice.
func TestEveryStoreCallMayFail(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		f := &failing{Store: db, random: rand.New(rand.NewPCG(1, 2))} // reproducible on purpose
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

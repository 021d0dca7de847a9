// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// clock is one that tests put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// lose forgets a message of the agent on the way: its number is used and nothing comes.
func (c *crowd) lose(a *simulated) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counter[bus.PartitionOf(identity.AgentID(a.id))]++
}

// isAsked waits until the agent was asked for its full state n times.
func (c *crowd) isAsked(a *simulated, n int) {
	c.t.Helper()
	eventually(c.t, "the agent is asked for its full state", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if a.asked != n {
			return fmt.Errorf("asked %d times, want %d", a.asked, n)
		}
		return nil
	})
}

// says reports a health that can be told from others, and waits until it is on record.
func (c *crowd) says(p *plane, a *simulated, words string) {
	c.t.Helper()
	c.report(a, &protobufs.AgentToServer{Health: &protobufs.ComponentHealth{Status: words}})
	eventually(c.t, "health", func() error {
		got, err := p.agents.GetAgent(c.t.Context(), &amporav1.GetAgentRequest{Id: a.id})
		if err == nil && got.GetAgent().GetHealth().GetStatus() != words {
			err = fmt.Errorf("it says %q, want %q", got.GetAgent().GetHealth().GetStatus(), words)
		}
		return err
	})
}

func (c *crowd) renew() {
	c.t.Helper()
	if _, err := c.control.RenewLease(c.t.Context(), &internalv1.RenewLeaseRequest{GatewayId: "g", BootId: c.boot}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crowd) only() *simulated {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.agents {
		return a
	}
	return nil
}

// TestALossThatHadToWaitIsMadeGood: resyncs are throttled, but a loss within the pause is not forgotten.
func TestALossThatHadToWaitIsMadeGood(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		b, clock := newBus(t), &clock{}
		p := startAt(t, db, b, newMasterKey(), clock.now)
		c := newCrowd(t, p, b, 1)
		a := c.only()
		c.lose(a)
		c.says(p, a, "after the first loss")
		c.isAsked(a, 1)
		c.report(a, &protobufs.AgentToServer{AgentDescription: &protobufs.AgentDescription{}}) // or it is asked again for want of an answer
		c.lose(a)
		c.says(p, a, "after the second loss")
		c.isAsked(a, 1)
		for range 2 {
			clock.ahead.Add(int64(16 * time.Second))
			c.renew()
		}
		c.says(p, a, "after the pause")
		c.isAsked(a, 2)
	})
}

// TestALossOutlivesTheReaderThatSawIt: whoever takes the partition over finds a loss that was not made good.
func TestALossOutlivesTheReaderThatSawIt(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		b, key := newBus(t), newMasterKey()
		p := start(t, db, b, key)
		c := newCrowd(t, p, b, 1)
		a := c.only()
		c.lose(a)
		c.says(p, a, "after the first loss")
		c.isAsked(a, 1)
		c.lose(a)
		c.says(p, a, "after the second loss")
		p.stop()
		p = start(t, db, b, key)
		c.says(p, a, "to the next reader")
		c.isAsked(a, 2)
	})
}

// unsure is a store in which one call of each kind fails, the next one not.
type unsure struct {
	store.Store
	resyncs, bodies atomic.Int64
}

func once(n *atomic.Int64) error {
	if n.Add(1) == 1 {
		return fmt.Errorf("injected: %w", store.ErrUnavailable)
	}
	return nil
}

func (u *unsure) Resync(ctx context.Context, n int, gateway fleet.GatewayID, at time.Time) (int, error) {
	if err := once(&u.resyncs); err != nil {
		return 0, err
	}
	return u.Store.Resync(ctx, n, gateway, at)
}

func (u *unsure) Body(ctx context.Context, tenant fleet.TenantID, hash fleet.ContentHash) (store.SealedBody, error) {
	if err := once(&u.bodies); err != nil {
		return store.SealedBody{}, err
	}
	return u.Store.Body(ctx, tenant, hash)
}

// TestALossIsMadeGoodAlthoughTheDatabaseFails: between recording what came after a hole and asking for what is missing
// the database goes away.
func TestALossIsMadeGoodAlthoughTheDatabaseFails(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		b, u := newBus(t), &unsure{Store: db}
		p := start(t, u, b, newMasterKey())
		c := newCrowd(t, p, b, 1)
		a := c.only()
		c.lose(a)
		c.says(p, a, "after the loss")
		c.isAsked(a, 1)
		if u.resyncs.Load() != 2 {
			t.Errorf("%d tries", u.resyncs.Load())
		}
	})
}

// TestAReportWaitsForTheDatabase: a report whose body cannot be read for a moment is read again, not dropped.
func TestAReportWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		b, u := newBus(t), &unsure{Store: db}
		p := start(t, u, b, newMasterKey())
		c := newCrowd(t, p, b, 1)
		a := c.only()
		list := &protobufs.AvailableComponents{Components: map[string]*protobufs.ComponentDetails{
			"receivers": {SubComponentMap: map[string]*protobufs.ComponentDetails{"otlp": {}}},
		}}
		body, err := proto.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.control.PutBodies(t.Context(), &internalv1.PutBodiesRequest{Tenant: "default", Bodies: [][]byte{body}}); err != nil {
			t.Fatal(err)
		}
		a.sequence++
		raw, err := proto.Marshal(&protobufs.AgentToServer{
			InstanceUid: a.uid[:], SequenceNum: a.sequence, AvailableComponents: &protobufs.AvailableComponents{Hash: []byte("h")},
		})
		if err != nil {
			t.Fatal(err)
		}
		hash := fleet.HashOf(body)
		c.publish(a, &relayv1.Uplink{Event: &relayv1.Uplink_Report{Report: &relayv1.Report{
			Sequence: a.sequence, AgentToServer: raw,
			Bodies: []*relayv1.Body{{Kind: relayv1.Body_KIND_AVAILABLE_COMPONENTS, Hash: hash[:], Size: int64(len(body))}},
		}}})
		eventually(t, "components", func() error {
			got, err := p.agents.GetAgent(t.Context(), &amporav1.GetAgentRequest{Id: a.id})
			if n := len(got.GetAgent().GetAvailableComponents().GetComponents()); err == nil && n != 1 {
				err = fmt.Errorf("%d components", n)
			}
			return err
		})
	})
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// Lease is what keeps the sessions of this process alive in the eyes of the control
// plane. While it is not held nobody new is admitted, because nothing could be claimed.
type Lease struct {
	origin  Origin
	version string
	control internalv1connect.GatewayServiceClient
	log     *slog.Logger
	clock   func() time.Time
	onLost  func(context.Context)
	busLost func() bool
	trust   func() int64
	told    *Registration
	until   atomic.Pointer[time.Time]
}

// LeaseConfig is what a [Lease] needs.
type LeaseConfig struct {
	Origin  Origin
	Version string
	Control internalv1connect.GatewayServiceClient
	Log     *slog.Logger
	Clock   func() time.Time
	// Registration takes the key and the time that control tells.
	Registration *Registration
	// BusLost says that the bus does not take what agents say; control is told so.
	BusLost func() bool
	// Trust is the generation of the trust that agents are verified with; control is told which.
	Trust func() int64
	// OnLost is called after the lease was lost and taken again: every session must
	// be claimed anew. It takes as long as it takes, while renewals go on; its context
	// ends when the lease is lost again. Calls never overlap.
	OnLost func(context.Context)
}

// NewLease makes a lease that is not held.
func NewLease(c LeaseConfig) *Lease {
	return &Lease{
		origin: c.Origin, version: c.Version, control: c.Control, log: c.Log, clock: c.Clock, onLost: c.OnLost,
		busLost: c.BusLost, trust: c.Trust, told: c.Registration,
	}
}

// Held says whether the lease is held now.
func (l *Lease) Held() bool {
	until := l.until.Load()
	return until != nil && l.clock().Before(*until)
}

// Remaining is what is left of the lease; 0 if it is not held.
func (l *Lease) Remaining() time.Duration {
	until := l.until.Load()
	if until == nil {
		return 0
	}
	return max(0, until.Sub(l.clock()))
}

// Run takes the lease and renews it until the context ends, or until control refuses it for good, as it does when the
// gateway was revoked: then nothing that this process holds counts any more, and the error is control's.
func (l *Lease) Run(ctx context.Context) error {
	registered, lost := false, false
	stop := func() {} // what follows a loss
	defer func() { stop() }()
	for {
		var err error
		if !registered {
			err = l.register(ctx)
			registered = err == nil
		} else if err = l.renew(ctx); connect.CodeOf(err) == connect.CodeFailedPrecondition {
			l.log.WarnContext(ctx, "the lease was lost", "error", err)
			l.until.Store(nil)
			registered, lost = false, true
			continue
		}
		if connect.CodeOf(err) == connect.CodePermissionDenied {
			l.until.Store(nil)
			return fmt.Errorf("the control plane refuses this gateway: %w", err)
		}
		if err != nil && ctx.Err() == nil {
			l.log.WarnContext(ctx, "the lease could not be taken", "registered", registered, "error", err)
		}
		if registered && lost {
			lost = false
			stop()
			stop = beside(ctx, l.onLost)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(l.pause(err)):
		}
	}
}

// beside starts a call and returns how to end it, which waits for its return.
func beside(ctx context.Context, call func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var calling sync.WaitGroup
	calling.Go(func() { call(ctx) })
	return func() {
		cancel()
		calling.Wait()
	}
}

// pause is a third of what is left of the lease, and about a second after an error.
func (l *Lease) pause(err error) time.Duration {
	until := l.until.Load()
	if err != nil || until == nil {
		return 500*time.Millisecond + rand.N(time.Second)
	}
	return max(100*time.Millisecond, until.Sub(l.clock())/3)
}

func (l *Lease) register(ctx context.Context) error {
	return l.take(ctx, func(ctx context.Context) (grant, error) {
		response, err := l.control.Register(ctx, &internalv1.RegisterRequest{GatewayId: string(l.origin.Gateway), BootId: l.origin.BootID, Version: l.version})
		if err != nil {
			return nil, err
		}
		key, err := uplink.ParseKey(response.GetUplinkKey())
		if err != nil {
			return nil, err
		}
		l.told.Use(key)
		return response, nil
	})
}

func (l *Lease) renew(ctx context.Context) error {
	return l.take(ctx, func(ctx context.Context) (grant, error) {
		return l.control.RenewLease(ctx, &internalv1.RenewLeaseRequest{
			GatewayId: string(l.origin.Gateway), BootId: l.origin.BootID, BusLost: l.busLost(), TrustGeneration: l.trust(),
		})
	})
}

// grant is what both answers say.
type grant interface {
	GetLease() *durationpb.Duration
	GetNow() *timestamppb.Timestamp
}

// take asks for the lease and counts its time from before the question, so that it never seems to last longer here than
// where it is kept.
func (l *Lease) take(ctx context.Context, ask func(context.Context) (grant, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	asked := l.clock()
	given, err := ask(ctx)
	if err != nil {
		return err
	}
	if given.GetNow().IsValid() {
		l.told.Set(asked, l.clock(), given.GetNow().AsTime())
	}
	until := asked.Add(given.GetLease().AsDuration())
	l.until.Store(&until)
	return nil
}

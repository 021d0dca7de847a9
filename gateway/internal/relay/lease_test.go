// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	"gitlab.com/ampora/ampora/gateway/internal/relay"
)

// Claiming every session anew may take longer than a lease lasts. It goes on while the
// lease is renewed, and begins again if the lease is lost once more.
func TestLeaseIsRenewedWhileSessionsAreClaimed(t *testing.T) {
	control := gatewaytest.NewControl(t)
	control.SetLease(3 * time.Second)
	synctest.Test(t, func(t *testing.T) {
		calls, running := 0, 0
		lease := relay.NewLease(relay.LeaseConfig{
			Origin: relay.Origin{Gateway: "gw-1", BootID: 1}, Control: control.Client(), Log: slog.New(slog.DiscardHandler), Clock: time.Now,
			Registration: relay.NewRegistration(time.Now), BusLost: func() bool { return false }, Trust: func() int64 { return 7 },
			OnLost: func(ctx context.Context) {
				calls++
				if running++; running != 1 {
					t.Error("two calls at a time")
				}
				<-ctx.Done()
				running--
			},
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- lease.Run(ctx) }()
		synctest.Wait() // it is held
		for want := 1; want <= 2; want++ {
			control.LoseLease()
			<-time.After(10 * time.Second) // of the bubble's clock
			synctest.Wait()
			if calls != want || !lease.Held() {
				t.Errorf("after loss %d there were %d calls, and the lease is held: %v", want, calls, lease.Held())
			}
		}
		stop()
		if err := <-ended; err != nil || running != 0 {
			t.Errorf("it ended with %v, %d calls running", err, running)
		}
	})
}

// Control tells the key and the time with the lease, and is told when the bus is lost.
func TestLeaseBringsKeyAndTime(t *testing.T) {
	control := gatewaytest.NewControl(t)
	control.SetLease(3 * time.Second)
	control.SetAhead(-time.Hour)
	synctest.Test(t, func(t *testing.T) {
		var lost atomic.Bool
		told := relay.NewRegistration(time.Now)
		lease := relay.NewLease(relay.LeaseConfig{
			Origin: relay.Origin{Gateway: "gw-1", BootID: 1}, Control: control.Client(), Log: slog.New(slog.DiscardHandler), Clock: time.Now,
			Registration: told, BusLost: lost.Load, Trust: func() int64 { return 7 }, OnLost: func(context.Context) {},
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- lease.Run(ctx) }()
		if !told.Await(ctx) {
			t.Fatal("there is no key")
		}
		synctest.Wait()
		if ahead := told.Now().Sub(control.Now()); ahead != 0 {
			t.Errorf("the time is %v ahead of control's", ahead)
		}
		key := told.Key()
		for _, now := range []bool{true, false} {
			lost.Store(now)
			<-time.After(2 * time.Second)
			if control.BusLost("gw-1") != now {
				t.Errorf("control was not told that the bus is lost: %v", now)
			}
		}
		control.LoseLease()
		<-time.After(5 * time.Second)
		if told.Key() != key || !lease.Held() {
			t.Error("registered anew, the process has another key")
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
}

// A revoked gateway is let in again by no patience: it ends, whether it held the lease or asked for its first.
func TestLeaseEndsWhenRevoked(t *testing.T) {
	for name, held := range map[string]bool{"while held": true, "from the start": false} {
		t.Run(name, func(t *testing.T) {
			control := gatewaytest.NewControl(t)
			control.SetLease(3 * time.Second)
			synctest.Test(t, func(t *testing.T) {
				lease := relay.NewLease(relay.LeaseConfig{
					Origin: relay.Origin{Gateway: "gw-1", BootID: 1}, Control: control.Client(), Log: slog.New(slog.DiscardHandler), Clock: time.Now,
					Registration: relay.NewRegistration(time.Now), BusLost: func() bool { return false }, Trust: func() int64 { return 7 }, OnLost: func(context.Context) {},
				})
				if !held {
					control.Expel()
				}
				ended := make(chan error, 1)
				go func() { ended <- lease.Run(t.Context()) }()
				synctest.Wait()
				if lease.Held() != held {
					t.Fatalf("the lease is held: %v", lease.Held())
				}
				control.Expel()
				<-time.After(2 * time.Second)
				synctest.Wait()
				select {
				case err := <-ended:
					if connect.CodeOf(err) != connect.CodePermissionDenied {
						t.Errorf("it ended with %v", err)
					}
				default:
					t.Error("it goes on")
				}
				if lease.Held() {
					t.Error("the lease is still held")
				}
			})
		})
	}
}

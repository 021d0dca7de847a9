// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

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

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
)

// TestTwoReplicasShareThePoolsRate: who asks both at once gets no more than from one.
func TestTwoReplicasShareThePoolsRate(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		b, key := newBus(t), newMasterKey()
		replicas := []*plane{start(t, db, b, key), start(t, db, b, key)}
		created, err := replicas[0].pools.CreateTokenPool(t.Context(), &amporav1.CreateTokenPoolRequest{Name: "asg", PerHour: 1, Burst: 5})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var all sync.WaitGroup
		answers := map[connect.Code]int{}
		for i := range 24 {
			all.Go(func() {
				_, err := draw(t.Context(), replicas[i%2], created.GetSecret())
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					answers[0]++
				} else {
					answers[connect.CodeOf(err)]++
				}
			})
		}
		all.Wait()
		if answers[0] != 5 || answers[connect.CodeResourceExhausted] != 19 {
			t.Errorf("answers by code: %v", answers)
		}
	})
}

func draw(ctx context.Context, p *plane, secret string) (*amporav1.DrawTokenResponse, error) {
	client := connect.NewClient(connecthttp.NewTransport(p.web.Client(), p.web.URL), func(next connect.ClientFunc) connect.ClientFunc {
		return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
			if info, ok := connect.CallInfoForClientContext(ctx); ok {
				info.RequestHeader().Set("Authorization", "Bearer "+secret)
			}
			return next(ctx, spec)
		}
	})
	return amporav1connect.NewTokenPoolServiceClient(client).DrawToken(ctx, &amporav1.DrawTokenRequest{})
}

// TestTokensThatEnrolledNobodyAreSwept by the duty, a while after their end and not before.
func TestTokensThatEnrolledNobodyAreSwept(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		p := start(t, db, newBus(t), newMasterKey())
		by := fleet.System("default", time.Now())
		issue := func(id fleet.TokenID, expires time.Time) {
			t.Helper()
			token := fleet.BootstrapToken{ID: id, Tenant: "default", Hash: [32]byte{id[len(id)-1]}, CreatedBy: "test", CreatedAt: by.At, ExpiresAt: expires}
			if err := db.IssueBootstrapToken(t.Context(), by, token); err != nil {
				t.Fatal(err)
			}
		}
		issue("01890a5d-ac96-774b-bcce-b302099a8051", by.At.Add(-fleet.TokenRetention-time.Minute))
		issue("01890a5d-ac96-774b-bcce-b302099a8052", by.At.Add(-fleet.TokenRetention+time.Minute))
		if err := p.sweepTokens(t.Context()); err != nil {
			t.Fatal(err)
		}
		list, _, err := db.BootstrapTokens(t.Context(), "default", fleet.Page{Size: 10})
		if err != nil || len(list) != 1 || list[0].ID != "01890a5d-ac96-774b-bcce-b302099a8052" {
			t.Errorf("left %v, %v", list, err)
		}
	})
}

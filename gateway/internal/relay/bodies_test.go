// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	"gitlab.com/ampora/ampora/shared/identity"
)

func TestBodiesTravelOnce(t *testing.T) {
	control := gatewaytest.NewControl(t)
	b := NewBodies(control.Client())
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx) })
	defer running.Wait()
	defer cancel()

	hash, err := b.Put(ctx, "acme", []byte("body"))
	if err != nil || string(control.Body(hash[:])) != "body" {
		t.Fatalf("put: %v", err)
	}
	fetched, err := b.Fetch(ctx, "acme", hash)
	if err != nil || string(fetched) != "body" {
		t.Fatalf("fetch: %q, %v", fetched, err)
	}
	// Neither needs the control plane again; another tenant's do.
	control.SetDown(true)
	if _, err := b.Put(ctx, "acme", []byte("body")); err != nil {
		t.Errorf("put again: %v", err)
	}
	if _, err := b.Fetch(ctx, "acme", hash); err != nil {
		t.Errorf("fetch again: %v", err)
	}
	if _, err := b.Put(ctx, "rival", []byte("body")); err == nil {
		t.Error("put for another tenant was not asked for")
	}
	if _, err := b.Fetch(ctx, "rival", hash); err == nil {
		t.Error("fetch for another tenant was not asked for")
	}
}

func TestBodyMustMatchItsHash(t *testing.T) {
	control := gatewaytest.NewControl(t)
	hash := control.AddBody([]byte("body"))
	control.ReplaceBody(hash, []byte("another"))
	if _, err := NewBodies(control.Client()).Fetch(t.Context(), "acme", Hash(hash)); !errors.Is(err, errWrongBody) {
		t.Errorf("fetch: %v", err)
	}
}

func TestCallsAreBounded(t *testing.T) {
	puts := make([]put, 0, 9)
	for i := range 9 {
		tenant := identity.TenantID([]string{"acme", "rival"}[i%2])
		puts = append(puts, put{bodyKey{tenant, Hash{byte(i / 2 * 2)}}, bytes.Repeat([]byte("x"), callBytes/2)})
	}
	puts = append(puts, puts...) // each twice
	calls := requests(puts)
	bodies := 0
	for _, call := range calls {
		bodies += len(call.GetBodies())
		if len(call.GetBodies()) > 2 {
			t.Errorf("a call has %d bodies", len(call.GetBodies()))
		}
	}
	if bodies != 9 || len(calls) != 5 {
		t.Errorf("%d bodies in %d calls", bodies, len(calls))
	}
}

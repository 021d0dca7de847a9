// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package kms_test

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"go.step.sm/crypto/kms/uri"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/shared/fault"
)

// adapter does what an adapter may do to us; what it should do is shown by real ones, in package drivers.
type adapter struct {
	do     func() error
	closed atomic.Int32
}

func (a *adapter) Create(context.Context, string, kms.Algorithm) (kms.Key, error) {
	return kms.Key{}, a.do()
}

func (a *adapter) Open(context.Context, *uri.URI) (crypto.Signer, error) { return nil, a.do() }

func (a *adapter) Close() error {
	a.closed.Add(1)
	return nil
}

func open(t *testing.T, limit time.Duration, start func() (kms.Manager, error)) *kms.Services {
	t.Helper()
	yes := func(error) bool { return true }
	fine := func(*uri.URI) error { return nil }
	services, err := kms.Open(kms.Config{Home: "test:", Limit: limit}, kms.Deps{
		Drivers: []kms.Driver{{
			Scheme: "test", CheckService: fine, CheckKey: fine, Transient: yes, Stale: yes,
			Open: func(context.Context, *uri.URI) (kms.Manager, error) { return start() },
		}},
		Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return services
}

// TestWhatHangsForGoodIsBounded: nobody waits for longer than the limit, and no more than 32 calls are under way.
func TestWhatHangsForGoodIsBounded(t *testing.T) {
	const limit, crowd, bound = 300 * time.Millisecond, 100, 32
	forever := make(chan struct{})
	defer close(forever)
	var under atomic.Int32
	hanging := &adapter{do: func() error {
		under.Add(1)
		<-forever
		return nil
	}}
	services := open(t, limit, func() (kms.Manager, error) { return hanging, nil })
	for range 2 {
		began := time.Now()
		var all sync.WaitGroup
		for range crowd {
			all.Go(func() {
				if _, err := services.Find(t.Context(), "test:key=x"); !fault.Is(err, kms.ReasonUnavailable) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took > limit+2*time.Second {
			t.Errorf("the last waited for %s", took)
		}
	}
	if under.Load() != bound {
		t.Errorf("%d calls are under way", under.Load())
	}
}

// TestAnAdapterThatBreaksEndsNoProgram, wherever it does.
func TestAnAdapterThatBreaksEndsNoProgram(t *testing.T) {
	breaking := &adapter{do: func() error { panic("a nil map") }}
	for name, start := range map[string]func() (kms.Manager, error){
		"in use":         func() (kms.Manager, error) { return breaking, nil },
		"while it opens": func() (kms.Manager, error) { panic("a nil map") },
	} {
		services := open(t, time.Second, start)
		for range 2 {
			if _, err := services.Find(t.Context(), "test:key=x"); !fault.Is(err, kms.ReasonUnavailable) || !strings.Contains(err.Error(), "the adapter broke: a nil map") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for deadline := time.Now().Add(10 * time.Second); breaking.closed.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what broke stays open")
		}
	}
}

// TestACallerWhoLeavesSaysNothingOfTheService.
func TestACallerWhoLeavesSaysNothingOfTheService(t *testing.T) {
	services := open(t, time.Minute, func() (kms.Manager, error) {
		return &adapter{do: func() error { return errors.New("busy") }}, nil
	})
	left, leave := context.WithCancel(t.Context())
	leave()
	if _, err := services.Create(left, "x", kms.ECDSAP256); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if state := services.States()[0]; state.Known {
		t.Errorf("the service is %+v", state)
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/shared/instrument"
)

// Outcomes of calls. Away and slow say of the service that it is down; refused is about one key or one call, busy about
// how many ask at once.
const (
	outcomeOK       = "ok"
	outcomeAway     = "away"
	outcomeSlow     = "slow"
	outcomeBusy     = "busy"
	outcomeRefused  = "refused"
	outcomeWrongKey = "wrong_key"
	outcomeCanceled = "canceled"
)

// Schemes are those of all key services that there are adapters for, in this program or another.
var schemes = []string{"awskms", "azurekms", "cloudkms", "pkcs11", "vaulttransit"}

// measured is what is measured of key services.
type measured struct {
	calls instrument.Counter
	took  instrument.Histogram
}

func measure(meter metric.Meter, s *Services) (*measured, error) {
	made := instrument.On(meter)
	service, operation := instrument.By("service", schemes...), instrument.By("operation", "create", "open", "sign")
	m := &measured{
		calls: made.Counter("ampora_control_kms_calls", "{call}", "Calls of key services, by what became of them: slow ones took longer than the limit, busy ones found too many under way, refused ones would be again, wrong_key is another key than the certificate's.",
			service, operation, instrument.By("outcome", outcomeOK, outcomeAway, outcomeSlow, outcomeBusy, outcomeRefused, outcomeWrongKey, outcomeCanceled)),
		took: made.Histogram("ampora_control_kms_call_duration", "s", "Calls of key services, with what was tried again.", instrument.Seconds, service, operation),
	}
	made.Gauge("ampora_control_kms_up", "{service}", "Whether a key service answered when it was last asked: 1 or 0. One that was not asked yet is not shown.", func(observe instrument.Observe) {
		for _, state := range s.States() {
			switch {
			case state.Known && state.Up:
				observe(1, state.Scheme)
			case state.Known:
				observe(0, state.Scheme)
			}
		}
	}, service)
	if err := made.Err(); err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return m, nil
}

// health is what is known of a key service by the calls of it.
type health struct {
	scheme   string
	log      *slog.Logger
	measured *measured

	mu    sync.Mutex
	known bool
	up    bool
	since time.Time
}

// note keeps how a call went, and says so when the service comes or goes.
func (h *health) note(operation, outcome string, took time.Duration, err error) {
	ctx := context.Background()
	h.measured.calls.Add(ctx, 1, h.scheme, operation, outcome)
	h.measured.took.Took(ctx, took, h.scheme, operation)
	switch outcome {
	case outcomeCanceled, outcomeRefused, outcomeWrongKey, outcomeBusy:
		return
	}
	up := outcome == outcomeOK
	h.mu.Lock()
	changed := !h.known || h.up != up
	if h.known, h.up = true, up; changed {
		h.since = time.Now()
	}
	h.mu.Unlock()
	switch {
	case changed && up:
		h.log.InfoContext(ctx, "the key service answers", "service", h.scheme)
	case changed:
		h.log.WarnContext(ctx, "the key service cannot be used: no certificates are issued with the keys in it until it answers", "service", h.scheme, "error", err)
	}
}

func (h *health) state() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return State{Known: h.known, Up: h.up, Since: h.since}
}

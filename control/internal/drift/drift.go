// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package drift finds agents that run something else than they shall: it compares what each says it runs with what was
// assigned to it, when either has changed.
//
// An agent is compared with the version that it says it has applied; while one is on its way, the verdict on the former
// stands. Effective configurations are expanded and their secrets hidden, so that honest agents are not called drifted:
// what a comparison can know is said in package collector. What cannot be compared is unknown, and holds up nobody.
package drift

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/instrument"
)

const (
	// Pause is how often it is looked for agents that are due.
	Pause = 2 * time.Second
	// looksAtOnce bounds what is read and written in a transaction, turnsAtOnce how many there are in a row.
	looksAtOnce = 500
	turnsAtOnce = 20
	// mostRemembered is how many comparisons are remembered: fleets run few versions, and many agents run a version alike.
	mostRemembered = 4096
)

// Deps is what a Watcher needs.
type Deps struct {
	Store   store.Drift
	Content *content.Content
	Log     *slog.Logger
	Meter   metric.Meter
	Now     func() time.Time
}

// Watcher compares. One at a time must in an installation; it is not safe for concurrent use.
type Watcher struct {
	d          Deps
	verdicts   instrument.Counter
	remembered map[pair]fleet.Drift
}

// pair is what was compared with what.
type pair struct {
	tenant              fleet.TenantID
	assigned, effective fleet.ContentHash
}

// New returns a Watcher; Look does the work.
func New(d Deps) (*Watcher, error) {
	made := instrument.On(d.Meter)
	states := make([]string, len(fleet.DriftStates))
	for i, s := range fleet.DriftStates {
		states[i] = string(s)
	}
	w := &Watcher{
		d: d, remembered: map[pair]fleet.Drift{},
		verdicts: made.Counter("ampora_control_drift_verdicts", "{verdict}", "Comparisons of what agents run with what they shall run.",
			instrument.By("state", states...)),
	}
	if err := made.Err(); err != nil {
		return nil, fmt.Errorf("drift: %w", err)
	}
	return w, nil
}

// Look compares what is due.
func (w *Watcher) Look(ctx context.Context) error {
	for range turnsAtOnce {
		now := w.d.Now()
		due, err := w.d.Store.DueDrift(ctx, now, looksAtOnce)
		if err != nil {
			return fmt.Errorf("agents to compare: %w", err)
		}
		found := make([]store.DriftVerdict, len(due))
		for i, l := range due {
			d, err := w.compare(ctx, l)
			if err != nil {
				return err
			}
			found[i] = store.DriftVerdict{On: l, Drift: d}
			w.verdicts.Add(ctx, 1, string(d.State))
		}
		for _, lot := range fleet.ByTenant(found, func(v store.DriftVerdict) fleet.TenantID { return v.On.Tenant }) {
			if _, err := w.d.Store.PutDrift(ctx, lot[0].On.Tenant, lot, now); err != nil {
				return fmt.Errorf("write what drifts: %w", err)
			}
		}
		if len(due) < looksAtOnce {
			return nil
		}
	}
	return nil
}

// compare is the verdict on one agent. An error says that nothing can be read at the moment; bytes that cannot be read at
// all make a verdict.
func (w *Watcher) compare(ctx context.Context, l fleet.DriftLook) (fleet.Drift, error) {
	if d, known := Known(l); known {
		return d, nil
	}
	file, _ := Effective(l.Effective)
	key := pair{l.Tenant, l.Assigned, file.Hash}
	if d, compared := w.remembered[key]; compared {
		return d, nil
	}
	assigned, err := w.d.Content.Get(ctx, l.Tenant, l.Assigned)
	if err != nil {
		return w.unreadable(ctx, l, err)
	}
	effective, err := w.d.Content.Get(ctx, l.Tenant, file.Hash)
	if err != nil {
		return w.unreadable(ctx, l, err)
	}
	if len(w.remembered) >= mostRemembered {
		clear(w.remembered)
	}
	d := Compare(assigned, effective)
	w.remembered[key] = d
	return d, nil
}

func (w *Watcher) unreadable(ctx context.Context, l fleet.DriftLook, err error) (fleet.Drift, error) {
	if errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
		return fleet.Drift{}, fmt.Errorf("read what is to be compared: %w", err)
	}
	w.d.Log.WarnContext(ctx, "what an agent runs cannot be compared", "tenant", l.Tenant, "agent", l.Agent, "error", err)
	return fleet.Drift{State: fleet.DriftUnknown}, nil
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/instrument"
)

const (
	// Pause is how often it is looked for agents that changed.
	Pause = 5 * time.Second
	// Sweep is how often all agents are looked at, whatever was noted.
	Sweep = 10 * time.Minute
	// readsAtOnce is how many candidates are read at once.
	readsAtOnce = 2000
)

// Deps is what a Placer needs.
type Deps struct {
	Store store.Grouping
	// Limit is how many agents one act may change; of more that join at once each waits for a rollout.
	Limit int
	Log   *slog.Logger
	Meter metric.Meter
	Now   func() time.Time
}

// Placer puts agents where their groups' selectors want them. One at a time is enough in an installation; several do no
// harm.
type Placer struct {
	d     Deps
	moved instrument.Counter
	took  instrument.Histogram
}

// New returns a Placer; Look does the work.
func New(d Deps) (*Placer, error) {
	made := instrument.On(d.Meter)
	p := &Placer{
		d:     d,
		moved: made.Counter("ampora_control_group_moves", "{agent}", "Agents that selectors moved to a dynamic group, or out of one."),
		took: made.Histogram("ampora_control_group_look_duration", "s", "Time to read agents, evaluate selectors and move agents, by which were looked at.",
			instrument.Seconds, instrument.By("agents", "all", "changed")),
	}
	if err := made.Err(); err != nil {
		return nil, fmt.Errorf("groups: %w", err)
	}
	return p, nil
}

// Look places the agents of which something changed, and all where that is due. What goes wrong with one tenant holds up
// no other.
func (p *Placer) Look(ctx context.Context) error {
	due, err := p.d.Store.GroupingsDue(ctx, p.d.Now())
	if err != nil {
		return fmt.Errorf("groups that are to choose: %w", err)
	}
	var failed []error
	for _, tenant := range due {
		switch err := p.tenant(ctx, tenant); {
		case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrContended):
			p.d.Log.DebugContext(ctx, "groups were changed while they chose; they choose anew", "tenant", tenant)
		case err != nil:
			failed = append(failed, fmt.Errorf("groups of tenant %s: %w", tenant, err))
		}
	}
	return errors.Join(failed...)
}

// tenant places agents of a tenant.
func (p *Placer) tenant(ctx context.Context, tenant fleet.TenantID) error {
	choosers, err := p.d.Store.Choosers(ctx, tenant)
	if err != nil {
		return err //nolint:wrapcheck // Look does
	}
	if !p.d.Now().Before(choosers.DueAt) {
		return p.all(ctx, tenant, choosers)
	}
	return p.changed(ctx, tenant, choosers)
}

func (p *Placer) changed(ctx context.Context, tenant fleet.TenantID, choosers fleet.Choosers) error {
	began := time.Now()
	rules := rulesOf(choosers.Groups)
	of := rules.candidacy()
	of.ChangedOnly = true
	found, err := survey(ctx, p.d.Store, tenant, rules, of)
	if err == nil {
		err = p.place(ctx, tenant, choosers.Generation, rules, found)
	}
	p.took.Took(ctx, time.Since(began), "changed")
	return err
}

func (p *Placer) all(ctx context.Context, tenant fleet.TenantID, choosers fleet.Choosers) error {
	began, now := time.Now(), p.d.Now()
	rules := rulesOf(choosers.Groups)
	found, err := survey(ctx, p.d.Store, tenant, rules, rules.candidacy())
	if err == nil {
		err = p.place(ctx, tenant, choosers.Generation, rules, found)
	}
	if err == nil {
		for id, failure := range found.failing {
			failure.Since = now
			found.failing[id] = failure
			p.d.Log.WarnContext(ctx, "the selector of a group fails", "tenant", tenant, "group", id, "agents", failure.Agents, "because", failure.Words)
		}
		err = p.d.Store.FinishGrouping(ctx, tenant, choosers.Generation, found.failing, now.Add(Sweep))
	}
	p.took.Took(ctx, time.Since(began), "all")
	return err //nolint:wrapcheck // Look does
}

// place writes what was found.
func (p *Placer) place(ctx context.Context, tenant fleet.TenantID, generation int64, groups rules, found surveyed) error {
	for _, lot := range lots(found.placements, groups) {
		moved, err := p.d.Store.Place(ctx, tenant, store.Placing{Generation: generation, Placements: lot, Limit: p.d.Limit, At: p.d.Now()})
		if err != nil {
			return err //nolint:wrapcheck // Look does
		}
		p.moved.Add(ctx, int64(moved))
	}
	return nil
}

// surveyed is where agents belong, and what selectors failed of.
type surveyed struct {
	placements []fleet.Placement
	failing    failures
}

// survey decides for agents, page by page. Nothing is locked: what is decided on is compared when it is written.
func survey(ctx context.Context, s store.Grouping, tenant fleet.TenantID, groups rules, of store.Candidacy) (surveyed, error) {
	found := surveyed{failing: failures{}}
	err := eachCandidate(ctx, s, tenant, of, func(c fleet.Candidate) error {
		to, err := groups.choose(ctx, c, found.failing)
		if err == nil && (to != c.Group || c.Changed != 0) {
			found.placements = append(found.placements, fleet.Placement{Agent: c.Agent, From: c.Group, To: to, Changed: c.Changed})
		}
		return err
	})
	return found, err
}

func eachCandidate(ctx context.Context, s store.Grouping, tenant fleet.TenantID, of store.Candidacy, do func(fleet.Candidate) error) error {
	after := fleet.AgentID("")
	for {
		page, err := s.Candidates(ctx, tenant, of, after, readsAtOnce)
		if err != nil {
			return err //nolint:wrapcheck // callers do
		}
		for _, c := range page {
			if err := do(c); err != nil {
				return err
			}
		}
		if len(page) < readsAtOnce {
			return nil
		}
		after = page[len(page)-1].Agent
	}
}

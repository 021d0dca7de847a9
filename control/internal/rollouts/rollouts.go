// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package rollouts makes rollouts, starts and steers them: what operators ask for, and what the control plane does by
// itself for agents that wait and rollouts that are to be undone.
//
// What is guaranteed: a rollout starts with the plan that somebody has seen, or not at all; what changes more agents than
// may change at once is a rollout, whoever asked for it.
package rollouts

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"gitlab.com/ampora/ampora/control/internal/content"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Backend is the part of the database that rollouts need.
type Backend interface {
	store.Rollouts
	store.Configs
	store.Groups
	store.Grouping
	store.Calendars
	// Tenants is store.Installation's.
	Tenants(ctx context.Context) ([]fleet.Tenant, error)
}

// Deps is what Rollouts are made of.
type Deps struct {
	Store   Backend
	Content *content.Content
	// Limit is how many agents one act may change.
	Limit int
	Log   *slog.Logger
	Now   func() time.Time
}

// Rollouts are the use cases. They are safe for concurrent use.
type Rollouts struct {
	store   Backend
	content *content.Content
	limit   int
	log     *slog.Logger
	now     func() time.Time
}

// New returns Rollouts.
func New(d Deps) *Rollouts { return &Rollouts{d.Store, d.Content, d.Limit, d.Log, d.Now} }

// Planned is a definition with everything that was left out, and what it comes to.
type Planned struct {
	Kind       fleet.RolloutKind
	Definition fleet.RolloutDefinition
	Plan       fleet.RolloutPlan
	Members    []fleet.Member
}

// Plan says what a rollout would do.
func (r *Rollouts) Plan(ctx context.Context, by fleet.By, d fleet.RolloutDefinition) (Planned, error) {
	return r.plan(ctx, by, fleet.RolloutForward, d, store.RolloutScope{})
}

// Create stores a rollout with its plan.
func (r *Rollouts) Create(ctx context.Context, by fleet.By, d fleet.RolloutDefinition) (fleet.Rollout, error) {
	p, err := r.Plan(ctx, by, d)
	if err != nil {
		return fleet.Rollout{}, err
	}
	return r.create(ctx, by, "", p)
}

func (r *Rollouts) create(ctx context.Context, by fleet.By, of fleet.RolloutID, p Planned) (fleet.Rollout, error) {
	return r.store.CreateRollout(ctx, by, fleet.Rollout{
		Tenant: by.Tenant, ID: fleet.RolloutID(uuid.Must(uuid.NewV7()).String()), Kind: p.Kind, Of: of, Definition: p.Definition, Plan: p.Plan,
		State: fleet.RolloutPending, Generation: 1, Version: 1, CreatedBy: by.Principal.Name, CreatedAt: by.At,
	}, p.Members)
}

// plan completes a definition and draws its plan, of the agents that the scope narrows to.
func (r *Rollouts) plan(ctx context.Context, by fleet.By, kind fleet.RolloutKind, d fleet.RolloutDefinition, of store.RolloutScope) (Planned, error) {
	d, err := r.complete(ctx, by.Tenant, d)
	if err != nil {
		return Planned{}, err
	}
	return r.draw(ctx, by, kind, d, of)
}

// draw makes the plan of a complete definition as it is now.
func (r *Rollouts) draw(ctx context.Context, by fleet.By, kind fleet.RolloutKind, d fleet.RolloutDefinition, of store.RolloutScope) (Planned, error) {
	candidates, err := r.candidates(ctx, by.Tenant, d, of)
	if err != nil {
		return Planned{}, err
	}
	plan, members := rollout.Draw(kind, d, candidates, by.At)
	return Planned{kind, d, plan, members}, nil
}

// complete fills in what a definition leaves out, and refuses one that contradicts itself.
func (r *Rollouts) complete(ctx context.Context, tenant fleet.TenantID, d fleet.RolloutDefinition) (fleet.RolloutDefinition, error) {
	group, err := r.store.Group(ctx, tenant, string(d.Group))
	if err != nil {
		return d, err
	}
	config, err := r.store.Config(ctx, tenant, string(d.Config))
	if err != nil {
		return d, err
	}
	d.GroupName, d.ConfigName, d.Version = group.Name, config.Name, cmp.Or(d.Version, config.LatestPublished)
	if d.Version == 0 {
		return d, notPublished(config.Name)
	}
	v, err := r.store.ConfigVersion(ctx, tenant, d.Config, d.Version)
	if err != nil {
		return d, err
	}
	if v.State != fleet.VersionPublished {
		return d, notPublished(fmt.Sprintf("%s@%d", config.Name, d.Version))
	}
	d = withDefaults(d)
	if err := rollout.Check(d); err != nil {
		return d, refused(err)
	}
	return d, nil
}

// withDefaults fills in what does not depend on anything stored. Gates are whole already, or none is set.
func withDefaults(d fleet.RolloutDefinition) fleet.RolloutDefinition {
	if d.Gates == (fleet.Gates{}) {
		d.Gates = fleet.DefaultGates()
	}
	if d.Strategy.Kind == fleet.StrategyBatch && d.Strategy.Size == 0 {
		d.Strategy.Size = fleet.DefaultBatch
	}
	if len(d.Strategy.Steps) == 0 {
		d.Strategy.Steps = fleet.DefaultSteps(d.Strategy.Kind)
	}
	d.Advance = cmp.Or(d.Advance, fleet.AdvanceAutomatic)
	d.Order.Kind = cmp.Or(d.Order.Kind, fleet.OrderRandom)
	d.Order.Seed = cmp.Or(d.Order.Seed, newSeed())
	d.Late = cmp.Or(d.Late, fleet.LateFreeze)
	d.Deadline = cmp.Or(d.Deadline, fleet.DefaultDeadline)
	return d
}

// newSeed is never 0, which stands for none, and small enough for a number in JavaScript.
func newSeed() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])>>12 | 1
}

// begin makes a rollout and starts it at once: nobody looks at its plan in between.
func (r *Rollouts) begin(ctx context.Context, by fleet.By, of fleet.RolloutID, p Planned) (fleet.Rollout, error) {
	made, err := r.create(ctx, by, of, p)
	if err != nil {
		return fleet.Rollout{}, err
	}
	started, err := r.store.StartRollout(ctx, by, store.RolloutStart{Rollout: made.ID, Version: made.Version})
	if err == nil {
		return started, nil
	}
	// It would stand there as something that somebody might start.
	if _, abortErr := r.Abort(ctx, by, made.ID, "it could not be started"); abortErr != nil {
		err = errors.Join(err, abortErr)
	}
	return fleet.Rollout{}, err
}

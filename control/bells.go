// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/run"
)

// ringing is a store beside the loops of engine, outbox and rollouts: whatever may have given one of them something to do
// rings its bell, so that it looks at once. It rings after a failure, too: nobody may know whether it was one. Other processes find the
// same by polling.
type ringing struct {
	store.Store
	engine, outbox, rollouts *run.Bell
}

// Assign rings for the engine.
func (r ringing) Assign(ctx context.Context, by fleet.By, a fleet.Assignment, limit int) (fleet.Assignment, int, error) {
	defer r.engine.Ring()
	return r.Store.Assign(ctx, by, a, limit)
}

// Unassign rings for the engine.
func (r ringing) Unassign(ctx context.Context, by fleet.By, t fleet.Target) error {
	defer r.engine.Ring()
	return r.Store.Unassign(ctx, by, t)
}

// ClearAttempts rings for the engine.
func (r ringing) ClearAttempts(ctx context.Context, by fleet.By, id fleet.AgentID) (int, error) {
	defer r.engine.Ring()
	return r.Store.ClearAttempts(ctx, by, id)
}

// DeleteGroup rings for the engine.
func (r ringing) DeleteGroup(ctx context.Context, by fleet.By, id fleet.GroupID) error {
	defer r.engine.Ring()
	return r.Store.DeleteGroup(ctx, by, id)
}

// AddGroupMembers rings for the engine.
func (r ringing) AddGroupMembers(ctx context.Context, by fleet.By, id fleet.GroupID, agents []fleet.AgentID, limit int) (fleet.Group, error) {
	defer r.engine.Ring()
	return r.Store.AddGroupMembers(ctx, by, id, agents, limit)
}

// RemoveGroupMembers rings for the engine.
func (r ringing) RemoveGroupMembers(ctx context.Context, by fleet.By, id fleet.GroupID, agents []fleet.AgentID) (fleet.Group, error) {
	defer r.engine.Ring()
	return r.Store.RemoveGroupMembers(ctx, by, id, agents)
}

// Place rings for the engine.
func (r ringing) Place(ctx context.Context, tenant fleet.TenantID, p store.Placing) (int, error) {
	defer r.engine.Ring()
	return r.Store.Place(ctx, tenant, p)
}

// ChangeSigningKey rings for the outbox.
func (r ringing) ChangeSigningKey(ctx context.Context, by fleet.By, c fleet.KeyChange) (fleet.KeyUse, string, error) {
	defer r.outbox.Ring()
	return r.Store.ChangeSigningKey(ctx, by, c)
}

// RevokeCertificates rings for the outbox.
func (r ringing) RevokeCertificates(ctx context.Context, by fleet.By, of fleet.Revocation) ([]fleet.Certificate, error) {
	defer r.outbox.Ring()
	return r.Store.RevokeCertificates(ctx, by, of)
}

// RegisterGateway rings for the outbox.
func (r ringing) RegisterGateway(ctx context.Context, g fleet.Gateway) error {
	defer r.outbox.Ring()
	return r.Store.RegisterGateway(ctx, g)
}

// Claim rings for both.
func (r ringing) Claim(ctx context.Context, claims []fleet.Claim) ([]fleet.ClaimResult, error) {
	defer r.engine.Ring()
	defer r.outbox.Ring()
	return r.Store.Claim(ctx, claims)
}

// EndLost rings for the outbox: sessions may have moved to where they can be reached.
func (r ringing) EndLost(ctx context.Context, since, now time.Time) (int, error) {
	defer r.outbox.Ring()
	return r.Store.EndLost(ctx, since, now)
}

// Record rings for the engine if it woke somebody.
func (r ringing) Record(ctx context.Context, rec store.Record) (store.Recorded, error) {
	done, err := r.Store.Record(ctx, rec)
	if done.Woken > 0 {
		r.engine.Ring()
	}
	return done, err
}

// Resync rings for the outbox.
func (r ringing) Resync(ctx context.Context, partition int, gateway fleet.GatewayID, at time.Time) (int, error) {
	defer r.outbox.Ring()
	return r.Store.Resync(ctx, partition, gateway, at)
}

// ApplyUpkeep rings for the outbox if there is something to send.
func (r ringing) ApplyUpkeep(ctx context.Context, tenant fleet.TenantID, decided []store.UpkeepDecision, at time.Time) (int, error) {
	done, err := r.Store.ApplyUpkeep(ctx, tenant, decided, at)
	if slices.ContainsFunc(decided, func(d store.UpkeepDecision) bool { return d.Step.Offer }) {
		r.outbox.Ring()
	}
	return done, err
}

// Apply rings for the outbox if there is something to send, and for rollouts if agents of theirs are seen otherwise.
func (r ringing) Apply(ctx context.Context, tenant fleet.TenantID, decided []store.Decision, at time.Time) ([]error, error) {
	outcomes, err := r.Store.Apply(ctx, tenant, decided, at)
	if slices.ContainsFunc(decided, func(d store.Decision) bool { return d.Step.Send }) {
		r.outbox.Ring()
	}
	if slices.ContainsFunc(decided, func(d store.Decision) bool { return d.Step.Member != nil }) {
		r.rollouts.Ring()
	}
	return outcomes, err
}

// StartRollout rings for rollouts, and for the engine if agents were let in by the one that it supersedes.
func (r ringing) StartRollout(ctx context.Context, by fleet.By, s store.RolloutStart) (fleet.Rollout, error) {
	defer r.rollouts.Ring()
	defer r.engine.Ring()
	return r.Store.StartRollout(ctx, by, s)
}

// Steer rings for all: what was paused may go on, and what was granted may be sent.
func (r ringing) Steer(ctx context.Context, by fleet.By, id fleet.RolloutID, action string, decide func(fleet.RolloutSnapshot) (fleet.RolloutStep, error)) (fleet.Rollout, error) {
	defer r.rollouts.Ring()
	defer r.engine.Ring()
	defer r.outbox.Ring()
	return r.Store.Steer(ctx, by, id, action, decide)
}

// AdvanceRollouts rings for the engine if any was advanced, which may have let agents in.
func (r ringing) AdvanceRollouts(ctx context.Context, now time.Time, most int, d store.Deciding) (int, error) {
	n, err := r.Store.AdvanceRollouts(ctx, now, most, d)
	if n > 0 || err != nil {
		r.engine.Ring()
	}
	return n, err
}

// AddMembers rings for rollouts.
func (r ringing) AddMembers(ctx context.Context, tenant fleet.TenantID, id fleet.RolloutID, members []fleet.Member, at time.Time) (int, error) {
	defer r.rollouts.Ring()
	return r.Store.AddMembers(ctx, tenant, id, members, at)
}

// Release rings for the engine.
func (r ringing) Release(ctx context.Context, tenant fleet.TenantID, group fleet.GroupID, limit int, at time.Time) (int, error) {
	defer r.engine.Ring()
	return r.Store.Release(ctx, tenant, group, limit, at)
}

// PutSchedule rings for rollouts.
func (r ringing) PutSchedule(ctx context.Context, by fleet.By, s fleet.Schedule) (fleet.Schedule, error) {
	defer r.rollouts.Ring()
	return r.Store.PutSchedule(ctx, by, s)
}

// DeleteSchedule rings for rollouts.
func (r ringing) DeleteSchedule(ctx context.Context, by fleet.By, id fleet.ScheduleID) error {
	defer r.rollouts.Ring()
	return r.Store.DeleteSchedule(ctx, by, id)
}

// PutBudget rings for rollouts.
func (r ringing) PutBudget(ctx context.Context, by fleet.By, b fleet.Budget) (fleet.Budget, error) {
	defer r.rollouts.Ring()
	return r.Store.PutBudget(ctx, by, b)
}

// DeleteBudget rings for rollouts.
func (r ringing) DeleteBudget(ctx context.Context, by fleet.By, id fleet.BudgetID) error {
	defer r.rollouts.Ring()
	return r.Store.DeleteBudget(ctx, by, id)
}

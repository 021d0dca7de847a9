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

// ringing is a store beside an engine and an outbox: whatever may have given one of them something to do rings its bell,
// so that it looks at once. It rings after a failure, too: nobody may know whether it was one. Other processes find the
// same by polling.
type ringing struct {
	store.Store
	engine, outbox *run.Bell
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

// Apply rings for the outbox if there is something to send.
func (r ringing) Apply(ctx context.Context, tenant fleet.TenantID, decided []store.Decision, at time.Time) ([]error, error) {
	outcomes, err := r.Store.Apply(ctx, tenant, decided, at)
	if slices.ContainsFunc(decided, func(d store.Decision) bool { return d.Step.Send }) {
		r.outbox.Ring()
	}
	return outcomes, err
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/identity"
)

// astray is a store in which what is decided for one rollout cannot be.
type astray struct {
	store.Store
	id fleet.RolloutID
}

func (a astray) AdvanceRollouts(ctx context.Context, now time.Time, most int, d store.Deciding) (int, error) {
	decide := d.Decide
	d.Decide = func(s fleet.RolloutSnapshot, now time.Time) fleet.RolloutStep {
		step := decide(s, now)
		if s.Rollout.ID == a.id {
			s.Rollout.State = fleet.RolloutRolledBack
			step.Rollout = &s.Rollout
		}
		return step
	}
	return a.Store.AdvanceRollouts(ctx, now, most, d)
}

// rollout starts one of a version to a group of an agent.
func (w *world) rollout(config fleet.ConfigID, agent fleet.AgentID) fleet.Rollout {
	w.Helper()
	by, group := fleet.System("acme", w.now), fleet.GroupID(identity.NewAgentID())
	_, err := w.db.CreateGroup(w.Context(), by, fleet.Group{Tenant: "acme", ID: group, Name: string(group), CreatedAt: w.now})
	w.must(err)
	_, err = w.db.AddGroupMembers(w.Context(), by, group, []fleet.AgentID{agent}, 1)
	w.must(err)
	made, err := w.db.CreateRollout(w.Context(), by, fleet.Rollout{
		Tenant: "acme", ID: fleet.RolloutID(identity.NewAgentID()), Kind: fleet.RolloutForward, Plan: fleet.RolloutPlan{Waves: []fleet.PlanWave{{Agents: 1}}, Agents: 1},
		Definition: fleet.RolloutDefinition{Group: group, Config: config, Version: 1, Advance: fleet.AdvanceAutomatic, Gates: fleet.DefaultGates(), Deadline: time.Minute},
	}, []fleet.Member{{Agent: agent, Wave: 1, Position: 1, State: fleet.MemberPending, Change: fleet.ChangeNew}})
	w.must(err)
	started, err := w.db.StartRollout(w.Context(), by, store.RolloutStart{Rollout: made.ID, Version: made.Version})
	w.must(err)
	return started
}

func TestOneRolloutHoldsUpNoOther(t *testing.T) {
	w := newWorld(t)
	agents, config := w.agents("acme", 2), w.version("acme")
	broken, whole := w.rollout(config, agents[0]), w.rollout(config, agents[1])
	r, err := NewRollouts(RolloutsDeps{Store: astray{w.db, broken.ID}, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}, Now: func() time.Time { return w.now }})
	w.must(err)
	n, err := r.Turn(t.Context())
	if n != 1 || !errors.Is(err, store.ErrState) || !strings.Contains(err.Error(), string(broken.ID)) {
		t.Errorf("turned %d, %v", n, err)
	}
	if n, err := r.Turn(t.Context()); n != 1 || err != nil {
		t.Errorf("turned again %d, %v: it is tried at once again", n, err)
	}
	is, err := w.db.Rollout(t.Context(), "acme", whole.ID)
	if err != nil || is.Wave != 1 {
		t.Errorf("the other is %+v, %v", is, err)
	}
	w.now = w.now.Add(store.RolloutPause)
	if _, err := r.Turn(t.Context()); !errors.Is(err, store.ErrState) {
		t.Errorf("after a while: %v", err)
	}
}

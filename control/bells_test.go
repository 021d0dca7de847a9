// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/run"
)

// recording is a store whose records wake some agents, or none.
type recording struct {
	store.Store
	woken int
}

func (r recording) Record(context.Context, store.Record) (store.Recorded, error) {
	return store.Recorded{Applied: 1, Woken: r.woken}, nil
}

// advancing is a store that advanced a rollout.
type advancing struct{ store.Store }

func (advancing) AdvanceRollouts(context.Context, time.Time, int, store.Deciding) (int, error) {
	return 1, nil
}

// TestBellsRing: whatever may give engine, outbox or rollouts something to do ends their rest. Whether it succeeded does not matter,
// and most of these do not.
func TestBellsRing(t *testing.T) {
	const engine, outbox, rollouts = "engine", "outbox", "rollouts"
	by, now := fleet.System("default", time.Now()), time.Now()
	sends := []store.Decision{{Step: fleet.Step{Send: true}}}
	db := backends["sqlite"](t)
	for name, c := range map[string]struct {
		do   func(r ringing)
		want []string
	}{
		"Assign":             {func(r ringing) { _, _, _ = r.Assign(t.Context(), by, fleet.Assignment{}, 1) }, []string{engine}},
		"Unassign":           {func(r ringing) { _ = r.Unassign(t.Context(), by, fleet.Target{}) }, []string{engine}},
		"ClearAttempts":      {func(r ringing) { _, _ = r.ClearAttempts(t.Context(), by, "a") }, []string{engine}},
		"DeleteGroup":        {func(r ringing) { _ = r.DeleteGroup(t.Context(), by, "g") }, []string{engine}},
		"AddGroupMembers":    {func(r ringing) { _, _ = r.AddGroupMembers(t.Context(), by, "g", nil, 1) }, []string{engine}},
		"RemoveGroupMembers": {func(r ringing) { _, _ = r.RemoveGroupMembers(t.Context(), by, "g", nil) }, []string{engine}},
		"Claim":              {func(r ringing) { _, _ = r.Claim(t.Context(), nil) }, []string{engine, outbox}},
		"RegisterGateway": {func(r ringing) {
			_ = r.RegisterGateway(t.Context(), fleet.Gateway{ID: "g", StartedAt: now, LeaseUntil: now})
		}, []string{outbox}},
		"RevokeCertificates": {func(r ringing) { _, _ = r.RevokeCertificates(t.Context(), by, fleet.Revocation{}) }, []string{outbox}},
		"ChangeSigningKey":   {func(r ringing) { _, _, _ = r.ChangeSigningKey(t.Context(), by, fleet.KeyChange{}) }, []string{outbox}},
		"EndLost":            {func(r ringing) { _, _ = r.EndLost(t.Context(), now, now) }, []string{outbox}},
		"Resync":             {func(r ringing) { _, _ = r.Resync(t.Context(), 1, "", now) }, []string{outbox}},
		"a step that sends":  {func(r ringing) { _, _ = r.Apply(t.Context(), "default", sends, now) }, []string{outbox}},
		"a step that tells a rollout": {func(r ringing) {
			_, _ = r.Apply(t.Context(), "default", []store.Decision{{Step: fleet.Step{Member: &fleet.Member{}}}}, now)
		}, []string{rollouts}},
		"StartRollout": {func(r ringing) { _, _ = r.StartRollout(t.Context(), by, store.RolloutStart{}) }, []string{engine, rollouts}},
		"Steer":        {func(r ringing) { _, _ = r.Steer(t.Context(), by, "r", "rollout.pause", nil) }, []string{engine, outbox, rollouts}},
		"AddMembers":   {func(r ringing) { _, _ = r.AddMembers(t.Context(), "default", "r", nil, now) }, []string{rollouts}},
		"Release":      {func(r ringing) { _, _ = r.Release(t.Context(), "default", "g", 1, now) }, []string{engine}},
		"AdvanceRollouts of none": {func(r ringing) {
			_, _ = r.AdvanceRollouts(t.Context(), now, 1, store.Deciding{})
		}, nil},
		"AdvanceRollouts": {func(r ringing) {
			r.Store = advancing{db}
			_, _ = r.AdvanceRollouts(t.Context(), now, 1, store.Deciding{})
		}, []string{engine}},
		"PutSchedule":    {func(r ringing) { _, _ = r.PutSchedule(t.Context(), by, fleet.Schedule{}) }, []string{rollouts}},
		"DeleteSchedule": {func(r ringing) { _ = r.DeleteSchedule(t.Context(), by, "s") }, []string{rollouts}},
		"PutBudget":      {func(r ringing) { _, _ = r.PutBudget(t.Context(), by, fleet.Budget{}) }, []string{rollouts}},
		"DeleteBudget":   {func(r ringing) { _ = r.DeleteBudget(t.Context(), by, "b") }, []string{rollouts}},
		"a step that does not": {func(r ringing) {
			_, _ = r.Apply(t.Context(), "default", []store.Decision{{}}, now)
		}, nil},
		"a record that wakes": {func(r ringing) {
			r.Store = recording{db, 1}
			_, _ = r.Record(t.Context(), store.Record{})
		}, []string{engine}},
		"a record that does not": {func(r ringing) {
			r.Store = recording{db, 0}
			_, _ = r.Record(t.Context(), store.Record{})
		}, nil},
	} {
		r := ringing{Store: db, engine: run.NewBell(), outbox: run.NewBell(), rollouts: run.NewBell()}
		c.do(r)
		got := map[string]bool{engine: rang(r.engine), outbox: rang(r.outbox), rollouts: rang(r.rollouts)}
		want := map[string]bool{}
		for _, bell := range c.want {
			want[bell] = true
		}
		if got[engine] != want[engine] || got[outbox] != want[outbox] || got[rollouts] != want[rollouts] {
			t.Errorf("%s rang %v, want %v", name, got, c.want)
		}
	}
}

// rang reports whether a loop that rests for ever would look again.
func rang(bell *run.Bell) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second/10)
	defer cancel()
	turns := 0
	_ = run.Loop(ctx, run.Pace{Idle: time.Hour, Bell: bell}, func(context.Context) (int, error) {
		if turns++; turns == 2 {
			cancel()
		}
		return 0, nil
	}, func(error) {})
	return turns == 2
}

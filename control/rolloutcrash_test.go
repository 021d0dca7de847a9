// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/rollout"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/identity"
)

const (
	rolled = 12 // agents
	batch  = 4
)

// rolling is a rollout of the second version of a configuration to a group of a crowd that runs the first.
type rolling struct {
	*testing.T
	db     store.Store
	crowd  *crowd
	id     fleet.RolloutID
	byWave map[int][]*simulated
}

// roll makes and starts one on what the store itself says, without the faults of the loops.
func roll(t *testing.T, db store.Store, p *plane, c *crowd, prepare func(r *rolling)) *rolling {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	created, err := p.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "edge"})
	must(err)
	group, config := created.GetGroup().GetId(), p.published(t, "edge", bodyOne)
	var members []string
	for id := range c.agents {
		members = append(members, id)
	}
	_, err = p.groups.AddGroupMembers(t.Context(), &amporav1.AddGroupMembersRequest{Id: group, AgentIds: members})
	must(err)
	_, err = p.assign.Assign(t.Context(), &amporav1.AssignRequest{ConfigId: config, Target: &amporav1.Target{Target: &amporav1.Target_GroupId{GroupId: group}}})
	must(err)
	for id := range c.agents {
		p.deliveryOf(t, id, amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
	}
	p.next(t, config, bodyTwo)

	gates := fleet.DefaultGates()
	gates.Disconnect.Off, gates.Mismatch.Off, gates.Unhealthy.Window = true, true, 300*time.Millisecond
	def := fleet.RolloutDefinition{
		Group: fleet.GroupID(group), Config: fleet.ConfigID(config), Version: 2, Strategy: fleet.Strategy{Kind: fleet.StrategyBatch, Size: batch},
		Advance: fleet.AdvanceAutomatic, Order: fleet.Order{Kind: fleet.OrderRandom, Seed: 7}, Gates: gates, Late: fleet.LateFreeze, Deadline: time.Minute,
	}
	candidates, err := db.RolloutCandidates(t.Context(), "default", store.RolloutScope{Group: def.Group, Config: def.Config, Version: def.Version})
	must(err)
	now := time.Now()
	plan, planned := rollout.Draw(fleet.RolloutForward, def, candidates, now)
	by := fleet.System("default", now)
	made, err := db.CreateRollout(t.Context(), by, fleet.Rollout{
		Tenant: "default", ID: fleet.RolloutID(identity.NewAgentID()), Kind: fleet.RolloutForward, Definition: def, Plan: plan,
	}, planned)
	must(err)
	r := &rolling{T: t, db: db, crowd: c, id: made.ID, byWave: map[int][]*simulated{}}
	for _, m := range planned {
		r.byWave[m.Wave] = append(r.byWave[m.Wave], c.agents[string(m.Agent)])
	}
	prepare(r)
	_, err = db.StartRollout(t.Context(), by, store.RolloutStart{Rollout: made.ID, Version: made.Version})
	must(err)
	return r
}

// stands is where a rollout and its members stand, without the times.
type stands struct {
	State   fleet.RolloutState
	Wave    int
	Reason  string
	Waves   []fleet.Counts
	Members []string
}

func (r *rolling) stands() stands {
	r.Helper()
	is, err := r.db.Rollout(r.Context(), "default", r.id)
	if err != nil {
		r.Fatal(err)
	}
	s := stands{State: is.State, Wave: is.Wave, Reason: is.Reason}
	waves, err := r.db.RolloutWaves(r.Context(), "default", r.id)
	if err != nil {
		r.Fatal(err)
	}
	for _, w := range waves {
		s.Waves = append(s.Waves, w.Counts)
	}
	for _, m := range r.members() {
		s.Members = append(s.Members, fmt.Sprint(m.Position, m.Wave, m.State, m.Reason, m.Gone, m.Unhealthy, m.Mismatch, m.Overdue))
	}
	return s
}

func (r *rolling) members() []store.MemberView {
	r.Helper()
	members, _, err := r.db.Members(r.Context(), "default", r.id, fleet.MemberFilter{}, fleet.Page{Size: 100})
	if err != nil {
		r.Fatal(err)
	}
	return members
}

// becomes waits until the rollout is in a state.
func (r *rolling) becomes(state fleet.RolloutState) {
	r.Helper()
	eventually(r.T, "the rollout becomes "+string(state), func() error {
		if is := r.stands(); is.State != state {
			return fmt.Errorf("it is %+v", is)
		}
		return nil
	})
}

// wantCounted fails the test unless the counts of each wave are those of its members.
func (r *rolling) wantCounted() {
	r.Helper()
	want := map[int]fleet.Counts{}
	for _, m := range r.members() {
		want[m.Wave] = want[m.Wave].Plus(fleet.Tally(m.Member))
	}
	waves, err := r.db.RolloutWaves(r.Context(), "default", r.id)
	if err != nil {
		r.Fatal(err)
	}
	for _, w := range waves {
		if w.Counts != want[w.Wave] {
			r.Errorf("wave %d counts %+v, its members are %+v", w.Wave, w.Counts, want[w.Wave])
		}
	}
}

// wantInOrder fails the test if an agent of a wave was pushed to before all of the wave before had answered, or one was
// given the version more than once.
func (r *rolling) wantInOrder() {
	r.Helper()
	answered := map[int]time.Time{}
	for _, m := range r.members() {
		if m.SettledAt.After(answered[m.Wave]) {
			answered[m.Wave] = m.SettledAt
		}
	}
	for _, m := range r.members() {
		if m.AdmittedAt.Before(answered[m.Wave-1]) {
			r.Errorf("the agent at %d of wave %d was let in at %s, and wave %d answered until %s", m.Position, m.Wave, m.AdmittedAt, m.Wave-1, answered[m.Wave-1])
		}
		if n := r.crowd.offers(r.crowd.agents[string(m.Agent)], bodyTwo); n != 1 {
			r.Errorf("the agent at %d was given the version %d times", m.Position, n)
		}
	}
}

// completed is how a rollout stands in the end if nothing goes wrong.
func completed(t *testing.T, db store.Store, f *failing) stands {
	t.Helper()
	f.Store = db
	f.calm.Store(true)
	b := newBus(t)
	p := start(t, f, b, newMasterKey())
	c := newCrowd(t, p, b, rolled)
	r := roll(t, db, p, c, func(*rolling) { f.calm.Store(false) })
	r.becomes(fleet.RolloutCompleted)
	f.calm.Store(true)
	r.wantCounted()
	r.wantInOrder()
	return r.stands()
}

// TestRolloutsEndTheSameWhateverFails: whichever calls of the loops fail, before or after their effect, a rollout of three
// waves stands in the end as if nothing had failed.
func TestRolloutsEndTheSameWhateverFails(t *testing.T) {
	t.Parallel()
	for backend, open := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			want := completed(t, open(t), &failing{draw: inTurn()})
			if want.Wave != rolled/batch || len(want.Members) != rolled {
				t.Fatalf("undisturbed: %+v", want)
			}
			for name, draw := range map[string]func(string) harm{
				"rollouts, outbox and inbox": inTurn("AdvanceRollouts", "ClaimDispatches", "Record"),
				"what the engine claims":     inTurn("ClaimWork"),
				"what the engine reads":      inTurn("Situations"),
				"what the engine writes":     inTurn("Apply", "MarkSent"),
				"a quarter of all":           atRandom(3),
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					f := &failing{draw: draw}
					if got := completed(t, open(t), f); !reflect.DeepEqual(got, want) {
						t.Errorf("it ends as\n%+v, undisturbed as\n%+v", got, want)
					}
					if n := f.faults.Load(); n < 5 {
						t.Errorf("only %d faults were injected", n)
					}
				})
			}
		})
	}
}

// TestABreachHoldsWhateverFails: an agent of the second wave fails, and however calls of the loops fail, the rollout is
// paused for it, and nobody of the third wave is given anything.
func TestABreachHoldsWhateverFails(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		f := &failing{Store: db, draw: atRandom(5)}
		f.calm.Store(true)
		b := newBus(t)
		p := start(t, f, b, newMasterKey())
		c := newCrowd(t, p, b, rolled)
		r := roll(t, db, p, c, func(r *rolling) {
			c.breaks(r.byWave[2][1], bodyTwo)
			f.calm.Store(false)
		})
		r.becomes(fleet.RolloutPaused)
		c.holds(r.byWave[2][1], bodyOne) // it has its former one again
		f.calm.Store(true)
		if is := r.stands(); is.Wave != 2 || is.Waves[len(is.Waves)-1].Touched != 0 {
			t.Errorf("it stands at %+v", is)
		}
		for _, a := range r.byWave[3] {
			if c.offers(a, bodyTwo) != 0 {
				t.Errorf("agent %s of the third wave was given the version", a.id)
			}
		}
		r.wantCounted()
	})
}

// TestReplicasRollTogether: two control planes on one database; one ends in the middle of a rollout, and the other goes on.
func TestReplicasRollTogether(t *testing.T) {
	t.Parallel()
	db := backends["postgres"](t)
	b, key := newBus(t), newMasterKey()
	first, second := start(t, db, b, key), start(t, db, b, key)
	c := newCrowd(t, second, b, rolled)
	r := roll(t, db, second, c, func(*rolling) {})
	eventually(t, "the second wave is open", func() error {
		if r.stands().Wave < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	first.stop()
	r.becomes(fleet.RolloutCompleted)
	r.wantCounted()
	r.wantInOrder()
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/bus"
)

// racers is how many try at once.
const racers = 8

// together is what holds when many do it at once.
var together = suite{
	"claims of one agent get epochs of their own":                    claimsAtOnce,
	"of claims that give way to others one gets the session":         givingWayAtOnce,
	"one of many identities gets a new uid":                          uidAtOnce,
	"a parent gets no more children than it is allowed":              childrenAtOnce,
	"a partition goes to one of many":                                partitionAtOnce,
	"nothing is recorded once the lease was taken over":              recordAtOnce,
	"no item goes to two claimers":                                   workAtOnce,
	"no dispatch goes to two senders":                                dispatchesAtOnce,
	"no dispatch is put off when its agent has claimed":              strandedAtOnce,
	"no session of an earlier boot is left open":                     restartAtOnce,
	"of many keys one joins with a token":                            joinAtOnce,
	"of many tenants one has a new gateway's name":                   namesAtOnce,
	"a revoked gateway is left no session and no lease":              revokeAtOnce,
	"a duty goes to one of many":                                     dutyAtOnce,
	"all replicas that live are told of":                             replicasAtOnce,
	"no wake is lost between a claim of work and its settlement":     wakesAtOnce,
	"of two steps decided on one situation the second is a conflict": applyAtOnce,
	"who joins a group while it is unassigned is looked at again":    unassignAtOnce,
	"all that is done to many agents at once is done":                manyAtOnce,
}

func claimsAtOnce(w *world) {
	a, g := w.enrol(), w.gateway("gw", 1)
	results := atOnce(w, racers, func(int) (fleet.Epoch, error) {
		c := w.claimOf(a, g)
		for {
			result, err := w.claimAlone(c)
			if err != nil || result.Outcome == fleet.ClaimClaimed {
				return result.Epoch, err
			}
			c.Takeover, c.Contested = fleet.TakeoverRestart, result.HolderEpoch
		}
	})
	slices.Sort(results)
	for i, epoch := range results {
		if epoch != fleet.Epoch(i+1) {
			w.Fatalf("epochs are %v", results)
		}
	}
}

// givingWayAtOnce lets an agent claim at many gateways at once, without a word on who shall have it.
func givingWayAtOnce(w *world) {
	a := w.enrol()
	w.connect(a, w.gateway("before", 1))
	w.pass(time.Minute) // it is gone
	var gateways []fleet.Gateway
	for i := range racers {
		gateways = append(gateways, w.gateway(fleet.GatewayID(fmt.Sprint("gw-", i)), 1))
	}
	results := atOnce(w, racers, func(i int) (fleet.ClaimResult, error) { return w.claimAlone(w.claimOf(a, gateways[i])) })
	won := 0
	for _, r := range results {
		switch {
		case r.Outcome == fleet.ClaimClaimed && r.Epoch == 2:
			won++
		case r.Outcome != fleet.ClaimHeld || r.HolderEpoch != 2:
			w.Errorf("a result is %+v", r)
		}
	}
	if won != 1 {
		w.Errorf("%d claims got the session", won)
	}
}

func uidAtOnce(w *world) {
	g, uid := w.gateway("gw", 1), newUID()
	var claims []fleet.Claim
	for range racers {
		a := w.enrol()
		a.uid = uid
		claims = append(claims, w.claimOf(a, g))
	}
	results := atOnce(w, racers, func(i int) (fleet.ClaimResult, error) { return w.claimAlone(claims[i]) })
	claimed := 0
	for _, r := range results {
		switch {
		case r.Outcome == fleet.ClaimClaimed:
			claimed++
		case r.Reason != fleet.RefusedForeignUID:
			w.Errorf("the result is %+v", r)
		}
	}
	if claimed != 1 {
		w.Errorf("%d identities have the uid", claimed)
	}
}

func childrenAtOnce(w *world) {
	s := w.connected()
	_, err := w.AllowChildren(w.Context(), w.by(), s.id, 3)
	w.must(err)
	results := atOnce(w, racers, func(int) (fleet.ClaimResult, error) {
		c := w.claimOf(s.agent, s.gateway)
		c.UID = newUID()
		return w.claimAlone(c)
	})
	born := map[fleet.AgentID]bool{}
	for _, r := range results {
		switch {
		case r.Outcome == fleet.ClaimClaimed:
			born[r.Agent] = true
		case r.Reason != fleet.RefusedChildrenExhausted:
			w.Errorf("the result is %+v", r)
		}
	}
	if len(born) != 3 {
		w.Errorf("%d children were born", len(born))
	}
}

func partitionAtOnce(w *world) {
	var epochs []int64
	for range 3 {
		taken, failures := race(racers, func(i int) (store.PartitionLease, error) {
			return w.acquire(5, fmt.Sprintf("inbox-%d", i))
		})
		if len(taken) != 1 {
			w.Fatalf("%d hold the partition", len(taken))
		}
		for _, err := range failures {
			w.want(err, store.ErrLeaseLost)
		}
		epochs = append(epochs, taken[0].Epoch)
		w.pass(time.Minute)
	}
	if !slices.IsSorted(epochs) || epochs[0] < 1 {
		w.Errorf("epochs are %v", epochs)
	}
}

// recordAtOnce lets a reader record on while another takes its lease over: what was recorded before, and nothing else,
// is what the other finds.
func recordAtOnce(w *world) {
	s := w.connected()
	lease := w.lease(5)
	later := *w
	later.pass(2 * time.Minute)
	var recorded atomic.Int64
	taken := atOnce(w, 2, func(i int) (store.PartitionLease, error) {
		if i == 1 {
			return later.acquire(5, "inbox-2")
		}
		for n := int64(1); n <= 50; n++ {
			r := w.report(s, fleet.Sequence(n), "x", fleet.PartHealth)
			_, err := w.Record(w.Context(), store.Record{Lease: lease, Position: fmt.Sprint(n), Uplinks: []fleet.Uplink{{Report: r}}, At: w.now})
			if errors.Is(err, store.ErrLeaseLost) {
				break
			}
			if err != nil {
				return store.PartitionLease{}, err
			}
			recorded.Store(n)
		}
		return store.PartitionLease{}, nil
	})
	last := fleet.Sequence(recorded.Load())
	if got := w.parts(s.id)[fleet.PartHealth]; got.Stamp.Sequence != last {
		w.Errorf("the part is of message %d, recorded were %d", got.Stamp.Sequence, last)
	}
	if len(taken) != 2 {
		w.FailNow()
	}
	found := taken[0].Position + taken[1].Position // one of them is no lease
	_, err := w.Record(w.Context(), store.Record{Lease: lease, Position: "never", At: w.now})
	w.want(err, store.ErrLeaseLost)
	if want := fmt.Sprint(last); found != want && (found != "" || last != 0) {
		w.Errorf("the position taken over is %q, recorded was %q", found, want)
	}
}

func workAtOnce(w *world) {
	g := w.gateway("gw", 1)
	const items = 20
	for range items {
		w.connect(w.enrol(), g)
	}
	claims := atOnce(w, racers, func(int) ([]store.WorkItem, error) {
		return w.ClaimWork(w.Context(), w.now, w.now.Add(time.Minute), 5)
	})
	got := map[fleet.AgentID]int{}
	for _, item := range slices.Concat(claims...) {
		got[item.Agent]++
	}
	for _, item := range w.work() { // what the racers left each other
		got[item.Agent]++
	}
	for id, n := range got {
		if n != 1 {
			w.Errorf("agent %s was claimed %d times", id, n)
		}
	}
	if len(got) != items {
		w.Errorf("%d items were claimed, want %d", len(got), items)
	}
}

func dispatchesAtOnce(w *world) {
	g := w.gateway("gw", 1)
	const agents = 20
	for range agents {
		s := w.connect(w.enrol(), g)
		_, err := w.Resync(w.Context(), s.partition, "", w.now)
		w.must(err)
	}
	claims := atOnce(w, racers, func(int) ([]fleet.Dispatch, error) {
		return w.ClaimDispatches(w.Context(), w.now, w.now.Add(time.Minute), 5)
	})
	got := map[fleet.AgentID]int{}
	for _, d := range append(slices.Concat(claims...), w.dispatches()...) {
		got[d.Agent]++
	}
	for id, n := range got {
		if n != 1 {
			w.Errorf("agent %s was claimed %d times", id, n)
		}
	}
	if len(got) != agents {
		w.Errorf("%d dispatches were claimed, want %d", len(got), agents)
	}
}

// strandedAtOnce lets the agents of a dead gateway claim at others, which register at that moment, while senders put off
// what is for them.
func strandedAtOnce(w *world) {
	dead := w.gateway("dead", 1)
	agents := make([]agent, racers)
	for i := range agents {
		agents[i] = w.enrol()
		w.ask(w.connect(agents[i], dead))
	}
	w.pass(time.Minute + store.LeaseGrace)
	var claimed atomic.Int64
	sent := atOnce(w, 2*racers, func(i int) (due []fleet.Dispatch, err error) {
		if i >= racers {
			for err == nil && claimed.Load() < racers {
				var one []fleet.Dispatch
				one, err = w.ClaimDispatches(w.Context(), w.now, w.now.Add(time.Minute), 1)
				due = append(due, one...)
			}
			return due, err
		}
		defer claimed.Add(1)
		g := fleet.Gateway{ID: fleet.GatewayID(fmt.Sprint("gw-", i)), BootID: 1, StartedAt: w.now, LeaseUntil: w.now.Add(time.Minute)}
		if err := w.RegisterGateway(w.Context(), g); err != nil {
			return nil, err
		}
		_, err = w.claimAlone(w.claimOf(agents[i], g))
		return nil, err
	})
	got := map[fleet.AgentID]int{}
	for _, d := range append(slices.Concat(sent...), w.dispatches()...) {
		got[d.Agent]++
	}
	for _, a := range agents {
		if got[a.id] != 1 {
			w.Errorf("agent %s was asked %d times", a.id, got[a.id])
		}
	}
}

// restartAtOnce lets agents claim at a gateway, and their reports be recorded, while it comes back under another boot.
func restartAtOnce(w *world) {
	old := w.gateway("gw", 1)
	lease := w.lease(5)
	agents := make([]agent, racers)
	for i := range agents {
		agents[i] = w.enrol()
	}
	again := fleet.Gateway{ID: old.ID, BootID: 2, StartedAt: w.now, LeaseUntil: w.now.Add(time.Minute)}
	atOnce(w, racers+1, func(i int) (bool, error) {
		if i == racers {
			return true, w.RegisterGateway(w.Context(), again)
		}
		result, err := w.claimAlone(w.claimOf(agents[i], old))
		if errors.Is(err, store.ErrLeaseLost) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		r := w.report(session{agents[i], old, result.Epoch}, 1, "x", fleet.PartDescription, fleet.PartHealth)
		_, err = w.Record(w.Context(), store.Record{Lease: lease, Position: "p", Uplinks: []fleet.Uplink{{Report: r}}, At: w.now})
		return true, err
	})
	w.pass(time.Second)
	if _, err := w.EndLost(w.Context(), again.StartedAt, w.now); err != nil {
		w.Fatal(err)
	}
	for _, a := range agents {
		if got := w.agent(a.id).Session; got.Epoch > 0 && got.EndedAt.IsZero() {
			w.Errorf("a session of the earlier boot is open: %+v", got)
		}
	}
}

func joinAtOnce(w *world) {
	t := w.joinToken("gw")
	joined, failures := race(racers, func(i int) (fleet.Gateway, error) {
		return w.Join(w.Context(), w.joining(t, fmt.Sprint("key ", i)))
	})
	if len(joined) != 1 || len(failures) != racers-1 {
		w.Fatalf("%d joined, %d failed", len(joined), len(failures))
	}
	for _, err := range failures {
		w.want(err, store.ErrState)
	}
	if got := w.foundGateway("gw"); got.Serial != joined[0].Serial {
		w.Errorf("recorded is %+v, joined %+v", got, joined[0])
	}
}

func namesAtOnce(w *world) {
	var tokens []fleet.JoinToken
	for i := range racers {
		tokens = append(tokens, w.in(fleet.TenantID(fmt.Sprint("tenant-", i))).joinToken("gw"))
	}
	joined, failures := race(racers, func(i int) (fleet.Gateway, error) {
		return w.Join(w.Context(), w.joining(tokens[i], "key"))
	})
	if len(joined) != 1 {
		w.Fatalf("%d joined", len(joined))
	}
	for _, err := range failures {
		w.want(err, store.ErrState)
	}
	if got := w.foundGateway("gw"); !reflect.DeepEqual(got, joined[0]) {
		w.Errorf("recorded is %+v, joined %+v", got, joined[0])
	}
}

// revokeAtOnce revokes a gateway while agents claim at it, it renews its lease, and it comes back under another boot.
func revokeAtOnce(w *world) {
	w.join(w.joinToken("gw"))
	g := w.gateway("gw", 1)
	again := g
	again.BootID = 2
	agents := make([]agent, racers)
	for i := range agents {
		agents[i] = w.enrol()
	}
	race(racers+3, func(i int) (bool, error) {
		switch i {
		case racers:
			_, err := w.RevokeGateway(w.Context(), w.by(), "gw")
			return true, err
		case racers + 1:
			return true, w.RegisterGateway(w.Context(), again)
		case racers + 2:
			return true, w.renew(g, false)
		default:
			_, err := w.claimAlone(w.claimOf(agents[i], g))
			return true, err
		}
	})
	if got := w.foundGateway("gw"); got.State(w.now) != fleet.GatewayRevoked || got.LeaseUntil.After(w.now) {
		w.Errorf("it is %s: %+v", got.State(w.now), got)
	}
	for _, a := range agents {
		if got := w.agent(a.id).Session; got.Epoch > 0 && got.EndedAt.IsZero() {
			w.Errorf("a session of the revoked gateway is open: %+v", got)
		}
	}
}

// dutyAtOnce lets replicas that have just begun take a duty, over and over.
func dutyAtOnce(w *world) {
	for round := range 10 {
		taken, failures := race(racers, func(i int) (string, error) {
			holder := fmt.Sprint("replica-", round, "-", i)
			if err := w.replica(holder); err != nil {
				return "", err
			}
			return holder, w.AcquireDuty(w.Context(), "pruning", holder, w.now)
		})
		if len(taken) != 1 {
			w.Fatalf("%q have the duty", taken)
		}
		for _, err := range failures {
			w.want(err, store.ErrLeaseLost)
		}
		w.pass(time.Minute)
	}
}

// replicasAtOnce lets replicas renew while there are others to forget.
func replicasAtOnce(w *world) {
	for i := range racers {
		w.must(w.replica(fmt.Sprint("former-", i)))
	}
	w.pass(2 * time.Hour)
	atOnce(w, racers, func(i int) ([]string, error) {
		r := fleet.Replica{ID: fmt.Sprint("replica-", i), StartedAt: w.now, LeaseUntil: w.now.Add(time.Minute)}
		return w.RenewReplica(w.Context(), r, w.now)
	})
	if living := w.renewed("replica-0"); len(living) != racers {
		w.Errorf("living are %q", living)
	}
}

func wakesAtOnce(w *world) {
	s := w.connected()
	for range 20 {
		item := w.item()
		situation := w.situation(item)
		w.pass(time.Second)
		atOnce(w, 2, func(i int) (bool, error) {
			if i == 0 {
				err := w.do(item, situation, fleet.Step{})
				if errors.Is(err, store.ErrConflict) { // it was woken first
					err = nil
				}
				return true, err
			}
			_, err := w.ClearAttempts(w.Context(), w.by(), s.id)
			return true, err
		})
	}
	w.item()
}

func applyAtOnce(w *world) {
	w.connected()
	v := w.version("v1")
	item := w.item()
	situation := w.situation(item)
	done, failures := race(racers, func(i int) (bool, error) {
		g := fleet.Grant{Version: v, State: fleet.GrantOpen, Reason: fleet.GrantAssigned, Generation: 1, OpenedAt: w.now}
		return true, w.do(item, situation, fleet.Step{Grant: &g, Send: true})
	})
	if len(done) != 1 {
		w.Errorf("%d steps were done", len(done))
	}
	for _, err := range failures {
		w.want(err, store.ErrConflict)
	}
}

// unassignAtOnce lets agents join a group while its assignment is removed, with an engine that looks at each as soon as
// it is woken. Its last look at each must find nothing assigned.
func unassignAtOnce(w *world) {
	v := w.version("v1")
	for round := range 10 {
		g := w.group(fmt.Sprint("web", round))
		w.assign(fleet.Target{Group: g.ID}, v)
		agents := make([]fleet.AgentID, racers)
		for i := range agents {
			agents[i] = w.member("")
		}
		assigned := map[fleet.AgentID]bool{}
		var done atomic.Int64
		atOnce(w, racers+2, func(i int) (bool, error) {
			if i > racers {
				var err error
				for err == nil && done.Load() <= racers {
					err = w.look(assigned)
				}
				return true, err
			}
			defer done.Add(1)
			if i == racers {
				return true, w.Unassign(w.Context(), w.by(), fleet.Target{Group: g.ID})
			}
			_, err := w.AddGroupMembers(w.Context(), w.by(), g.ID, agents[i:i+1], fleet.ImmediateLimit)
			return true, err
		})
		w.must(w.look(assigned))
		for id, still := range assigned {
			if still {
				w.Errorf("agent %s was last seen with an assignment that is none", id)
			}
		}
	}
}

// look claims what is due and notes of each agent whether something is assigned to it.
func (w *world) look(assigned map[fleet.AgentID]bool) error {
	items, err := w.ClaimWork(w.Context(), w.now, w.now.Add(time.Minute), 1000)
	if err != nil {
		return err
	}
	agents := make([]fleet.AgentID, len(items))
	for i, item := range items {
		agents[i] = item.Agent
	}
	situations, err := w.Situations(w.Context(), w.tenant, agents, nil)
	for _, s := range situations {
		assigned[s.Agent] = s.Assigned != nil
	}
	return err
}

// manyAtOnce lets everybody write about the same agents at the same time, each in an order of its own: who waits for
// whom must have an end, and a wake must not get lost.
func manyAtOnce(w *world) {
	const agents, rounds = 30, 5
	g, v := w.gateway("gw", 1), w.version("v1")
	lease := w.lease(5)
	group := w.group("all")
	sessions := make([]session, agents)
	members := make([]fleet.AgentID, agents)
	for i := range sessions {
		sessions[i] = w.connect(w.enrol(), g)
		members[i] = sessions[i].id
	}
	_, err := w.AddGroupMembers(w.Context(), w.by(), group.ID, members, agents)
	w.must(err)
	everybody := []func() error{
		func() error { // claims everybody's session again
			var claims []fleet.Claim
			for _, i := range rand.Perm(agents) {
				c := w.takeover(w.claimOf(sessions[i].agent, g), fleet.TakeoverRestart)
				claims = append(claims, c)
			}
			_, err := w.Claim(w.Context(), claims)
			return err
		},
		func() error { // records what everybody says
			var uplinks []fleet.Uplink
			for _, i := range rand.Perm(agents) {
				s := sessions[i]
				s.epoch = w.agent(s.id).Session.Epoch
				r := w.report(s, 1, "x", fleet.PartDescription, fleet.PartHealth)
				r.Wake = true
				uplinks = append(uplinks, fleet.Uplink{Report: r}, fleet.Uplink{Delivery: w.delivery(s, 1, fleet.Delivered)})
			}
			_, err := w.Record(w.Context(), store.Record{Lease: lease, Position: "p", Uplinks: uplinks, At: w.now})
			return err
		},
		func() error { return w.grantWhoIsDue(v) },
		func() error { return w.grantWhoIsDue(v) },
		func() error { // sends
			due, err := w.ClaimDispatches(w.Context(), w.now, w.now.Add(time.Second), agents)
			if err == nil {
				err = w.MarkSent(w.Context(), due, w.now)
			}
			return err
		},
		func() error { // asks everybody for full state
			for partition := range bus.Partitions {
				if _, err := w.Resync(w.Context(), partition, "", w.now); err != nil {
					return err
				}
			}
			return nil
		},
		func() error {
			_, _, err := w.Assign(w.Context(), w.by(), fleet.Assignment{
				Tenant: w.tenant, Target: fleet.Target{Group: group.ID}, Config: v.Config, Version: v.Version, CreatedBy: "ci", CreatedAt: w.now,
			}, agents)
			return err
		},
		func() error { return w.RegisterGateway(w.Context(), g) },
	}
	atOnce(w, len(everybody), func(i int) (bool, error) {
		for range rounds {
			if err := everybody[i](); err != nil {
				return false, fmt.Errorf("writer %d: %w", i, err)
			}
		}
		return true, nil
	})
	w.pass(time.Minute)
	if items := w.work(); len(items) != agents {
		w.Errorf("%d of %d agents are due: wakes got lost", len(items), agents)
	}
}

// grantWhoIsDue does what the engine does: it opens another grant for everybody who is due, and leaves the items due in a
// minute.
func (w *world) grantWhoIsDue(v fleet.VersionRef) error {
	items, err := w.ClaimWork(w.Context(), w.now, w.now.Add(time.Minute), 1000)
	if err != nil || len(items) == 0 {
		return err
	}
	agents := make([]fleet.AgentID, len(items))
	for i, item := range items {
		agents[i] = item.Agent
	}
	situations, err := w.Situations(w.Context(), w.tenant, agents, nil)
	if err != nil {
		return err
	}
	decided := make([]store.Decision, len(items))
	for i, on := range situations {
		g := fleet.Grant{Version: v, State: fleet.GrantOpen, Reason: fleet.GrantAssigned, Generation: 1, OpenedAt: w.now}
		if on.Grant != nil {
			g.Generation = on.Grant.Generation + 1
		}
		decided[i] = store.Decision{Item: items[i], On: on, Step: fleet.Step{
			Grant: &g, Send: true, Withdraw: i%2 == 0, Attempts: []fleet.Attempt{w.attempt(v, fleet.AttemptOffered)},
			Delivery: &fleet.Delivery{State: fleet.DeliveryPending, Since: w.now}, WakeAt: w.now.Add(time.Minute),
		}}
	}
	outcomes, err := w.Apply(w.Context(), w.tenant, decided, w.now)
	for _, outcome := range outcomes {
		if outcome != nil && !errors.Is(outcome, store.ErrConflict) { // woken meanwhile
			return outcome
		}
	}
	return err
}

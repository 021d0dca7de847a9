// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/loadtest/api"
	"gitlab.com/ampora/ampora/loadtest/swarm"
)

// Figures are what one measurement or several gave, by name.
type Figures map[string]float64

// Figures of the load.
const (
	heartbeat  = 30 * time.Second
	perAgent   = 40 // messages a second at most: a server may limit one agent to 50
	quietShare = 0.1
	quietTime  = time.Second
	quietLimit = 90 * time.Second
	comeLimit  = 10 * time.Minute
	pushLimit  = 5 * time.Minute
)

// crowd is agents that are connected to a target.
type crowd struct {
	*swarm.Swarm
	// receipts are of the configuration that is sent, applied of the agents' word that they have applied it.
	receipts, applied *receipts
}

// gather connects agents and waits until all were answered.
func (b Bench) gather(ctx context.Context, r *running, identities []swarm.Identity) (*crowd, error) {
	roots, err := api.RootsFrom(r.CAFile)
	if err != nil {
		return nil, err
	}
	c := &crowd{receipts: newReceipts(len(identities)), applied: newReceipts(len(identities))}
	c.Swarm, err = swarm.New(swarm.Config{
		Target: swarm.Target{Addresses: r.OpAMP, Roots: roots}, Transport: swarm.WebSocket, Name: "bench",
		Heartbeat: heartbeat, Dials: 128, ApplyDelay: [2]time.Duration{b.ApplyDelay, b.ApplyDelay},
		OnOffer: c.receipts.note, OnApplied: c.applied.note,
	}, identities)
	if err != nil {
		return nil, err
	}
	c.Start()
	ctx, cancel := context.WithTimeout(ctx, comeLimit)
	defer cancel()
	if err := c.Connected(ctx); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// flood measures the CPU of a heartbeat with its answer.
func (b Bench) flood(ctx context.Context, r *running, into Figures) error {
	c, err := b.gather(ctx, r, b.identities()[:b.FloodAgents])
	if err != nil {
		return err
	}
	defer c.Stop()
	if err := r.quiet(ctx); err != nil {
		return err
	}
	helpers := r.helpers()
	used, err := CPU(r.PIDs)
	before, helped := c.Count().Answers.Load(), used
	if err == nil {
		helped, err = CPU(helpers)
	}
	if err != nil {
		return err
	}
	refused := c.errors()
	begin := time.Now()
	flooding, cancel := context.WithTimeout(ctx, b.FloodTime)
	defer cancel()
	c.Flood(flooding, perAgent)
	seconds := time.Since(begin).Seconds()
	answers := float64(c.Count().Answers.Load() - before)
	usedAfter, err := CPU(r.PIDs)
	if err != nil {
		return err
	}
	helpedAfter, err := CPU(helpers)
	if err != nil {
		return err
	}
	into["flood messages/s"] = answers / seconds
	into["flood CPU µs/message"] = (usedAfter - used) / answers * 1e6
	into["flood helpers' CPU µs/message"] = (helpedAfter - helped) / answers * 1e6
	into["flood errors while connecting"] = float64(refused)
	if c.errors() > refused {
		return fmt.Errorf("a flood shall cause no errors: %v", c.Count().Errors())
	}
	return nil
}

// errors is how many errors the agents met until now.
func (c *crowd) errors() (n int64) {
	for _, count := range c.Count().Errors() {
		n += count
	}
	return n
}

// helpers are the processes whose CPU is told apart, as they are now.
func (r *running) helpers() (pids []int) {
	for _, root := range r.Helpers {
		pids = append(pids, family(root)...)
	}
	return pids
}

// quiet waits until the target and its helpers have nothing left to do, or it takes too long.
func (r *running) quiet(ctx context.Context) error {
	for end := time.Now().Add(quietLimit); time.Now().Before(end); {
		all := append(r.helpers(), r.PIDs...)
		before, err := CPU(all)
		if pause := sleep(ctx, quietTime); pause != nil {
			return pause
		}
		after, errAfter := CPU(all)
		// A helper may have ended meanwhile, and is none of the next look.
		if err == nil && errAfter == nil && after-before < quietShare*quietTime.Seconds() {
			return nil
		}
	}
	return nil
}

// memory measures what connections cost that are there and say little, then how long a
// configuration takes to all of them.
func (b Bench) memory(ctx context.Context, r *running, fleet *fleet, into Figures) error {
	empty, err := r.sizes(ctx, b.GCTime)
	if err != nil {
		return err
	}
	into["empty RSS MiB"] = empty.resident / 1024
	begin := time.Now()
	c, err := b.gather(ctx, r, b.identities())
	if err != nil {
		return err
	}
	defer c.Stop()
	into["connections/s"] = float64(c.Size()) / time.Since(begin).Seconds()
	into["errors while connecting"] = float64(c.errors())
	if err := r.quiet(ctx); err != nil {
		return err
	}
	if err := sleep(ctx, b.IdleTime); err != nil {
		return err
	}
	running, err := Resident(r.PIDs)
	if err != nil {
		return err
	}
	full, err := r.sizes(ctx, b.GCTime)
	if err != nil {
		return err
	}
	n := float64(c.Size())
	into["RSS as running KiB/connection"] = (running - empty.resident) / n
	into["RSS after GC KiB/connection"] = (full.resident - empty.resident) / n
	into["heap after GC KiB/connection"] = (full.heap - empty.heap) / n
	into["stacks KiB/connection"] = (full.stacks - empty.stacks) / n
	return b.push(ctx, r, fleet, c, into)
}

// sizes are of a target after it has collected its garbage, in KiB.
type sizes struct{ resident, heap, stacks float64 }

func (r *running) sizes(ctx context.Context, wait time.Duration) (s sizes, err error) {
	if err = r.collect(ctx, wait); err != nil {
		return s, err
	}
	if s.resident, err = Resident(r.PIDs); err != nil {
		return s, err
	}
	if s.heap, err = r.metric(ctx, "go_memstats_heap_inuse_bytes"); err != nil {
		return s, err
	}
	s.stacks, err = r.metric(ctx, "go_memstats_stack_inuse_bytes")
	s.heap, s.stacks = s.heap/1024, s.stacks/1024
	return s, err
}

// push measures some fan-outs and takes the median of each figure.
func (b Bench) push(ctx context.Context, r *running, fleet *fleet, c *crowd, into Figures) error {
	var rounds []Figures
	for range b.Pushes {
		round := Figures{}
		if err := b.pushOnce(ctx, r, fleet, c, round); err != nil {
			return err
		}
		rounds = append(rounds, round)
	}
	for name, value := range medians(rounds) {
		into[name] = value
	}
	return fleet.withdraw(ctx, r)
}

func (b Bench) pushOnce(ctx context.Context, r *running, fleet *fleet, c *crowd, into Figures) error {
	if err := r.quiet(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pushLimit)
	defer cancel()
	send, hash, err := fleet.prepare(ctx, r)
	if err != nil {
		return err
	}
	c.receipts.expect(hash)
	c.applied.expect(hash)
	begin := time.Now()
	if err := send(ctx); err != nil {
		return err
	}
	called := time.Since(begin).Seconds()
	if err := b.tell(ctx, c, c.receipts, "push", begin, into); err != nil {
		return err
	}
	if err := b.tell(ctx, c, c.applied, "applied", begin, into); err != nil {
		return err
	}
	into["push call ms"] = called * 1e3
	if r.Push == "" { // a plain server has no rollouts that could be completed
		completed, err := fleet.complete(ctx, r, begin)
		if err != nil {
			return err
		}
		into["completed ms"] = float64(completed.Milliseconds())
	}
	return c.Calm(ctx)
}

// tell waits until something has happened to all agents, and tells how long it took.
func (b Bench) tell(ctx context.Context, c *crowd, what *receipts, name string, begin time.Time, into Figures) error {
	latencies, err := what.all(ctx, begin)
	if missing, ok := errors.AsType[missingError](err); ok {
		id := b.identities()[missing[0]].Agent()
		return fmt.Errorf("%s: %w; the first of them is %s:\n%s", name, err, id, strings.Join(c.Story(id), "\n"))
	}
	if err != nil {
		return err
	}
	slices.Sort(latencies)
	at := func(share float64) float64 { return latencies[int(share*float64(len(latencies)-1))] * 1e3 }
	into[name+" p50 ms"], into[name+" p99 ms"], into[name+" last ms"] = at(0.5), at(0.99), at(1)
	return nil
}

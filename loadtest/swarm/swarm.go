// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Transport is how agents speak.
type Transport string

// The transports. Of a mixed swarm every fourth agent polls.
const (
	WebSocket Transport = "ws"
	HTTP      Transport = "http"
	Mixed     Transport = "mixed"
)

func (t Transport) polls(agent int) bool { return t == HTTP || t == Mixed && agent%4 == 3 }

// Config says how a swarm behaves.
type Config struct {
	Target    Target
	Transport Transport
	// Name is what host names begin with.
	Name string
	// Heartbeat is the rest between two messages, and between polls, of an agent that has
	// nothing to say. The server may change it.
	Heartbeat time.Duration
	// Ramp is the time over which agents come for the first time. 0: all at once.
	Ramp time.Duration
	// Dials is how many connect at a time. Agents of their own would know no such bound,
	// but they would not share two cores either.
	Dials int
	// ApplyDelay is the least and the longest time to apply a configuration.
	ApplyDelay [2]time.Duration
	// FailFraction is the share of attempts that fail, 0 to 1. Of configurations without FailText in them none fails, and
	// none of the first FailAfter agents that are offered one.
	FailFraction float64
	FailText     string
	FailAfter    int64
	// Flips and Relabels are how many agents change their health and their labels per second.
	Flips, Relabels float64
	// TakesOffers says that agents take key and certificate from the server, and come back with them.
	TakesOffers bool
	// Faults are what goes wrong besides.
	Faults []Fault
	// OnOffer is told of each configuration that an agent receives. It is called from many
	// goroutines and must not wait. It may be nil.
	OnOffer func(agent int, hash []byte, at time.Time)
	// OnApplied likewise of each that an agent says it has applied.
	OnApplied func(agent int, hash []byte, at time.Time)
}

// Check says what cannot work.
func (c Config) Check() error {
	switch {
	case c.Transport != WebSocket && c.Transport != HTTP && c.Transport != Mixed:
		return fmt.Errorf("the transport is %s, %s or %s, not %q", WebSocket, HTTP, Mixed, c.Transport)
	case c.Heartbeat < time.Second:
		return errors.New("heartbeats are at least a second apart")
	case c.Ramp < 0:
		return errors.New("the time over which agents come is not negative")
	case c.Dials < 1:
		return errors.New("at least one agent must be able to connect at a time")
	case c.ApplyDelay[0] < 0 || c.ApplyDelay[1] < c.ApplyDelay[0]:
		return errors.New("the times to apply a configuration are MIN,MAX with MIN up to MAX")
	case c.FailFraction < 0 || c.FailFraction > 1 || c.FailAfter < 0:
		return errors.New("the share of attempts that fail is 0 to 1")
	case c.Flips < 0 || c.Relabels < 0:
		return errors.New("rates are not negative")
	}
	return c.Target.Check()
}

// Swarm is some simulated agents.
type Swarm struct {
	config   Config
	agents   []*agent
	bodies   bodies
	count    Count
	doors    doors
	applying atomic.Int64 // attempts under way
	flood    atomic.Int64 // rest between the heartbeats of a flood in ns; 0: none

	running sync.WaitGroup
	stop    context.CancelFunc
}

// New makes a swarm of one agent for each identity. None is connected yet.
func New(config Config, identities []Identity) (*Swarm, error) {
	if err := config.Check(); err != nil {
		return nil, err
	}
	if len(identities) == 0 {
		return nil, errors.New("a swarm needs at least one identity")
	}
	s := &Swarm{config: config, bodies: bodies{byHash: map[string]*body{}}, doors: make(doors, config.Dials)}
	s.count.faults, s.count.errors = map[string]int64{}, map[string]int64{}
	for i, identity := range identities {
		s.agents = append(s.agents, newAgent(s, i, identity))
	}
	return s, nil
}

// Count is what has happened so far.
func (s *Swarm) Count() *Count { return &s.count }

// Size is how many agents there are.
func (s *Swarm) Size() int { return len(s.agents) }

// MostDials is how often the agent dialled that did so most often.
func (s *Swarm) MostDials() (most int64) {
	for _, a := range s.agents {
		most = max(most, a.dials.Load())
	}
	return most
}

// Start lets all agents connect and returns at once. They go on until [Swarm.Stop].
func (s *Swarm) Start() {
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	for i, a := range s.agents {
		s.running.Go(func() {
			if sleep(ctx, s.config.Ramp*time.Duration(i)/time.Duration(len(s.agents))) == nil {
				a.run(ctx)
			}
		})
	}
}

// Disturb changes what agents say and injects faults until ctx ends.
func (s *Swarm) Disturb(ctx context.Context) {
	var going sync.WaitGroup
	for _, fault := range s.config.Faults {
		going.Go(func() { s.inject(ctx, fault) })
	}
	s.changes(ctx, &going, s.config.Flips, &s.count.Flips, (*agent).flip)
	s.changes(ctx, &going, s.config.Relabels, &s.count.Relabels, (*agent).relabel)
	going.Wait()
}

func (s *Swarm) changes(ctx context.Context, going *sync.WaitGroup, rate float64, count *atomic.Int64, change func(*agent)) {
	if rate == 0 {
		return
	}
	going.Go(func() {
		s.often(ctx, rate, func() {
			a := s.agents[rand.IntN(len(s.agents))]
			a.mu.Lock()
			defer a.mu.Unlock()
			change(a)
			a.flush()
			count.Add(1)
		})
	})
}

// Calm heals what faults left, and waits until every agent is connected, has said all it
// has to say and was answered. The error says how many are not when ctx ends.
func (s *Swarm) Calm(ctx context.Context) error {
	for _, a := range s.agents {
		a.mu.Lock()
		frozen := a.frozen
		a.slow = time.Time{}
		a.mu.Unlock()
		a.thaw(frozen)
	}
	for {
		missing := s.unready()
		applying := s.applying.Load()
		if missing == 0 && applying == 0 {
			return nil
		}
		if sleep(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("%d of %d agents are not connected or have something left to say, %d are applying a configuration", missing, len(s.agents), applying)
		}
	}
}

func (s *Swarm) unready() (n int) {
	for _, a := range s.agents {
		if !a.ready() {
			n++
		}
	}
	return n
}

// Connected waits until every agent was answered once, or ctx ends.
func (s *Swarm) Connected(ctx context.Context) error {
	for {
		missing := 0
		for _, a := range s.agents {
			a.mu.Lock()
			if !a.answered {
				missing++
			}
			a.mu.Unlock()
		}
		if missing == 0 {
			return nil
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d agents were not answered yet: %w", missing, len(s.agents), err)
		}
	}
}

// Stop lets all agents say goodbye, and waits until they are gone.
func (s *Swarm) Stop() {
	s.stop()
	for _, a := range s.agents {
		a.leave()
	}
	s.running.Wait()
}

// doors bounds how many connect at a time.
type doors chan struct{}

func (d doors) enter(ctx context.Context) error {
	select {
	case d <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d doors) leave() { <-d }

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"gitlab.com/ampora/ampora/loadtest/swarm"
	"gitlab.com/ampora/ampora/loadtest/verify"
)

// runSwarm runs agents from their enrolment to their goodbye.
func runSwarm(ctx context.Context, o *options) error {
	if err := enoughFiles(o.count); err != nil {
		return err
	}
	config, err := o.config()
	if err != nil {
		return fmt.Errorf("%w: %w", err, errUsage)
	}
	identities, cost, err := o.enrolled(ctx)
	if err != nil {
		return err
	}
	s, err := swarm.New(config, identities)
	if err != nil {
		return err
	}
	r := &report{Agents: s.Size(), Transport: o.transport, Began: time.Now()}
	if cost.Agents > 0 {
		r.Enrolment = &cost
	}
	err = o.live(ctx, s, r)
	if err != nil {
		r.Failure = err.Error()
	}
	r.print(o.out)
	return errors.Join(err, r.write(o.reportFile))
}

// live is the life of a swarm: it comes, is disturbed, calms down, is looked at, and goes.
func (o *options) live(ctx context.Context, s *swarm.Swarm, r *report) error {
	s.Start()
	defer s.Stop()
	err := o.disturb(ctx, s, r)
	r.add(s)
	if err == nil {
		err = o.look(s, r)
	}
	if err == nil && o.stay {
		fmt.Fprintln(o.progress, "staying until SIGINT or SIGTERM")
		<-ctx.Done()
	}
	s.Stop()
	if o.stateFile != "" && err == nil {
		err = o.state(s, false).Write(o.stateFile)
	}
	return err
}

// disturb waits for all agents, disturbs them and lets them calm down.
func (o *options) disturb(ctx context.Context, s *swarm.Swarm, r *report) error {
	line := newLine(o.progress)
	stop := line.every(watch(s, "connecting"))
	err := s.Connected(ctx)
	stop()
	r.ConnectSeconds = time.Since(r.Began).Seconds()
	if err != nil {
		return err
	}
	stop = line.every(watch(s, "running"))
	disturbed, enough := context.WithCancel(ctx)
	if o.duration > 0 {
		disturbed, enough = context.WithTimeout(ctx, o.duration)
	}
	s.Disturb(disturbed)
	<-disturbed.Done()
	enough()
	stop()
	defer line.every(watch(s, "calming"))()
	// A signal ends the disturbance; what follows is why it was disturbed.
	calm, cancel := context.WithTimeout(context.WithoutCancel(ctx), calmTime)
	defer cancel()
	return s.Calm(calm)
}

// calmTime is how long agents may take to come back and say what they have to say: a
// Retry-After of a minute, and a handshake with all the others.
const calmTime = 2 * time.Minute

// look writes down what the connected agents know, and compares it.
func (o *options) look(s *swarm.Swarm, r *report) error {
	state := o.state(s, true)
	if o.stateFile != "" {
		if err := state.Write(o.stateFile); err != nil {
			return err
		}
	}
	if !o.verify {
		return nil
	}
	return o.compare(state, s, r)
}

// compare compares a state, of a swarm that is still there if s is not nil.
func (o *options) compare(state verify.State, s *swarm.Swarm, r *report) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	options := verify.Options{Settle: o.settle, AllowNoFaults: o.noFaults}
	if s != nil {
		options.Bytes, options.Story = s.Effective, s.Story
	}
	result, err := verify.Verify(context.Background(), client, state, options)
	r.Verification = &result
	return err
}

func (o *options) state(s *swarm.Swarm, online bool) verify.State {
	return verify.State{Faults: s.Count().Faults(), Agents: s.State(online)}
}

// verifyState verifies after a run, in a process of its own.
func verifyState(_ context.Context, o *options) error {
	if o.stateFile == "" {
		return fmt.Errorf("--state is missing: %w", errUsage)
	}
	state, err := verify.Read(o.stateFile)
	if err != nil {
		return err
	}
	r := &report{Agents: len(state.Agents), Began: time.Now(), Faults: state.Faults}
	err = o.compare(state, nil, r)
	r.Seconds = time.Since(r.Began).Seconds()
	if err != nil {
		r.Failure = err.Error()
	}
	r.print(o.out)
	return errors.Join(err, r.write(o.reportFile))
}

func (o *options) config() (swarm.Config, error) {
	target, err := o.target()
	if err != nil {
		return swarm.Config{}, err
	}
	config := swarm.Config{
		Target: target, Transport: swarm.Transport(o.transport), Name: o.name, Heartbeat: o.heartbeat, Ramp: o.ramp, Dials: o.dials,
		ApplyDelay: [2]time.Duration{o.applyMin, o.applyMax}, FailFraction: o.failFraction, FailText: o.failText, FailAfter: o.failAfter,
		Flips: o.flips, Relabels: o.relabels, Faults: o.faults, TakesOffers: o.way == string(swarm.Offer),
	}
	return config, config.Check()
}

// spareFiles are those that are no connection of an agent.
const spareFiles = 100

// enoughFiles checks the limit of open files, which Go has raised as far as it may.
func enoughFiles(agents int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil //nolint:nilerr // then it will be seen
	}
	if uint64(agents)+spareFiles > limit.Cur { //nolint:gosec // not negative
		return fmt.Errorf("%d agents need as many open files and %d more, the limit is %d: raise it, or run several swarms: %w", agents, spareFiles, limit.Cur, errUsage)
	}
	return nil
}

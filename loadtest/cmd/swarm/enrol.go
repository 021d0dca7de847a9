// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/loadtest/api"
	"gitlab.com/ampora/ampora/loadtest/swarm"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func enrol(ctx context.Context, o *options) error {
	_, _, err := o.enrolled(ctx)
	return err
}

// enrolment is what getting identities cost.
type enrolment struct {
	Agents    int     `json:"agents"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
}

// enrolled returns as many identities as there shall be agents, and enrols the missing.
func (o *options) enrolled(ctx context.Context) ([]swarm.Identity, enrolment, error) {
	var cost enrolment
	if o.count < 1 {
		return nil, cost, fmt.Errorf("--count is at least 1: %w", errUsage)
	}
	identities, err := swarm.OpenIdentities(o.identities)
	if err != nil {
		return nil, cost, err
	}
	missing := o.count - len(identities.List())
	if missing <= 0 {
		return identities.List()[:o.count], cost, nil
	}
	begin := time.Now()
	err = o.fill(ctx, identities)
	cost.Agents = missing - (o.count - len(identities.List()))
	cost.Seconds = time.Since(begin).Seconds()
	cost.PerSecond = float64(cost.Agents) / cost.Seconds
	fmt.Fprintf(o.progress, "enrolled %d agents in %.1f s: %.0f/s\n", cost.Agents, cost.Seconds, cost.PerSecond)
	return identities.List(), cost, err
}

func (o *options) fill(ctx context.Context, identities *swarm.Identities) error {
	if !slices.Contains(swarm.Ways, swarm.Way(o.way)) || o.parallel < 1 {
		return fmt.Errorf("--enrol is est, csr or offer, --parallel at least 1: %w", errUsage)
	}
	client, err := o.client()
	if err != nil {
		return err
	}
	target, err := o.target()
	if err != nil {
		return err
	}
	group, err := o.groupID(ctx, client)
	if err != nil {
		return err
	}
	var enrolled atomic.Int64
	enrolled.Store(int64(len(identities.List())))
	line := newLine(o.progress)
	stop := line.every(func() string { return fmt.Sprintf("enrolled %d of %d", enrolled.Load(), o.count) })
	defer stop()
	return swarm.Enrolment{
		API: client, Target: target, Group: group, Way: swarm.Way(o.way), Parallel: o.parallel,
		Progress: func(n int) { enrolled.Store(int64(n)) },
	}.Fill(ctx, identities, o.count)
}

// groupID finds or makes the group that agents join.
func (o *options) groupID(ctx context.Context, client *api.Client) (string, error) {
	if o.group == "" {
		return "", nil
	}
	found, err := client.Groups.GetGroup(ctx, &amporav1.GetGroupRequest{Group: o.group})
	if connect.CodeOf(err) != connect.CodeNotFound {
		return found.GetGroup().GetId(), err
	}
	made, err := client.Groups.CreateGroup(ctx, &amporav1.CreateGroupRequest{Name: o.group})
	return made.GetGroup().GetId(), err
}

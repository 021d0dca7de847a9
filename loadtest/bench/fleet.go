// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"gitlab.com/ampora/ampora/loadtest/api"
	"gitlab.com/ampora/ampora/loadtest/swarm"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// fleet is the agents as the control plane of a target knows them.
type fleet struct {
	groups []string
	// rollouts are those of the last push.
	rollouts []string
	pushes   int
	bytes    int
}

// enrolWays is how many agents enrol at a time.
const enrolWays = 32

// enrol gets identities for all agents and puts them into groups that may be assigned a
// configuration in one call.
func (b Bench) enrol(ctx context.Context, r *running, f *fleet) error {
	client, err := r.client()
	if err != nil {
		return err
	}
	roots, err := api.RootsFrom(r.CAFile)
	if err != nil {
		return err
	}
	begin := time.Now()
	err = swarm.Enrolment{
		API: client, Target: swarm.Target{Addresses: r.OpAMP, Roots: roots}, Way: swarm.EST, Parallel: enrolWays, Progress: func(int) {},
	}.Fill(ctx, b.known, b.Agents)
	if err != nil {
		return err
	}
	b.say("enrolled %d agents in %.1f s", b.Agents, time.Since(begin).Seconds())
	for members := range slices.Chunk(b.identities(), b.GroupSize) {
		made, err := client.Groups.CreateGroup(ctx, &amporav1.CreateGroupRequest{Name: fmt.Sprintf("bench-%d", len(f.groups))})
		if err != nil {
			return fmt.Errorf("make a group: %w", err)
		}
		ids := make([]string, len(members))
		for i, member := range members {
			ids[i] = member.Agent()
		}
		f.groups = append(f.groups, made.GetGroup().GetId())
		for some := range slices.Chunk(ids, maxMembers) {
			if _, err := client.Groups.AddGroupMembers(ctx, &amporav1.AddGroupMembersRequest{Id: made.GetGroup().GetId(), AgentIds: some}); err != nil {
				return fmt.Errorf("fill a group: %w", err)
			}
		}
	}
	return nil
}

// maxMembers is how many one call takes.
const maxMembers = 1000

func (r *running) client() (*api.Client, error) {
	token, err := api.TokenFrom(r.TokenFile)
	if err != nil {
		return nil, err
	}
	return api.New(api.Access{URL: r.API, Token: token})
}

// prepare makes the next configuration, and the call that is measured: what sends it.
func (f *fleet) prepare(ctx context.Context, r *running) (send func(context.Context) error, hash []byte, err error) {
	f.pushes++
	body := configOf(f.bytes, f.pushes)
	if r.Push != "" {
		sum := sha256.Sum256(body)
		return func(ctx context.Context) error { return fanOut(ctx, r.Push, sum[:], body) }, sum[:], nil
	}
	client, err := r.client()
	if err != nil {
		return nil, nil, err
	}
	made, err := client.Configs.CreateConfig(ctx, &amporav1.CreateConfigRequest{Name: fmt.Sprintf("bench-%d", f.pushes), Body: body})
	if err != nil {
		return nil, nil, fmt.Errorf("make a configuration: %w", err)
	}
	version := made.GetVersion()
	published, err := client.Configs.PublishConfigVersion(ctx, &amporav1.PublishConfigVersionRequest{
		ConfigId: version.GetConfigId(), Version: version.GetVersion(), Revision: version.GetRevision(),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("publish a configuration: %w", err)
	}
	if hash, err = hex.DecodeString(published.GetVersion().GetOfferHash()); err != nil {
		return nil, nil, err
	}
	if err := f.plan(ctx, client, version); err != nil {
		return nil, nil, fmt.Errorf("make a rollout: %w", err)
	}
	return func(ctx context.Context) error { return f.start(ctx, client) }, hash, nil
}

// plan makes a rollout of a version to each group: all at once and without gates, as a plain server sends.
func (f *fleet) plan(ctx context.Context, client *api.Client, version *amporav1.ConfigVersion) error {
	off := &amporav1.RolloutGate{Off: true}
	f.rollouts = make([]string, len(f.groups))
	return f.each(func(i int) error {
		made, err := client.Rollouts.CreateRollout(ctx, &amporav1.CreateRolloutRequest{Definition: &amporav1.RolloutDefinition{
			GroupId: f.groups[i], ConfigId: version.GetConfigId(), Version: version.GetVersion(),
			Strategy: &amporav1.RolloutStrategy{Kind: amporav1.RolloutStrategyKind_ROLLOUT_STRATEGY_KIND_IMMEDIATE},
			Gates:    &amporav1.RolloutGates{ApplyFailed: off, Disconnect: off, Mismatch: off, Unhealthy: off},
		}})
		f.rollouts[i] = made.GetRollout().GetId()
		return err
	})
}

func (f *fleet) start(ctx context.Context, client *api.Client) error {
	return f.each(func(i int) error {
		_, err := client.Rollouts.StartRollout(ctx, &amporav1.StartRolloutRequest{Id: f.rollouts[i]})
		return err
	})
}

// complete waits until the rollouts of the last push are over, and says how long that was after the given time.
func (f *fleet) complete(ctx context.Context, r *running, since time.Time) (time.Duration, error) {
	client, err := r.client()
	if err != nil {
		return 0, err
	}
	var last time.Time
	for i := 0; i < len(f.rollouts); {
		got, err := client.Rollouts.GetRollout(ctx, &amporav1.GetRolloutRequest{Id: f.rollouts[i]})
		if err != nil {
			return 0, fmt.Errorf("look at a rollout: %w", err)
		}
		if got.GetRollout().GetState() != amporav1.RolloutState_ROLLOUT_STATE_COMPLETED {
			if err := sleep(ctx, lookTime); err != nil {
				return 0, fmt.Errorf("the rollout is %s, %s: %w", got.GetRollout().GetState(), got.GetRollout().GetReason(), err)
			}
			continue
		}
		if ended := got.GetRollout().GetEndedAt().AsTime(); ended.After(last) {
			last = ended
		}
		i++
	}
	return last.Sub(since), nil
}

const lookTime = 50 * time.Millisecond

// withdraw takes the assignments back: agents that come to the next run begin as they began here, with a first report and
// no offer, as those of a plain server do.
func (f *fleet) withdraw(ctx context.Context, r *running) error {
	if r.Push != "" {
		return nil
	}
	client, err := r.client()
	if err != nil {
		return err
	}
	return f.each(func(i int) error {
		group := &amporav1.Target{Target: &amporav1.Target_GroupId{GroupId: f.groups[i]}}
		_, err := client.Assignments.Unassign(ctx, &amporav1.UnassignRequest{Target: group})
		return err
	})
}

// each does something to all groups, some at a time.
func (f *fleet) each(do func(group int) error) error {
	var calls sync.WaitGroup
	errs := make([]error, len(f.groups))
	slots := make(chan struct{}, api.Parallel)
	for i := range f.groups {
		slots <- struct{}{}
		calls.Go(func() {
			defer func() { <-slots }()
			errs[i] = do(i)
		})
	}
	calls.Wait()
	return errors.Join(errs...)
}

// fanOut lets a plain server send a configuration to all.
func fanOut(ctx context.Context, url string, hash, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"?hash="+hex.EncodeToString(hash), bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the fan-out was answered %s", response.Status)
	}
	return nil
}

// configOf is a configuration of a collector with the size in bytes, another each time.
func configOf(size, number int) []byte {
	text := fmt.Sprintf("# number %d\nreceivers: {otlp: {protocols: {grpc: {}}}}\nexporters: {nop: {}}\nservice: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}\n", number)
	return []byte(text + "#" + strings.Repeat("x", max(0, size-len(text)-2)) + "\n")
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package verify compares what agents know of themselves with what the public API says
// of them, agent by agent and part by part. Nothing but no difference at all is a pass.
//
// A pass cannot come about by looking at nothing: there must be agents, each of them with
// everything that is compared, each found in the list and by itself under the identity of
// its certificate, the same ones in one complete round after the last difference went
// away; and something must have gone wrong on the way, unless the caller waives that.
package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/ampora/ampora/loadtest/api"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// Options say how to verify.
type Options struct {
	// Settle is how long differences may take to go away.
	Settle time.Duration
	// AllowNoFaults lets a run pass in which nothing went wrong.
	AllowNoFaults bool
	// Bytes returns the effective configuration of an agent by file, to be compared byte by
	// byte for some agents; each such look is in the audit log. Nil: hashes are enough.
	Bytes func(id string) map[string][]byte
	// Story tells what lately happened to an agent, for those that differ. Nil: nobody knows.
	Story func(id string) []string
}

// bytesOf is how many agents have their bytes compared at most.
const bytesOf = 25

// Result is what came of it.
type Result struct {
	Agents      int      `json:"agents"`      // that were compared in the last round
	Rounds      int      `json:"rounds"`      // of comparing those that differed, or all
	Differences int      `json:"differences"` // in the last round
	First       []string `json:"first"`       // of the differences, in words
	Stories     []string `json:"stories"`     // of some agents that differ
	Bytes       int      `json:"bytes"`       // agents whose effective configuration was compared byte by byte
	Injected    int64    `json:"injected"`    // faults
	Seconds     float64  `json:"seconds"`
	LastRound   float64  `json:"last_round_s"` // how long comparing all of them took
}

// What is told in words: of how many agents, and how much of each.
const (
	showDifferences = 20
	showWords       = 3
	showStories     = 3
)

// The ways in which a verification does not pass.
var (
	ErrDiffers  = errors.New("what agents know and what the API shows differs")
	ErrNoFaults = errors.New("nothing went wrong in this run: a pass would prove little")
	ErrVacuous  = errors.New("there is nothing to verify")
)

// Verify verifies. The error is nil if all agents are as the API shows them; it is
// [ErrDiffers], [ErrNoFaults] or [ErrVacuous], or says why the API could not be asked.
func Verify(ctx context.Context, client *api.Client, state State, options Options) (result Result, err error) {
	begin := time.Now()
	result.Injected = state.Injected()
	if err := substantial(state); err != nil {
		return result, err
	}
	if result.Injected == 0 && !options.AllowNoFaults {
		return result, ErrNoFaults
	}
	v := &verification{client: client, options: options}
	for deadline := begin.Add(options.Settle); ; {
		err = v.settle(ctx, state.Agents, deadline, &result)
		if err != nil || result.Differences == 0 || time.Now().After(deadline) {
			break
		}
	}
	result.Seconds = time.Since(begin).Seconds()
	switch {
	case err != nil:
		return result, err
	case result.Differences > 0:
		return result, ErrDiffers
	}
	return result, v.bytes(ctx, state.Agents, &result)
}

// substantial refuses a state whose comparison would prove nothing.
func substantial(state State) error {
	if len(state.Agents) == 0 {
		return fmt.Errorf("%w: no agents", ErrVacuous)
	}
	seen := map[string]bool{}
	for _, agent := range state.Agents {
		switch {
		case agent.GetId() == "" || seen[agent.GetId()]:
			return fmt.Errorf("%w: agent %q is there twice, or has no id", ErrVacuous, agent.GetId())
		case agent.GetInstanceUid() == "", agent.GetCredential().GetSpiffeId() == "", len(agent.GetDescription().GetNonIdentifying()) == 0,
			agent.GetHealth() == nil, len(agent.GetEffectiveConfig().GetFiles()) == 0, agent.GetRemoteConfigStatus() == nil,
			len(agent.GetCapabilities()) == 0, agent.GetPresence() == amporav1.Presence_PRESENCE_UNSPECIFIED:
			return fmt.Errorf("%w: agent %s does not know itself", ErrVacuous, agent.GetId())
		}
		seen[agent.GetId()] = true
	}
	return nil
}

type verification struct {
	client  *api.Client
	options Options
}

// settle looks at those that differ until none does or the time is up, then at all.
func (v *verification) settle(ctx context.Context, all []*amporav1.Agent, deadline time.Time, result *Result) error {
	differing := all
	for {
		begin := time.Now()
		found, err := v.round(ctx, differing)
		if err != nil {
			return err
		}
		result.Rounds++
		if len(found) > 0 && time.Now().Before(deadline) {
			differing = found.agents()
			if err := pause(ctx, time.Second); err != nil {
				return err
			}
			continue
		}
		if len(differing) < len(all) {
			begin = time.Now()
			if found, err = v.round(ctx, all); err != nil {
				return err
			}
			result.Rounds++
		}
		found = append(found, v.unlisted(ctx, all)...)
		result.Agents, result.Differences, result.First = len(all), len(found), found.words()
		result.Stories = v.stories(found)
		result.LastRound = time.Since(begin).Seconds()
		return nil
	}
}

// difference is one agent with what differs.
type difference struct {
	agent *amporav1.Agent
	words []string
}

type findings []difference

func (f findings) agents() []*amporav1.Agent {
	list := make([]*amporav1.Agent, len(f))
	for i, each := range f {
		list[i] = each.agent
	}
	return list
}

func (f findings) words() (words []string) {
	for _, each := range f[:min(len(f), showDifferences)] {
		told := each.words[:min(len(each.words), showWords)]
		text := fmt.Sprintf("agent %s (%s): %s", each.agent.GetId(), each.agent.GetHostName(), strings.Join(told, "; "))
		if more := len(each.words) - len(told); more > 0 {
			text += fmt.Sprintf("; and %d more", more)
		}
		words = append(words, text)
	}
	return words
}

func (v *verification) stories(found findings) (stories []string) {
	if v.options.Story == nil {
		return nil
	}
	for _, each := range found[:min(len(found), showStories)] {
		for _, line := range v.options.Story(each.agent.GetId()) {
			stories = append(stories, each.agent.GetHostName()+": "+line)
		}
	}
	return stories
}

// round compares agents one by one: the API has no call that shows several of them whole.
func (v *verification) round(ctx context.Context, agents []*amporav1.Agent) (findings, error) {
	var (
		workers sync.WaitGroup
		next    atomic.Int64
		mu      sync.Mutex
		found   findings
	)
	for range api.Parallel {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(agents)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if words := v.look(ctx, agents[i]); len(words) > 0 {
					mu.Lock()
					found = append(found, difference{agents[i], words})
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	return found, context.Cause(ctx)
}

// look compares one agent. An API that does not answer is a difference as well: it may
// have come back by the next round.
func (v *verification) look(ctx context.Context, agent *amporav1.Agent) []string {
	answer, err := v.client.Agents.GetAgent(ctx, &amporav1.GetAgentRequest{Id: agent.GetId()})
	if err != nil {
		return []string{"the API answers " + err.Error()}
	}
	return Compare(agent, answer.GetAgent())
}

// unlisted pages through the list and finds who is not in it as it should be.
func (v *verification) unlisted(ctx context.Context, all []*amporav1.Agent) (found findings) {
	listed := map[string][]*amporav1.Agent{}
	for token := ""; ; {
		page, err := v.client.Agents.ListAgents(ctx, &amporav1.ListAgentsRequest{PageSize: 1000, PageToken: token})
		if err != nil {
			return findings{{all[0], []string{"the list of agents is answered " + err.Error()}}}
		}
		for _, agent := range page.GetAgents() {
			listed[agent.GetId()] = append(listed[agent.GetId()], agent)
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	for _, agent := range all {
		if words := inList(agent, listed[agent.GetId()]); len(words) > 0 {
			found = append(found, difference{agent, words})
		}
	}
	return found
}

// inList compares what the list shows.
func inList(agent *amporav1.Agent, shown []*amporav1.Agent) []string {
	if len(shown) != 1 {
		return []string{fmt.Sprintf("it is %d times in the list", len(shown))}
	}
	d := &differences{}
	d.text("instance uid in the list", agent.GetInstanceUid(), shown[0].GetInstanceUid())
	d.text("host name in the list", agent.GetHostName(), shown[0].GetHostName())
	d.text("presence in the list", short(agent.GetPresence()), short(shown[0].GetPresence()))
	d.text("health in the list", fmt.Sprint(agent.GetHealth().GetHealthy()), fmt.Sprint(shown[0].GetHealth().GetHealthy()))
	return d.list
}

// bytes compares the bytes of some effective configurations.
func (v *verification) bytes(ctx context.Context, all []*amporav1.Agent, result *Result) error {
	if v.options.Bytes == nil {
		return nil
	}
	for i := 0; i < len(all); i += 1 + len(all)/bytesOf {
		id := all[i].GetId()
		answer, err := v.client.Agents.GetEffectiveConfig(ctx, &amporav1.GetEffectiveConfigRequest{Id: id})
		if err != nil {
			return fmt.Errorf("get the effective configuration of %s: %w", id, err)
		}
		own := v.options.Bytes(id)
		for _, file := range answer.GetFiles() {
			if !bytes.Equal(own[file.GetFile().GetName()], file.GetBody()) {
				result.Differences++
				result.First = append(result.First, fmt.Sprintf("agent %s: the bytes of its effective configuration differ", id))
			}
		}
		if len(answer.GetFiles()) != len(own) {
			result.Differences++
			result.First = append(result.First, fmt.Sprintf("agent %s: it runs %d files, the API shows %d", id, len(own), len(answer.GetFiles())))
		}
		result.Bytes++
	}
	if result.Differences > 0 {
		return ErrDiffers
	}
	return nil
}

func pause(ctx context.Context, span time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(span):
		return nil
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect/v2"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/run"
)

// deliveryPoll is how often --wait looks. An assignment decides for twenty agents at most, so a look is one small page.
const deliveryPoll = 2 * time.Second

// awaitDelivery follows the agents an assignment decides for, telling each change on standard error, until all of them
// are done with it. The result is the agents as they ended.
func (p *program) awaitDelivery(ctx context.Context, api *api, assignment *amporav1.Assignment) error {
	told := make(map[string]string)
	var agents []*amporav1.Agent // as last seen
	open := 0
	for {
		seen, err := api.decidedBy(ctx, assignment)
		switch {
		case err == nil:
			agents, open = seen, p.tellDeliveries(told, seen, assignment)
			if open == 0 {
				return p.endOfDelivery(agents, assignment)
			}
		case !passing(ctx, err):
			return err
		}
		if err := run.Sleep(ctx, deliveryPoll); err != nil {
			return deliveryTimedOut(err, agents, open)
		}
	}
}

// passing says whether waiting may go on after an error: the server may be restarting.
func passing(ctx context.Context, err error) bool {
	return ctx.Err() != nil || connect.CodeOf(err) == connect.CodeUnavailable
}

func deliveryTimedOut(err error, agents []*amporav1.Agent, open int) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fail(ExitUnavailable, "the assignment stands and is still being delivered; follow it with: amporactl agents watch",
			"the time ran out with %d of %s not done", open, counted(len(agents), "agent"))
	}
	return err
}

// decidedBy lists the agents whose configuration the assignment decides: the agent itself, or the members of the group
// that have no assignment of their own.
func (a *api) decidedBy(ctx context.Context, assignment *amporav1.Assignment) ([]*amporav1.Agent, error) {
	if id := assignment.GetTarget().GetAgentId(); id != "" {
		answer, err := a.agents.GetAgent(ctx, &amporav1.GetAgentRequest{Id: id})
		if err != nil {
			return nil, err
		}
		return []*amporav1.Agent{answer.GetAgent()}, nil
	}
	members, err := pages(ctx, 0, a.agentPages(&amporav1.AgentFilter{GroupId: assignment.GetTarget().GetGroupId()}))
	if err != nil {
		return nil, err
	}
	var decided []*amporav1.Agent
	for _, agent := range members {
		if agent.GetConfigDelivery().GetAssignedThrough() != "agent" {
			decided = append(decided, agent)
		}
	}
	return decided, nil
}

// isDone says whether an agent has come to an end with this assignment. What it tells of an earlier one does not count.
func isDone(delivery *amporav1.ConfigDelivery, assignment *amporav1.Assignment) bool {
	if !isOf(delivery, assignment) {
		return false
	}
	switch delivery.GetState() {
	case amporav1.DeliveryState_DELIVERY_STATE_APPLIED, amporav1.DeliveryState_DELIVERY_STATE_SKIPPED:
		return true
	default:
		return hasFailed(delivery)
	}
}

func isOf(delivery *amporav1.ConfigDelivery, assignment *amporav1.Assignment) bool {
	return delivery.GetConfigId() == assignment.GetConfigId() && delivery.GetVersion() == assignment.GetVersion()
}

func hasFailed(delivery *amporav1.ConfigDelivery) bool {
	state := delivery.GetState()
	return state == amporav1.DeliveryState_DELIVERY_STATE_FAILED || state == amporav1.DeliveryState_DELIVERY_STATE_ROLLED_BACK
}

// tellDeliveries returns how many agents are not done.
func (p *program) tellDeliveries(
	told map[string]string, agents []*amporav1.Agent, assignment *amporav1.Assignment,
) (open int) {
	for _, agent := range agents {
		p.tellDelivery(told, agent, assignment)
		if !isDone(agent.GetConfigDelivery(), assignment) {
			open++
		}
	}
	return open
}

// tellDelivery writes a line for what has changed since the last look, with the agent's own words.
func (p *program) tellDelivery(told map[string]string, agent *amporav1.Agent, assignment *amporav1.Assignment) {
	state := amporav1.DeliveryState_DELIVERY_STATE_PENDING
	words := ""
	if delivery := agent.GetConfigDelivery(); isOf(delivery, assignment) {
		state, words = delivery.GetState(), delivery.GetMessage()
	}
	text := fmt.Sprintf("%s  %s  %s", or(agent.GetDisplayName()), word(state), escape(words))
	if told[agent.GetId()] != text {
		_, _ = fmt.Fprintf(p.streams.Err, "%s  %s\n", p.now().UTC().Format(time.RFC3339), strings.TrimRight(text, " "))
		told[agent.GetId()] = text
	}
}

func (p *program) endOfDelivery(agents []*amporav1.Agent, assignment *amporav1.Assignment) error {
	err := p.show(&amporav1.ListAgentsResponse{Agents: agents}, func() view { return deliveryTable(agents) })
	if err != nil {
		return err
	}
	failed := 0
	for _, agent := range agents {
		if hasFailed(agent.GetConfigDelivery()) {
			failed++
		}
	}
	if failed > 0 {
		return fail(ExitAgents, "the version is not offered to them again by itself; publish a better one, or: amporactl agents retry AGENT",
			"%s@%d failed on %d of %s", assignment.GetConfigName(), assignment.GetVersion(), failed, counted(len(agents), "agent"))
	}
	return nil
}

func deliveryTable(agents []*amporav1.Agent) view {
	t := newTable("AGENT", "NAME", "CONFIG", "STATE", "MESSAGE")
	for _, agent := range agents {
		delivery := agent.GetConfigDelivery()
		t.row(or(agent.GetId()), or(agent.GetDisplayName()), configOf(delivery), word(delivery.GetState()), or(delivery.GetMessage()))
	}
	return t
}

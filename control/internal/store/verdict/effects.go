// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// By is the agent's identity acting through a claim, for the audit log.
func By(c fleet.Claim) fleet.By {
	return fleet.By{
		Principal: fleet.Principal{Kind: fleet.PrincipalAgent, ID: string(c.Identity), Name: string(c.Identity), Tenant: c.Tenant},
		Tenant:    c.Tenant, At: c.At, Source: c.Peer,
	}
}

// Refusal is the audit log's line for a refused claim.
func Refusal(c fleet.Claim, reason string) fleet.Refusal {
	return fleet.Refusal{By: By(c), Action: "agent.claim", Reason: reason, Entity: string(c.Identity)}
}

// Connected is the event of a claim that gave agent its session; took says that another one was open.
func Connected(c fleet.Claim, agent fleet.AgentID, took bool) fleet.Event {
	attributes := map[string]string{
		"gateway": string(c.Gateway), "transport": string(c.Transport), "peer": c.Peer, "instance_uid": c.UID.String(),
	}
	if took {
		attributes["took_over"] = takeoverNames[c.Takeover]
	}
	return fleet.Event{
		Tenant: c.Tenant, At: c.At, Kind: fleet.EventAgentConnected, Agent: agent,
		Message: "connected at gateway " + string(c.Gateway), Attributes: attributes,
	}
}

var takeoverNames = map[fleet.Takeover]string{
	fleet.TakeoverNone:    "gateway_gone",
	fleet.TakeoverRestart: "restart",
	fleet.TakeoverClone:   "clone",
}

// Child is the agent of a uid that an identity speaks for, with the event that it is there. id is freshly minted.
func Child(c fleet.Claim, id fleet.AgentID) (fleet.Agent, fleet.Event) {
	child := fleet.Agent{
		Tenant: c.Tenant, ID: id, EnrolledAt: c.At, Method: fleet.EnrolledAsChild, Parent: c.Identity, InstanceUID: c.UID,
	}
	return child, fleet.Event{
		Tenant: c.Tenant, At: c.At, Kind: fleet.EventAgentEnrolled, Agent: id,
		Message:    "first seen behind its parent",
		Attributes: map[string]string{"method": string(fleet.EnrolledAsChild), "parent": string(c.Identity)},
	}
}

// Quarantined is the remark and the event of an agent whose identity lives several times.
func Quarantined(c fleet.Claim, agent fleet.AgentID) (fleet.Attention, fleet.Event) {
	message := fmt.Sprintf("taken over by a clone %d times within %s", fleet.CloneTakeovers, fleet.CloneTakeoverWindow)
	return fleet.Attention{Reason: fleet.AttentionQuarantined, Message: message, Since: c.At.UTC()},
		fleet.Event{
			Tenant: c.Tenant, At: c.At, Kind: fleet.EventAgentQuarantined, Agent: agent, Message: message,
			Attributes: map[string]string{"gateway": string(c.Gateway), "peer": c.Peer},
		}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import (
	"fmt"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// EndGatewayLost is the end reason of sessions whose gateway process is gone, and whose agents did not come back.
const EndGatewayLost = "GATEWAY_LOST"

// Claimant is the agent's identity acting through a claim.
func Claimant(c fleet.Claim) fleet.By {
	return fleet.By{
		Principal: fleet.Principal{Kind: fleet.PrincipalAgent, ID: string(c.Identity), Name: string(c.Identity), Tenant: c.Tenant},
		Tenant:    c.Tenant, At: c.At, Source: c.Peer,
	}
}

// Refusal is the audit log's line for a refused claim.
func Refusal(c fleet.Claim, reason string) fleet.Refusal {
	return fleet.Refusal{By: Claimant(c), Action: "agent.claim", Reason: reason, Entity: string(c.Identity)}
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

// CertificateInUse is the event of a claim with another certificate than the agent showed before.
func CertificateInUse(c fleet.Claim, before fleet.Serial) fleet.Event {
	return fleet.Event{
		Tenant: c.Tenant, At: c.At, Kind: fleet.EventCertificateInUse, Agent: c.Identity, Message: "shows another certificate than before",
		Attributes: map[string]string{"serial": string(c.Serial), "before": string(before)},
	}
}

var takeoverNames = map[fleet.Takeover]string{
	fleet.TakeoverNone:    "gateway_gone",
	fleet.TakeoverRestart: "restart",
	fleet.TakeoverClone:   "clone",
}

// Child is the agent of a uid that an identity speaks for, with what it leaves behind that it is there. id is freshly
// minted.
func Child(c fleet.Claim, id fleet.AgentID) (fleet.Agent, Entry, fleet.Event) {
	child := fleet.Agent{
		Tenant: c.Tenant, ID: id, EnrolledAt: c.At, Method: fleet.EnrolledAsChild, Parent: c.Identity, InstanceUID: c.UID,
	}
	attributes := map[string]string{"method": string(fleet.EnrolledAsChild), "parent": string(c.Identity)}
	return child, ofAgent("agent.enrol", id, fieldsOf(attributes)), fleet.Event{
		Tenant: c.Tenant, At: c.At, Kind: fleet.EventAgentEnrolled, Agent: id,
		Message: "first seen behind its parent", Attributes: attributes,
	}
}

// Quarantined is the remark on an agent whose identity lives several times, with what its quarantine leaves behind.
func Quarantined(c fleet.Claim, agent fleet.AgentID) (fleet.Attention, Entry, fleet.Event) {
	message := fmt.Sprintf("taken over by a clone %d times within %s", fleet.CloneTakeovers, fleet.CloneTakeoverWindow)
	attributes := map[string]string{"gateway": string(c.Gateway), "peer": c.Peer}
	return fleet.Attention{Reason: fleet.AttentionQuarantined, Message: message, Since: c.At.UTC()},
		ofAgent("agent.quarantine", agent, fieldsOf(attributes)),
		fleet.Event{
			Tenant: c.Tenant, At: c.At, Kind: fleet.EventAgentQuarantined, Agent: agent, Message: message, Attributes: attributes,
		}
}

// Disconnected is the event of a session that ended.
func Disconnected(tenant fleet.TenantID, agent fleet.AgentID, gateway fleet.GatewayID, reason string, at time.Time) fleet.Event {
	return fleet.Event{
		Tenant: tenant, At: at, Kind: fleet.EventAgentDisconnected, Agent: agent, Message: "disconnected: " + reason,
		Attributes: map[string]string{"gateway": string(gateway), "reason": reason},
	}
}

func fieldsOf(attributes map[string]string) Fields {
	f := make(Fields, len(attributes))
	for key, value := range attributes {
		f[key] = value
	}
	return f
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package opamp speaks OpAMP with agents: over WebSocket, and over plain HTTP with
// those that poll.
//
// It guarantees, whatever a peer sends: every AgentToServer message is answered;
// nothing is allocated for a message beyond the limit, nor for one that has not
// arrived yet; nothing of a connection that is enrolling reaches the bus; an offer is
// written only to an agent that has set its capability bit, and only if the server's
// mask allows it; a peer that does not read harms itself alone. One goroutine reads a
// connection; writes take turns, so they never mix. An agent that polls is answered only
// once the other gateways can know how far it has come: its next poll may be theirs.
//
// This is the only package of the gateway that knows OpAMP's messages, and
// answer.go the only place that makes a ServerToAgent.
package opamp

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-telemetry/opamp-go/protobufs"
)

// Path is where agents connect (specification, "WebSocket Transport" and "Plain HTTP Transport": the default).
const Path = "/v1/opamp"

// serverCapabilities is what we implement, and nothing else.
const serverCapabilities = protobufs.ServerCapabilities_ServerCapabilities_AcceptsStatus |
	protobufs.ServerCapabilities_ServerCapabilities_OffersRemoteConfig |
	protobufs.ServerCapabilities_ServerCapabilities_AcceptsEffectiveConfig |
	protobufs.ServerCapabilities_ServerCapabilities_AcceptsPackagesStatus |
	protobufs.ServerCapabilities_ServerCapabilities_OffersConnectionSettings |
	protobufs.ServerCapabilities_ServerCapabilities_AcceptsConnectionSettingsRequest

// Capabilities of agents that allow something to be sent to them.
const (
	acceptsRemoteConfig       = protobufs.AgentCapabilities_AgentCapabilities_AcceptsRemoteConfig
	acceptsRestartCommand     = protobufs.AgentCapabilities_AgentCapabilities_AcceptsRestartCommand
	acceptsConnectionSettings = protobufs.AgentCapabilities_AgentCapabilities_AcceptsOpAMPConnectionSettings
)

// Mask is the set of agent capabilities that the operator lets the server use.
type Mask uint64

const capabilityPrefix = "AgentCapabilities_"

// ParseMask reads names of agent capabilities, as the OpAMP specification spells them
// without their prefix ("AcceptsRemoteConfig"). No names at all allow everything.
func ParseMask(names []string) (Mask, error) {
	if len(names) == 0 {
		return ^Mask(0), nil
	}
	var mask Mask
	for _, name := range names {
		bit, known := protobufs.AgentCapabilities_value[capabilityPrefix+strings.TrimSpace(name)]
		if !known || bit == 0 {
			return 0, fmt.Errorf("%q is not a capability of OpAMP agents; known are %s", name, strings.Join(capabilityNames(), ", "))
		}
		mask |= Mask(bit) //nolint:gosec // a bit
	}
	return mask, nil
}

// allows says whether an agent with the capabilities may be sent what the bit stands for.
func (m Mask) allows(capabilities uint64, bit protobufs.AgentCapabilities) bool {
	return uint64(m)&capabilities&uint64(bit) != 0 //nolint:gosec // a bit
}

func capabilityNames() []string {
	names := make([]string, 0, len(protobufs.AgentCapabilities_value))
	for name, bit := range protobufs.AgentCapabilities_value {
		if bit != 0 {
			names = append(names, strings.TrimPrefix(name, capabilityPrefix))
		}
	}
	slices.Sort(names)
	return names
}

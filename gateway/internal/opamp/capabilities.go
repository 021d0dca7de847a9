// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-telemetry/opamp-go/protobufs"
)

//go:generate go run ./capabilities ../../../docs/reference/capabilities.md

// use is what a bit is good for in this server.
type use string

const (
	recorded use = "recorded" // what the agent reports under it is stored and shown
	gate     use = "gate"     // without it a kind of offer is not sent
	ignored  use = "not used" // stored as a bit, without consequence so far
)

// agentBits says what we do with each capability of an agent. A test fails when OpAMP's constants know a bit that is
// missing here.
var agentBits = map[protobufs.AgentCapabilities]struct {
	use  use
	what string
}{
	protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus:                  {recorded, "Every agent has it. Description and health are stored and shown."},
	protobufs.AgentCapabilities_AgentCapabilities_AcceptsRemoteConfig:            {gate, "Configurations are offered. Without it an assignment is skipped with the reason NOT_CAPABLE."},
	protobufs.AgentCapabilities_AgentCapabilities_ReportsEffectiveConfig:         {recorded, "The exact bytes are stored by hash, sealed, and shown."},
	protobufs.AgentCapabilities_AgentCapabilities_AcceptsPackages:                {ignored, "Nothing is offered: packages are not built yet."},
	protobufs.AgentCapabilities_AgentCapabilities_ReportsPackageStatuses:         {recorded, "Statuses are stored and shown."},
	protobufs.AgentCapabilities_AgentCapabilities_ReportsOwnTraces:               {ignored, "No own-telemetry settings are offered yet."},
	protobufs.AgentCapabilities_AgentCapabilities_ReportsOwnMetrics:              {ignored, "No own-telemetry settings are offered yet."},
	protobufs.AgentCapabilities_AgentCapabilities_ReportsOwnLogs:                 {ignored, "No own-telemetry settings are offered yet."},
	protobufs.AgentCapabilities_AgentCapabilities_AcceptsOpAMPConnectionSettings: {gate, "At enrolment the agent is offered its certificate. Without it, and without a request of its own, it is told to enrol by files."},
	protobufs.AgentCapabilities_AgentCapabilities_AcceptsOtherConnectionSettings: {ignored, "No other connection settings are offered yet."},
	protobufs.AgentCapabilities_AgentCapabilities_AcceptsRestartCommand:          {gate, "The restart command is sent when an operator asks for it, at most once."},
	protobufs.AgentCapabilities_AgentCapabilities_ReportsHealth:                  {recorded, "The health tree is stored and shown; a flip is an event."},
	protobufs.AgentCapabilities_AgentCapabilities_ReportsRemoteConfig:            {recorded, "The status of an offer is stored, and decides what happens next."},
	protobufs.AgentCapabilities_AgentCapabilities_ReportsHeartbeat:               {ignored, "Agents are judged by their traffic: real ones send heartbeats without the bit."},
	protobufs.AgentCapabilities_AgentCapabilities_ReportsAvailableComponents:     {recorded, "What the agent was built with is stored and shown."},
	protobufs.AgentCapabilities_AgentCapabilities_ReportsConnectionSettingsStatus: {
		recorded, "The status of offered connection settings is stored; a failure is logged with the agent's words.",
	},
}

// serverBits says of each capability of a server whether we have it; the words are for people, the truth is
// serverCapabilities.
var serverBits = map[protobufs.ServerCapabilities]string{
	protobufs.ServerCapabilities_ServerCapabilities_AcceptsStatus:                    "Every server has it.",
	protobufs.ServerCapabilities_ServerCapabilities_OffersRemoteConfig:               "Configurations are offered to agents that accept them.",
	protobufs.ServerCapabilities_ServerCapabilities_AcceptsEffectiveConfig:           "Effective configurations are stored.",
	protobufs.ServerCapabilities_ServerCapabilities_OffersPackages:                   "Packages are not built yet.",
	protobufs.ServerCapabilities_ServerCapabilities_AcceptsPackagesStatus:            "Package statuses are stored.",
	protobufs.ServerCapabilities_ServerCapabilities_OffersConnectionSettings:         "Certificates are offered at enrolment.",
	protobufs.ServerCapabilities_ServerCapabilities_AcceptsConnectionSettingsRequest: "A CSR in ConnectionSettingsRequest is answered with a certificate.",
}

// Reference is docs/reference/capabilities.md.
func Reference() string {
	var b strings.Builder
	b.WriteString("# OpAMP capabilities\n\nGenerated from `gateway/internal/opamp/capabilities.go` by `make generate`; do not edit.\n\n")
	b.WriteString("Bits and names are those of opamp-go. Every bit an agent sends is stored, known or not, and shown by\n`amporactl agents get`. ")
	b.WriteString("Bits may change with any message; each offer is gated on their present value and on\n`AMPORA_OPAMP_ALLOWED_CAPABILITIES`.\n\n")
	b.WriteString("## Agents\n\n| bit | capability | use | what we do |\n|---|---|---|---|\n")
	for _, bit := range slices.Sorted(maps.Keys(protobufs.AgentCapabilities_name)) {
		if t, known := agentBits[protobufs.AgentCapabilities(bit)]; known {
			fmt.Fprintf(&b, "| 0x%x | %s | %s | %s |\n", bit, bare(protobufs.AgentCapabilities_name[bit]), t.use, t.what)
		}
	}
	b.WriteString("\n## Server\n\n| bit | capability | advertised | |\n|---|---|---|---|\n")
	for _, bit := range slices.Sorted(maps.Keys(protobufs.ServerCapabilities_name)) {
		if what, known := serverBits[protobufs.ServerCapabilities(bit)]; known {
			advertised := "no"
			if serverCapabilities&protobufs.ServerCapabilities(bit) != 0 {
				advertised = "yes"
			}
			fmt.Fprintf(&b, "| 0x%x | %s | %s | %s |\n", bit, bare(protobufs.ServerCapabilities_name[bit]), advertised, what)
		}
	}
	return b.String()
}

// bare is a constant's name without the prefix that protobuf's scoping rules give it.
func bare(name string) string {
	_, short, _ := strings.Cut(name, "_")
	return short
}

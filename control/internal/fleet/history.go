// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"slices"
	"time"
)

// HistoryKind is what a change of an agent is about. An agent's history is its events: nothing is written twice.
type HistoryKind string

// The kinds.
const (
	HistoryConnection      HistoryKind = "connection"
	HistoryDescription     HistoryKind = "description"
	HistoryHealth          HistoryKind = "health"
	HistoryEffectiveConfig HistoryKind = "effective_config"
	HistoryConfigStatus    HistoryKind = "config_status"
	HistoryComponents      HistoryKind = "components"
	HistoryPackages        HistoryKind = "packages"
	HistoryDelivery        HistoryKind = "delivery"
	HistoryIdentity        HistoryKind = "identity"
	HistoryOperators       HistoryKind = "operators"
	// HistoryBounded says that there was more than is told.
	HistoryBounded HistoryKind = "bounded"
)

// HistoryEvents are the events of each kind.
var HistoryEvents = map[HistoryKind][]EventKind{
	HistoryConnection:      {EventAgentConnected, EventAgentDisconnected},
	HistoryDescription:     {EventDescriptionChanged},
	HistoryHealth:          {EventHealthChanged},
	HistoryEffectiveConfig: {EventEffectiveConfigChanged},
	HistoryConfigStatus:    {EventConfigStatusChanged},
	HistoryComponents:      {EventComponentsChanged},
	HistoryPackages:        {EventPackagesChanged},
	HistoryDelivery:        {EventConfigGranted, EventConfigSettled, EventAssigned},
	HistoryIdentity: {
		EventAgentEnrolled, EventCertificateRenewed, EventCertificateInUse, EventCertificateExpiring, EventCertificateAttention,
		EventCertificateRevoked, EventAgentQuarantined,
	},
	HistoryOperators: {EventGroupChanged, EventTagsChanged, EventRestartSent, EventRestartRefused},
	HistoryBounded:   {EventHistoryBounded},
}

// HistoryOf is the kind of an event; empty for one that no agent's history has.
func HistoryOf(kind EventKind) HistoryKind {
	for history, kinds := range HistoryEvents {
		if slices.Contains(kinds, kind) {
			return history
		}
	}
	return ""
}

// HistoryPerHour is how many changes of one agent, as it or its connection makes them, are told in each hour. More are
// counted: an agent that flaps does not fill the history.
const HistoryPerHour = 120

// EventFilter narrows events; what is zero does not.
type EventFilter struct {
	Agent       AgentID
	Kinds       []EventKind
	From, Until time.Time // at or after From, before Until
}

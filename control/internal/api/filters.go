// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

var methods = word[fleet.EnrolmentMethod, amporav1.EnrolmentMethod]{
	{fleet.EnrolledByAgentCSR, amporav1.EnrolmentMethod_ENROLMENT_METHOD_AGENT_CSR},
	{fleet.EnrolledByServerKey, amporav1.EnrolmentMethod_ENROLMENT_METHOD_SERVER_KEY},
	{fleet.EnrolledByEST, amporav1.EnrolmentMethod_ENROLMENT_METHOD_EST},
	{fleet.EnrolledAsChild, amporav1.EnrolmentMethod_ENROLMENT_METHOD_CHILD},
}

// maxWords bounds the words of a search.
const maxWords = 8

// filterFrom reads a filter; an absent one holds for all.
func filterFrom(f *amporav1.AgentFilter) (fleet.AgentFilter, error) {
	capabilities, err := capabilitiesNamed(f.GetCapabilities())
	if err != nil {
		return fleet.AgentFilter{}, err
	}
	words := strings.Fields(f.GetText())
	if len(words) > maxWords {
		return fleet.AgentFilter{}, auth.InvalidField("filter.text", "has more than eight words")
	}
	if f.GetConfigVersion() != 0 && f.GetConfigId() == "" {
		return fleet.AgentFilter{}, auth.InvalidField("filter.config_version", "needs config_id")
	}
	return fleet.AgentFilter{
		Group:    fleet.GroupID(f.GetGroupId()),
		NoGroup:  f.GetNoGroup(),
		Presence: presences.decode(f.GetPresence()),
		Gateway:  fleet.GatewayID(f.GetGatewayId()),

		Labels:     f.GetLabels(),
		Tags:       f.GetTags(),
		NamePrefix: f.GetNamePrefix(),
		Words:      words,
		HostPrefix: f.GetHostPrefix(),
		Service:    f.GetServiceName(),
		Version:    f.GetServiceVersion(),

		Healthy:         f.GetHealthy(),
		Unhealthy:       f.GetUnhealthy(),
		Attention:       f.GetAttention(),
		AttentionReason: f.GetAttentionReason(),
		Capabilities:    capabilities,

		Config:        fleet.ConfigID(f.GetConfigId()),
		ConfigVersion: int(f.GetConfigVersion()),
		DeliveryState: deliveryStates.decode(f.GetDeliveryState()),
		Drift:         driftStates.decode(f.GetDrift()),

		Method:         methods.decode(f.GetEnrolmentMethod()),
		EnrolledAfter:  timeFrom(f.GetEnrolledAfter()),
		EnrolledBefore: timeFrom(f.GetEnrolledBefore()),
		ExpiresBefore:  timeFrom(f.GetCertificateExpiresBefore()),
	}, nil
}

func capabilitiesNamed(names []string) (all fleet.Capabilities, err error) {
	for _, name := range names {
		bit, known := fleet.CapabilityNamed(name)
		if !known {
			return 0, auth.InvalidField("filter.capabilities", "OpAMP has no AgentCapabilities of this name")
		}
		all |= bit
	}
	return all, nil
}

// timeFrom is a time of a request; zero if it is absent.
func timeFrom(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

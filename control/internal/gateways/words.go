// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateways

import (
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/shared/fault"
)

func enrolmentMethod(m internalv1.EnrollmentMethod) (fleet.EnrolmentMethod, error) {
	switch m {
	case internalv1.EnrollmentMethod_ENROLLMENT_METHOD_AGENT_CSR:
		return fleet.EnrolledByAgentCSR, nil
	case internalv1.EnrollmentMethod_ENROLLMENT_METHOD_SERVER_KEY:
		return fleet.EnrolledByServerKey, nil
	case internalv1.EnrollmentMethod_ENROLLMENT_METHOD_EST:
		return fleet.EnrolledByEST, nil
	default:
		return "", fault.New(fault.Invalid, "ENROLLMENT_METHOD_UNKNOWN", "an enrolment needs a method")
	}
}

func transport(t internalv1.Transport) fleet.Transport {
	if t == internalv1.Transport_TRANSPORT_HTTP {
		return fleet.TransportHTTP
	}
	return fleet.TransportWebSocket
}

func takeover(t internalv1.Takeover) fleet.Takeover {
	switch t {
	case internalv1.Takeover_TAKEOVER_RESTART:
		return fleet.TakeoverRestart
	case internalv1.Takeover_TAKEOVER_CLONE:
		return fleet.TakeoverClone
	default:
		return fleet.TakeoverNone
	}
}

func claimResult(r fleet.ClaimResult) *internalv1.ClaimResult {
	return &internalv1.ClaimResult{
		Outcome: map[fleet.ClaimOutcome]internalv1.ClaimOutcome{
			fleet.ClaimClaimed: internalv1.ClaimOutcome_CLAIM_OUTCOME_CLAIMED,
			fleet.ClaimHeld:    internalv1.ClaimOutcome_CLAIM_OUTCOME_HELD,
			fleet.ClaimRefused: internalv1.ClaimOutcome_CLAIM_OUTCOME_REFUSED,
		}[r.Outcome],
		Reason: r.Reason, AgentId: string(r.Agent), Epoch: uint64(r.Epoch), LastSequence: uint64(r.LastSequence), //nolint:gosec // never negative
		StateKnown: r.StateKnown, HolderGatewayId: string(r.HolderGateway), HolderEpoch: uint64(r.HolderEpoch), //nolint:gosec // never negative
		CredentialsByOffer: r.Method != fleet.EnrolledByEST, AfterOffer: r.AfterOffer, Shared: r.Shared,
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	"gitlab.com/ampora/ampora/gateway/internal/session"
	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/shared/identity"
)

// A session that another gateway holds is given the time of a contest, and then taken
// over as a restart.
func TestClaimFromAnotherGateway(t *testing.T) {
	control := gatewaytest.NewControl(t)
	control.AddTenant("acme")
	agent, certificate := control.AddAgent("acme")
	claim := func() *internalv1.Claim {
		return &internalv1.Claim{
			Tenant: "acme", AgentId: string(agent.ID), Serial: string(identity.SerialOf(certificate.Leaf.SerialNumber)), InstanceUid: make([]byte, 16),
		}
	}
	synctest.Test(t, func(t *testing.T) {
		registry := session.NewRegistry(func(*session.Session, session.EndReason) {})
		first := session.NewClaims(control.Client(), "gw-1", 1, registry)
		second := session.NewClaims(control.Client(), "gw-2", 1, registry)
		go func() { _ = first.Run(t.Context()) }()
		go func() { _ = second.Run(t.Context()) }()
		if _, err := first.Claim(t.Context(), claim(), nil); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		result, err := second.Claim(t.Context(), claim(), nil)
		if err != nil || result.GetEpoch() != 2 {
			t.Fatalf("the claim gives %v, %v", result, err)
		}
		if waited := time.Since(began); waited < session.ContestWait || waited > session.ContestWait+time.Second {
			t.Errorf("it waited %v", waited)
		}
		// After a lost lease nothing is contested.
		var refusal *session.Refusal
		if _, err := first.Again(t.Context(), claim()); !errors.As(err, &refusal) {
			t.Errorf("claiming again gives %v", err)
		}
	})
}

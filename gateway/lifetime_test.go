// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/open-telemetry/opamp-go/protobufs"

	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
)

// Sessions that ended do not count on the connection they were on.
func TestCloseAfterAllOtherChildrenLeft(t *testing.T) {
	w := start(t)
	w.control.AllowChildren(w.agent)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	child := *agent
	child.UID[0]++
	child.Exchange(gatewaytest.Full(0))
	child.Exchange(&protobufs.AgentToServer{Capabilities: 1, AgentDisconnect: &protobufs.AgentDisconnect{}})
	w.downlink(&relayv1.Downlink{Kind: relayv1.Downlink_KIND_CLOSE, Targets: w.target(w.agent, 0), Reason: "test"})
	if code := agent.WaitClosed(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "REQUESTED" {
		t.Errorf("the session ended with %s", reason)
	}
}

// The agent begins anew on its connection, and is not let in again.
func TestRefusedRestartEndsTheSession(t *testing.T) {
	w := start(t)
	agent := w.dial()
	agent.Exchange(gatewaytest.Full(0))
	agent.Exchange(healthy())
	w.control.Strike(tenant, w.certificate)
	again := *agent
	again.Restart()
	if answer := again.Exchange(gatewaytest.Full(0)); answer.GetErrorResponse().GetType() != badRequest {
		t.Errorf("the answer is %v", answer)
	}
	if code := again.WaitClosed(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
	w.uplink(w.agent.ID, isEnd)
}

func TestCertificateThatExpiresOnALiveConnection(t *testing.T) {
	w := start(t)
	agent := w.dialWith(w.control.Certify(w.agent, 3*time.Second))
	agent.Exchange(gatewaytest.Full(0))
	if code := agent.WaitClosed(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "EXPIRED" {
		t.Errorf("the session ended with %s", reason)
	}
}

// The revocation comes after the control plane has answered the claim and before the
// session is there to be cut.
func TestRevokedWhileItIsClaimed(t *testing.T) {
	w := start(t)
	w.control.OnClaim(func() {
		w.control.Revoke(tenant, w.certificate)
		w.eventually("the gateway is told", w.control.Told)
		<-time.After(100 * time.Millisecond) // and takes it in
	})
	agent := w.dial()
	agent.Send(gatewaytest.Full(0))
	if code := agent.WaitClosed(); code != ws.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "REVOKED" {
		t.Errorf("the session ended with %s", reason)
	}
}

// Beside an error an answer says nothing else, and what it would have said is said by
// the next.
func TestErrorsStandAlone(t *testing.T) {
	w := start(t)
	agent := w.dial()
	huge := gatewaytest.Full(remoteConfig)
	huge.Health.Status = strings.Repeat("x", 1<<20-100)
	answer := agent.Exchange(huge)
	if answer.GetErrorResponse() == nil || answer.GetCapabilities() != 0 || answer.GetFlags() != 0 || answer.GetCustomCapabilities() != nil {
		t.Errorf("the error is %v", answer)
	}
	if answer := agent.Exchange(gatewaytest.Full(remoteConfig)); answer.GetCapabilities() == 0 {
		t.Errorf("the answer after it is %v", answer)
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/agent"
	"gitlab.com/ampora/ampora/loadtest/rawopamp"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// cutTime is how long a session may outlive its certificate (product specification, section 5).
const cutTime = 5 * time.Second

// TestRevocation: whoever's certificate is revoked is cut off at once, comes in nowhere, and gets no other; all others go
// on.
func TestRevocation(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		issued := s.Issue()
		certificate, err := s.Stranger().Enrol(t.Context(), issued.GetSecret())
		if err != nil {
			t.Fatal(err)
		}
		id := s.AwaitAgent(issued.GetToken().GetId())
		conn, err := s.Stranger().With(certificate).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Exchange(rawopamp.Hello(rawopamp.NewUID(), "revoked"), answerTime); err != nil {
			t.Fatal(err)
		}
		s.AwaitOnline(id)
		identity, filed := s.Enrol("filed")
		_, other := run(t, s, "other", agent.Apply)
		before := s.AwaitOnline(other)

		began := time.Now()
		s.Do("certificates", "revoke", id, filed, "--reason", "key-compromise")
		closed, err := conn.ReceiveClose(cutTime)
		if err != nil || closed.Code != 1008 || closed.Text != "REVOKED" {
			t.Fatalf("the session was not cut: %v, %v", closed, err)
		}
		t.Logf("the session was cut %s after the call began", time.Since(began).Round(time.Millisecond))
		s.AwaitAgentTo(id, "be offline", func(a *amporav1.Agent) string {
			return unless(a.GetPresence() == amporav1.Presence_PRESENCE_OFFLINE && a.GetSession().GetEndReason() == "REVOKED", a.GetSession().String())
		})
		// As soon as the gateways know, they refuse it before anybody else is asked; and until then nothing is let in.
		rig.Await(t, "the gateways to refuse it in the handshake", func() string { return admits(t, s.Stranger().With(certificate)) })
		if time.Since(began) > 2*cutTime {
			t.Errorf("that took %s", time.Since(began))
		}
		if got := s.CLI("renew", "--server", "https://"+s.OpAMP, "--dir", identity, "--force"); got.Code == 0 {
			t.Errorf("it was renewed: %s", got.Stderr)
		}
		list := new(amporav1.ListCertificatesResponse)
		s.Get(list, "certificates", "list", id)
		if c := list.GetCertificates(); len(c) != 1 || c[0].GetRevokedAt() == nil || c[0].GetRevocationReason() != amporav1.RevocationReason_REVOCATION_REASON_KEY_COMPROMISE {
			t.Errorf("its certificates are %v", c)
		}
		if after := s.AwaitOnline(other); after.GetSession().GetEpoch() != before.GetSession().GetEpoch() {
			t.Errorf("the other agent was disturbed: %v", after.GetSession())
		}
	})
}

// admits says what a peer gets that should be refused in the handshake, with an alert or 401; "" if it is. A session it
// must not get in any case.
func admits(t *testing.T, peer rawopamp.Peer) string {
	t.Helper()
	conn, err := peer.Dial(t.Context())
	if status, answered := errors.AsType[*rawopamp.StatusError](err); answered && status.Status != 401 {
		return err.Error()
	}
	if err != nil {
		return unless(strings.Contains(err.Error(), "tls") || strings.Contains(err.Error(), "401"), err.Error())
	}
	defer func() { _ = conn.Close() }()
	answer, err := conn.Exchange(rawopamp.Hello(rawopamp.NewUID(), "revoked"), answerTime)
	if err == nil && answer.GetErrorResponse() == nil {
		t.Errorf("it was admitted: %v", answer)
	}
	return "it may open a connection"
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestTheWayBack: a supervisor whose certificate is over comes back with new files, as the agent that it was.
func TestTheWayBack(t *testing.T) {
	t.Parallel()
	const life = 90 * time.Second
	s := rig.NewServer(t, rig.SplitPostgres)
	for _, part := range s.Controls() {
		part.Env["AMPORA_PKI_LEAF_LIFETIME"] = life.String()
	}
	s.Start()
	began := time.Now()
	identity, id := s.Enrol("supervisor")
	s.Do("groups", "create", "web")
	s.Do("groups", "add", "web", id)
	supervisor := s.Supervisor("supervisor", rig.Example(t, "supervisor-enrolled.yaml"), map[string]string{"AMPORA_IDENTITY": identity}).Start()
	before := s.AwaitOnline(id)
	if result := s.CLI("tokens", "issue", "--agent", id); result.Code == 0 || !strings.Contains(result.Stderr, "AGENT_HAS_CERTIFICATE") {
		t.Errorf("a token for an agent with a good certificate: %+v", result)
	}
	<-time.After(time.Until(began.Add(life)))
	s.AwaitAgentTo(id, "be cut off", func(agent *amporav1.Agent) string {
		return unless(agent.GetPresence() == amporav1.Presence_PRESENCE_OFFLINE, agent.GetPresence().String())
	})

	supervisor.Stop()
	token, tokenID := s.IssueFile("back.token", "--agent", id)
	s.Do("enroll", "--force", "--server", "https://"+s.OpAMP, "--ca-file", s.CAFile, "--token-file", token, "--out-dir", identity)
	supervisor.Start()
	after := s.AwaitAgentTo(id, "come back", func(agent *amporav1.Agent) string {
		return unless(agent.GetPresence() == amporav1.Presence_PRESENCE_ONLINE, agent.GetPresence().String())
	})
	if after.GetGroupName() != "web" || after.GetInstanceUid() != before.GetInstanceUid() || after.GetEnrolledAt().AsTime() != before.GetEnrolledAt().AsTime() ||
		after.GetCredential().GetSerial() == before.GetCredential().GetSerial() {
		t.Errorf("it is %v, was %v", after, before)
	}
	if got := s.Token(tokenID); got.GetAgentId() != id || got.GetForAgentId() != id {
		t.Errorf("the token is %v", got)
	}
	if n := s.Database.Count(t, "SELECT count(*) FROM agents"); n != 1 {
		t.Errorf("there are %d agents", n)
	}
	if count(s, id, "agent.returned") != 1 || !strings.Contains(s.Do("audit", "list", "--entity", id), "agent.return") {
		t.Errorf("it is not told: %v", s.Events(id))
	}
}

// TestAnIdentityIsReplaced: whoever has an identity loses it to whoever brings the token, which keys of its own and of the
// server are alike for.
func TestAnIdentityIsReplaced(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		a := newKeyedAgent(t, s)
		id, thief := a.id, a.conn
		// The agent's own key.
		issued := s.Issue("--agent", id, "--replace")
		own, err := s.Stranger().Enrol(t.Context(), issued.GetSecret())
		if err != nil {
			t.Fatal(err)
		}
		if got := s.AwaitAgent(issued.GetToken().GetId()); got != id {
			t.Errorf("the token enrolled %s", got)
		}
		if end, err := thief.ReceiveClose(10 * time.Second); err != nil || end == nil {
			t.Errorf("the session of the former certificate goes on: %v, %v", end, err)
		}
		former := a.identity
		a.connect(own)
		if refused(t, s, former, a.uid) == "" {
			t.Error("the former certificate is let in")
		}
		// A key of the server's.
		a.enrol(s.Issue("--agent", id, "--replace"))
		if a.id != id || bytes.Equal(a.identity.Leaf.Raw, own.Leaf.Raw) {
			t.Errorf("it came back as %s, was %s", a.id, id)
		}
		if refused(t, s, own, a.uid) == "" {
			t.Error("the former certificate is let in")
		}
		if n := s.Database.Count(t, "SELECT count(*) FROM certificates WHERE revoked_at IS NULL"); n != 1 {
			t.Errorf("%d certificates are good", n)
		}
		// Who is revoked takes the tokens along that would bring it back.
		dead := s.Issue("--agent", id, "--replace")
		s.Do("certificates", "revoke", id)
		if conn, err := s.Stranger().Bearing(dead.GetSecret()).Dial(t.Context()); err == nil {
			_ = conn.Close()
			t.Error("a token from before the revocation is let in")
		}
		if result := s.CLI("tokens", "issue", "--agent", id); result.Code == 0 || !strings.Contains(result.Stderr, "AGENT_WAS_REVOKED") {
			t.Errorf("a token for a revoked agent: %+v", result)
		}
	})
}

// refused is how a certificate is refused, in the handshake or after it; empty if it is not.
func refused(t *testing.T, s *rig.Server, identity *tls.Certificate, uid []byte) string {
	t.Helper()
	conn, err := s.Stranger().With(identity).Dial(t.Context())
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	answer, err := conn.Exchange(rawopamp.Hello(uid, "former"), answerTime)
	if err != nil {
		return err.Error()
	}
	return answer.GetErrorResponse().GetErrorMessage()
}

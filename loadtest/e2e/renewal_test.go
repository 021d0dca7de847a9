// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/open-telemetry/opamp-go/protobufs"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestRenewal: an agent with files gets its next certificate with the one it has, while its supervisor goes on, and is
// the same agent when it comes back with it.
func TestRenewal(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		identity, id := s.Enrol("supervisor")
		supervisor := s.Supervisor("supervisor", rig.Example(t, "supervisor-enrolled.yaml"), map[string]string{"AMPORA_IDENTITY": identity}).Start()
		before := s.AwaitOnline(id)

		renew := func(flags ...string) {
			t.Helper()
			s.Do(append([]string{"renew", "--server", "https://" + s.OpAMP, "--dir", identity}, flags...)...)
		}
		certificates := func() int {
			return s.Database.Count(t, "SELECT count(*) FROM certificates WHERE revoked_at IS NULL")
		}
		renew() // which is not due
		if n := certificates(); n != 1 {
			t.Fatalf("%d certificates are on record", n)
		}
		renew("--force")
		if n := certificates(); n != 2 {
			t.Fatalf("%d certificates are on record, and not revoked", n)
		}
		if got := s.AwaitOnline(id).GetSession().GetEpoch(); got != before.GetSession().GetEpoch() {
			t.Errorf("the session was disturbed: epoch %d, was %d", got, before.GetSession().GetEpoch())
		}
		supervisor.Stop()
		supervisor.Start()
		after := s.AwaitAgentTo(id, "come back", func(agent *amporav1.Agent) string {
			online := agent.GetPresence() == amporav1.Presence_PRESENCE_ONLINE
			return unless(online && agent.GetSession().GetEpoch() > before.GetSession().GetEpoch(), agent.GetSession().String())
		})
		if after.GetCredential().GetSerial() == before.GetCredential().GetSerial() || after.GetInstanceUid() != before.GetInstanceUid() {
			t.Errorf("it came back as %s with %s, was %s with %s", after.GetInstanceUid(), after.GetCredential().GetSerial(),
				before.GetInstanceUid(), before.GetCredential().GetSerial())
		}
		// The next one is had with this one.
		renew("--force")
		if n := certificates(); n != 3 {
			t.Errorf("%d certificates are on record", n)
		}
	})
}

// TestRenewalOverOpAMP: an agent that makes its own keys asks in its session, and is given no more of them than it needs.
func TestRenewalOverOpAMP(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		issued := s.Issue()
		first, err := s.Stranger().Enrol(t.Context(), issued.GetSecret())
		if err != nil {
			t.Fatal(err)
		}
		id, uid := s.AwaitAgent(issued.GetToken().GetId()), rawopamp.NewUID()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		asks := func(certificate *tls.Certificate) *protobufs.ServerToAgent {
			t.Helper()
			conn, err := s.Stranger().With(certificate).Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			message := rawopamp.Hello(uid, "renewing")
			message.ConnectionSettingsRequest = &protobufs.ConnectionSettingsRequest{
				Opamp: &protobufs.OpAMPConnectionSettingsRequest{CertificateRequest: &protobufs.CertificateRequest{Csr: csr}},
			}
			answer, err := conn.Exchange(message, answerTime)
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
		offered := asks(first).GetConnectionSettings().GetOpamp().GetCertificate()
		block, _ := pem.Decode(offered.GetCert())
		if block == nil || len(offered.GetPrivateKey()) > 0 {
			t.Fatalf("it was offered %v", offered)
		}
		// Whoever did not hear the answer is given the same again.
		if again := asks(first).GetConnectionSettings().GetOpamp().GetCertificate(); string(again.GetCert()) != string(offered.GetCert()) {
			t.Error("the same key got another certificate")
		}
		second, err := tls.X509KeyPair(offered.GetCert(), pemOf(t, key))
		if err != nil {
			t.Fatal(err)
		}
		// The key is no new one any more.
		refusal := asks(&second).GetErrorResponse()
		if refusal.GetType() != protobufs.ServerErrorResponseType_ServerErrorResponseType_BadRequest {
			t.Errorf("it was answered %v", refusal)
		}
		if got := s.Agent(id).GetCredential().GetSerial(); got != second.Leaf.SerialNumber.Text(16) {
			t.Errorf("the agent shows the certificate %s", got)
		}
	})
}

func pemOf(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

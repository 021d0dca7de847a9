// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// shortLife is how long certificates last in these tests: they are due after half of it, and first offered within an eighth
// more.
const shortLife = 120 * time.Second

// shortLived runs a test on a development server and on a split installation whose certificates are short-lived.
func shortLived(t *testing.T, test func(t *testing.T, s *rig.Server)) {
	t.Helper()
	t.Parallel()
	for name, flavour := range map[string]rig.Flavour{"development": rig.Development, "split-redis": rig.SplitRedis} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := rig.NewServer(t, flavour)
			for _, part := range s.Parts {
				if !strings.Contains(part.Name, "gateway") {
					part.Env["AMPORA_PKI_LEAF_LIFETIME"] = shortLife.String()
				}
			}
			test(t, s.Start())
		})
	}
}

const settingsBit = uint64(protobufs.AgentCapabilities_AgentCapabilities_AcceptsOpAMPConnectionSettings)

// keyedAgent is an agent whose key the server makes.
type keyedAgent struct {
	t        *testing.T
	s        *rig.Server
	id       string
	uid      []byte
	identity *tls.Certificate
	conn     *rawopamp.Conn
	sequence uint64
	hash     []byte // of the offer that came last
}

// newKeyedAgent enrols over OpAMP, as the stock supervisor does.
func newKeyedAgent(t *testing.T, s *rig.Server) *keyedAgent {
	t.Helper()
	a := &keyedAgent{t: t, s: s, uid: rawopamp.NewUID()}
	a.enrol(s.Issue())
	return a
}

// enrol brings a token, and connects with what is offered for it.
func (a *keyedAgent) enrol(issued *amporav1.IssueBootstrapTokenResponse) {
	a.t.Helper()
	conn, err := a.s.Stranger().Bearing(issued.GetSecret()).Dial(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	hello := rawopamp.Hello(a.uid, "keyed")
	hello.Capabilities |= settingsBit
	answer, err := conn.Exchange(hello, answerTime)
	if err != nil {
		a.t.Fatal(err)
	}
	a.identity = a.offered(answer)
	a.id = a.s.AwaitAgent(issued.GetToken().GetId())
	a.connect(a.identity)
}

// offered is the certificate in an offer.
func (a *keyedAgent) offered(m *protobufs.ServerToAgent) *tls.Certificate {
	a.t.Helper()
	a.hash = m.GetConnectionSettings().GetHash()
	offer := m.GetConnectionSettings().GetOpamp().GetCertificate()
	pair, err := tls.X509KeyPair(offer.GetCert(), offer.GetPrivateKey())
	if err != nil {
		a.t.Fatalf("offered %v: %v", m, err)
	}
	return &pair
}

// connect opens a session with a certificate, in the place of the one it has.
func (a *keyedAgent) connect(identity *tls.Certificate) {
	a.t.Helper()
	if a.conn != nil {
		_ = a.conn.Close()
	}
	rig.Await(a.t, "a session", func() string {
		conn, err := a.s.Stranger().With(identity).Dial(a.t.Context())
		if err != nil {
			return err.Error()
		}
		hello := rawopamp.Hello(a.uid, "keyed")
		hello.Capabilities |= settingsBit
		answer, err := conn.Exchange(hello, answerTime)
		if err != nil || answer.GetErrorResponse() != nil {
			_ = conn.Close()
			return "answered " + answer.String()
		}
		a.conn, a.sequence = conn, 0
		return ""
	})
}

// next is the next offer of a certificate in the session, nil if none comes in time.
func (a *keyedAgent) next(wait time.Duration) *tls.Certificate {
	a.t.Helper()
	for until := time.Now().Add(wait); time.Now().Before(until); {
		a.sequence++
		beat := rawopamp.Beat(a.uid, a.sequence)
		beat.Capabilities |= settingsBit
		answer, err := a.conn.Exchange(beat, answerTime)
		if err != nil {
			a.t.Fatal(err)
		}
		if answer.GetConnectionSettings() != nil {
			return a.offered(answer)
		}
		<-time.After(100 * time.Millisecond)
	}
	return nil
}

// await is the next offer.
func (a *keyedAgent) await() *tls.Certificate {
	a.t.Helper()
	offer := a.next(shortLife)
	if offer == nil {
		a.t.Fatal("no certificate was offered")
	}
	return offer
}

// fails says that the agent could not use the offer that came last.
func (a *keyedAgent) fails(words string) {
	a.t.Helper()
	a.sequence++
	message := rawopamp.Beat(a.uid, a.sequence)
	message.Capabilities |= settingsBit
	message.ConnectionSettingsStatus = &protobufs.ConnectionSettingsStatus{
		LastConnectionSettingsHash: a.hash, ErrorMessage: words,
		Status: protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_FAILED,
	}
	if _, err := a.conn.Exchange(message, answerTime); err != nil {
		a.t.Fatal(err)
	}
}

// count says how many events of a kind there are about an agent.
func count(s *rig.Server, agent, kind string) (n int) {
	for _, e := range s.Events(agent) {
		if e.GetKind() == kind {
			n++
		}
	}
	return n
}

func remarks(agent *amporav1.Agent) (reasons []string) {
	for _, remark := range agent.GetAttention() {
		reasons = append(reasons, remark.GetReason())
	}
	return reasons
}

// TestUpkeepOfAnAgent: an agent is offered its next certificate in good time, comes back with it once, and is the same; and
// if it forgets it, it is offered another.
func TestUpkeepOfAnAgent(t *testing.T) {
	shortLived(t, func(t *testing.T, s *rig.Server) {
		a := newKeyedAgent(t, s)
		before := s.AwaitOnline(a.id)
		second := a.await()
		if left := time.Until(a.identity.Leaf.NotAfter); left < shortLife/8 || left > shortLife/2 {
			t.Errorf("it was offered %v before the end", left)
		}
		if again := a.next(3 * time.Second); again != nil {
			t.Error("it was offered twice in its session")
		}
		a.connect(second)
		after := s.AwaitAgentTo(a.id, "show its next certificate", func(agent *amporav1.Agent) string {
			return unless(agent.GetCredential().GetSerial() == second.Leaf.SerialNumber.Text(16), agent.GetCredential().GetSerial())
		})
		if after.GetSession().GetEpoch() != before.GetSession().GetEpoch()+1 || after.GetInstanceUid() != before.GetInstanceUid() ||
			after.GetConfigDelivery().GetState() != before.GetConfigDelivery().GetState() || len(after.GetAttention()) > 0 {
			t.Errorf("it was %v, it is %v", before, after)
		}
		for kind, want := range map[string]int{"agent.certificate_renewed": 1, "agent.certificate_in_use": 1, "agent.certificate_attention": 0, "agent.connected": 2} {
			if got := count(s, a.id, kind); got != want {
				t.Errorf("%d events %s, want %d", got, kind, want)
			}
		}
		a.connect(a.identity) // it has forgotten what it was offered
		third := a.await()
		if third.Leaf.SerialNumber.Cmp(second.Leaf.SerialNumber) == 0 {
			t.Error("it was offered a certificate whose key is nowhere any more")
		}
		a.connect(third)
		if n := s.Database.Count(t, "SELECT count(*) FROM certificates WHERE revoked_at IS NOT NULL"); n > 0 {
			t.Errorf("%d superseded certificates are revoked", n)
		}
	})
}

// TestOffersBeginAnew: what was offered in vain is forgotten when somebody says so, and another offer comes in the same
// session, which else it would not.
func TestOffersBeginAnew(t *testing.T) {
	shortLived(t, func(t *testing.T, s *rig.Server) {
		a := newKeyedAgent(t, s)
		if result := s.CLI("certificates", "offer", a.id); result.Code == 0 || !strings.Contains(result.Stderr, "CERTIFICATE_NOT_OFFERED") {
			t.Errorf("an offer before its time: %+v", result)
		}
		a.await()
		a.fails("it does not suit me")
		s.Do("certificates", "offer", a.id)
		next := a.await()
		a.connect(next)
		s.AwaitAgentTo(a.id, "show its next certificate", func(agent *amporav1.Agent) string {
			serial := agent.GetCredential().GetSerial()
			return unless(serial == next.Leaf.SerialNumber.Text(16), "it shows "+serial)
		})
	})
}

// TestUpkeepThatIsIgnored: three offers, each in a session of its own, and then somebody is told. With the end of its
// certificate the agent is refused. A new token makes a new one of it, and one that is for it brings it back.
func TestUpkeepThatIsIgnored(t *testing.T) {
	shortLived(t, func(t *testing.T, s *rig.Server) {
		a := newKeyedAgent(t, s)
		for range 3 {
			a.await()
			a.fails("it does not suit me")
			a.connect(a.identity)
		}
		s.AwaitAgentTo(a.id, "need attention", func(agent *amporav1.Agent) string {
			return unless(slices.Equal(remarks(agent), []string{"CERTIFICATE_NEEDS_ATTENTION"}), "the remarks are: "+strings.Join(remarks(agent), " "))
		})
		if words := s.Agent(a.id).GetAttention()[0].GetMessage(); !strings.Contains(words, "it does not suit me") {
			t.Errorf("of what it says there is %q", words)
		}
		if n := count(s, a.id, "agent.certificate_attention"); n != 1 {
			t.Errorf("it was told %d times", n)
		}
		if list := s.Do("agents", "list", "--attention"); !strings.Contains(list, a.id) {
			t.Errorf("it is not listed: %s", list)
		}

		<-time.After(time.Until(a.identity.Leaf.NotAfter))
		if n := s.Database.Count(t, "SELECT offers FROM certificate_upkeep"); n != 3 {
			t.Errorf("it was offered %d times", n)
		}
		if end, err := a.conn.ReceiveClose(10 * time.Second); err != nil || !strings.Contains(end.Text, "expired") {
			t.Errorf("its session ended with %v, %v", end, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if conn, err := s.Stranger().With(a.identity).Dial(ctx); err == nil {
			_ = conn.Close()
			t.Error("it was let in with a certificate that has expired")
		}
		back := newKeyedAgent(t, s)
		if back.id == a.id {
			t.Error("a new token gave the same identity")
		}
		s.AwaitOnline(back.id)
		conn, err := s.Stranger().With(back.identity).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if answer, err := conn.Exchange(rawopamp.Hello(a.uid, "keyed"), answerTime); err != nil || !strings.Contains(answer.GetErrorResponse().GetErrorMessage(), "UID_FOREIGN") {
			t.Errorf("with the uid of its former identity it is answered %v, %v", answer, err)
		}
		former := a.id
		a.enrol(s.Issue("--agent", a.id))
		defer func() { _ = a.conn.Close() }() // or it would be closed when it is collected
		if a.id != former {
			t.Errorf("it came back as %s, was %s", a.id, former)
		}
		s.AwaitAgentTo(a.id, "be back", func(agent *amporav1.Agent) string {
			online := agent.GetPresence() == amporav1.Presence_PRESENCE_ONLINE
			return unless(online && len(agent.GetAttention()) == 0, agent.String())
		})
	})
}

// TestUpkeepOfFiles: whoever has an agent's files is told, and the agent is offered nothing.
func TestUpkeepOfFiles(t *testing.T) {
	shortLived(t, func(t *testing.T, s *rig.Server) {
		issued := s.Issue()
		identity, err := s.Stranger().Enrol(t.Context(), issued.GetSecret())
		if err != nil {
			t.Fatal(err)
		}
		a := &keyedAgent{t: t, s: s, id: s.AwaitAgent(issued.GetToken().GetId()), uid: rawopamp.NewUID(), identity: identity}
		a.connect(identity)
		s.AwaitOnline(a.id)
		if offer := a.next(shortLife / 2); offer != nil {
			t.Fatal("it was offered a key")
		}
		s.AwaitAgentTo(a.id, "be remarked", func(agent *amporav1.Agent) string {
			return unless(slices.Equal(remarks(agent), []string{"CERTIFICATE_EXPIRING"}), "the remarks are: "+strings.Join(remarks(agent), " "))
		})
		if offer := a.next(shortLife / 4); offer != nil {
			t.Fatal("it was offered a key")
		}
		s.AwaitAgentTo(a.id, "need attention", func(agent *amporav1.Agent) string {
			return unless(slices.Equal(remarks(agent), []string{"CERTIFICATE_NEEDS_ATTENTION"}), "the remarks are: "+strings.Join(remarks(agent), " "))
		})
		if n := count(s, a.id, "agent.certificate_expiring"); n != 1 {
			t.Errorf("it was told %d times", n)
		}
	})
}

// TestUpkeepOfASupervisor: the stock supervisor takes what it is offered, once for each certificate, and goes on with what
// it runs.
func TestUpkeepOfASupervisor(t *testing.T) {
	shortLived(t, func(t *testing.T, s *rig.Server) {
		issued := s.Issue()
		supervisor := s.Supervisor("supervisor", rig.Example(t, "supervisor-bootstrap.yaml"), map[string]string{"AMPORA_BOOTSTRAP_TOKEN": issued.GetSecret()}).Start()
		defer supervisor.Stop()
		id := s.AwaitAgent(issued.GetToken().GetId())
		before := s.AwaitOnline(id)
		publish(t, s, "steady", newPipeline(t, "steady").yaml())
		assign(t, s, id, "steady", amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
		applied := s.AwaitDelivery(id, amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
		rig.AwaitFor(t, 3*shortLife, "two renewals", func() string {
			return unless(count(s, id, "agent.certificate_in_use") >= 2, "there are fewer")
		})
		after := s.AwaitOnline(id)
		renewals := count(s, id, "agent.certificate_in_use")
		if got := int(after.GetSession().GetEpoch() - before.GetSession().GetEpoch()); got != renewals {
			t.Errorf("%d renewals cost %d connections", renewals, got)
		}
		if after.GetInstanceUid() != before.GetInstanceUid() || len(after.GetAttention()) > 0 ||
			after.GetConfigDelivery().String() != applied.GetConfigDelivery().String() {
			t.Errorf("it was %v, it is %v", applied, after)
		}
		if health := after.GetHealth(); health != nil && !health.GetHealthy() {
			t.Errorf("it is taken for unhealthy: %v", health)
		}
	})
}

// TestUpkeepOutlivesTheGateway: a gateway dies with the offer that it makes. The agent is offered another in its next
// session, and two processes of the control plane make no offer twice.
func TestUpkeepOutlivesTheGateway(t *testing.T) {
	t.Parallel()
	s := rig.NewServer(t, rig.SplitPostgres)
	const life = 2 * shortLife // what the dead gateway was sent is sent again after 30 s
	for _, part := range s.Controls() {
		part.Env["AMPORA_PKI_LEAF_LIFETIME"] = life.String()
	}
	a := newKeyedAgent(t, s.Start())
	offers := func() int { return s.Database.Count(t, "SELECT coalesce(sum(offers), 0)::int FROM certificate_upkeep") }
	at := s.AwaitOnline(a.id).GetSession().GetGatewayId()
	for offers() == 0 { // until its certificate ends, which fails
		a.next(100 * time.Millisecond)
	}
	for _, part := range s.Gateways() {
		if part.Name == at {
			part.Kill()
		}
	}
	a.connect(a.identity)
	second := a.await()
	if n := offers(); n > 2 {
		t.Errorf("%d offers were made", n)
	}
	if n := s.Database.Count(t, "SELECT count(*) FROM certificates"); n > 3 {
		t.Errorf("%d certificates were made", n)
	}
	a.connect(second)
	s.AwaitAgentTo(a.id, "show its next certificate", func(agent *amporav1.Agent) string {
		serial := agent.GetCredential().GetSerial()
		return unless(serial == second.Leaf.SerialNumber.Text(16), "it shows "+serial)
	})
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestSupervisor is the first path through the product: a stock supervisor brings a
// token, is offered a key and a certificate, comes back with them, and takes
// configurations, good and bad.
func TestSupervisor(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		issued := s.Issue("--description", "of the supervisor")
		s.Supervisor("supervisor", rig.Example(t, "supervisor-bootstrap.yaml"), map[string]string{
			"AMPORA_BOOTSTRAP_TOKEN": issued.GetSecret(),
		}).Start()
		id := s.AwaitAgent(issued.GetToken().GetId())
		showsItself(t, s, id)

		noLastGood := publish(t, s, "never-good", broken("nosuchreceiver"))
		assign(t, s, id, "never-good", amporav1.DeliveryState_DELIVERY_STATE_FAILED)
		isLeftAlone(t, s, id, noLastGood)

		good := newPipeline(t, "first")
		offer := publish(t, s, "good", good.yaml())
		assign(t, s, id, "good", amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
		really(t, s, id, good, offer)

		bad := publish(t, s, "bad", broken("nosuchreceiver2"))
		assign(t, s, id, "bad", amporav1.DeliveryState_DELIVERY_STATE_FAILED)
		isPutBack(t, s, id, good, "exited unexpectedly") // all that this supervisor knows without validate_config
		isNotOfferedAgain(t, s, id, bad)

		refusesWhatIsNoMapping(t, s)
	})
}

// showsItself: all that an agent tells of itself is there to see, but for its health:
// what the supervisor says of it while it enrols is not stored, and it says it again
// only when it changes.
func showsItself(t *testing.T, s *rig.Server, id string) {
	t.Helper()
	agent := s.AwaitAgentTo(id, "tell everything", func(agent *amporav1.Agent) string {
		switch {
		case agent.GetPresence() != amporav1.Presence_PRESENCE_ONLINE:
			return agent.GetPresence().String()
		case agent.GetServiceName() != "otelcol":
			return "service is " + agent.GetServiceName()
		case len(agent.GetEffectiveConfig().GetFiles()) == 0 || agent.GetEffectiveConfig().GetFiles()[0].GetSize() == 0:
			return "no effective configuration"
		}
		return ""
	})
	for _, want := range []string{"ReportsStatus", "AcceptsRemoteConfig", "AcceptsOpAMPConnectionSettings", "ReportsHealth"} {
		if !slices.Contains(agent.GetCapabilities(), want) {
			t.Errorf("capability %s is missing in %v", want, agent.GetCapabilities())
		}
	}
	if !strings.HasSuffix(agent.GetCredential().GetSpiffeId(), "/tenant/default/agent/"+id) || agent.GetCredential().GetFingerprint() == "" {
		t.Errorf("credential is %v", agent.GetCredential())
	}
	if session := agent.GetSession(); session.GetTransport() != amporav1.Transport_TRANSPORT_WEBSOCKET || session.GetEpoch() == 0 || session.GetPeer() == "" {
		t.Errorf("session is %v", session)
	}
	if len(agent.GetDescription().GetIdentifying()) == 0 || len(agent.GetDescription().GetNonIdentifying()) == 0 {
		t.Errorf("description is %v", agent.GetDescription())
	}
	list := new(amporav1.ListAgentsResponse)
	s.Get(list, "agents", "list", "--presence", "online")
	if len(list.GetAgents()) != 1 || list.GetAgents()[0].GetId() != id {
		t.Errorf("agents list shows %v", list.GetAgents())
	}
	if n := s.Database.Count(t, "SELECT count(*) FROM agents"); n != 1 {
		t.Errorf("%d agents are stored", n)
	}
}

// assign assigns the newest version and waits for how it ends on the agent.
func assign(t *testing.T, s *rig.Server, id, config string, want amporav1.DeliveryState) {
	t.Helper()
	code := 0
	if want == amporav1.DeliveryState_DELIVERY_STATE_FAILED {
		code = 4
	}
	if got := s.CLI("configs", "assign", config, "--agent", id, "--wait", "--timeout", "50s"); got.Code != code {
		t.Fatalf("configs assign %s --wait: exit code %d, want %d\n%s%s", config, got.Code, code, got.Stdout, got.Stderr)
	}
	s.AwaitDelivery(id, want)
}

// really: the collector runs the configuration, says so, and said all that comes before.
func really(t *testing.T, s *rig.Server, id string, p pipeline, offer string) {
	t.Helper()
	p.awaitRunning(t)
	s.AwaitAgentTo(id, "tell its health", func(agent *amporav1.Agent) string {
		return unless(agent.GetHealth().GetHealthy() && len(agent.GetHealth().GetComponents()) > 0, agent.GetHealth().String())
	})
	rig.Await(t, "the effective configuration to show the mark", func() string {
		text := s.Do("agents", "effective-config", id)
		if !strings.Contains(text, p.mark) || !strings.Contains(text, p.addr) {
			return "it is:\n" + text
		}
		return ""
	})
	if got := words(s, id, offer); len(got) < 2 || got[0] != "applying" || got[len(got)-1] != "applied" {
		t.Errorf("the agent's words were %v, want applying and then applied", got)
	}
}

// isLeftAlone: a failure with nothing good before it is flagged; nothing is sent, an
// empty configuration least of all.
func isLeftAlone(t *testing.T, s *rig.Server, id, offer string) {
	t.Helper()
	s.AwaitAgentTo(id, "be flagged", func(agent *amporav1.Agent) string {
		return attention(agent, "NO_LAST_GOOD_CONFIG")
	})
	rig.Never(t, 4*time.Second, "it is sent something", func() string {
		for _, event := range s.Events(id) {
			if event.GetKind() == "agent.config_granted" && event.GetAttributes()["offer_hash"] != offer {
				return event.String()
			}
		}
		return ""
	})
	if n := granted(s, id, offer); n != 1 {
		t.Errorf("it was granted %d times", n)
	}
}

func attention(agent *amporav1.Agent, reason string) (missing string) {
	for _, attention := range agent.GetAttention() {
		if attention.GetReason() == reason {
			return ""
		}
	}
	return "no " + reason + " in " + agent.String()
}

// isPutBack: the agent's own words are kept, and it runs what it ran before.
func isPutBack(t *testing.T, s *rig.Server, id string, p pipeline, words string) {
	t.Helper()
	agent := s.AwaitAgentTo(id, "be put back", func(agent *amporav1.Agent) string {
		status := agent.GetRemoteConfigStatus()
		if status.GetState() != amporav1.ConfigState_CONFIG_STATE_APPLIED || agent.GetConfigDelivery().GetRestoredVersion() != 1 {
			return "status is " + status.String() + ", delivery is " + agent.GetConfigDelivery().String()
		}
		return attention(agent, "CONFIG_FAILED")
	})
	delivery := agent.GetConfigDelivery()
	if delivery.GetState() != amporav1.DeliveryState_DELIVERY_STATE_FAILED || !strings.Contains(delivery.GetMessage(), words) {
		t.Errorf("delivery is %v, want failed with the agent's own words: %s", delivery, words)
	}
	p.awaitRunning(t)
	if text := s.Do("agents", "effective-config", id); !strings.Contains(text, p.mark) || strings.Contains(text, "nosuchreceiver") {
		t.Errorf("it does not run what it was put back to:\n%s", text)
	}
}

// isNotOfferedAgain: neither by itself, nor over a new session, but once when an
// operator says so.
func isNotOfferedAgain(t *testing.T, s *rig.Server, id, offer string) {
	t.Helper()
	once := func() string {
		if n := granted(s, id, offer); n != 1 {
			return "it was granted again"
		}
		return ""
	}
	rig.Never(t, 4*time.Second, "the failed version", once)
	epoch := s.Agent(id).GetSession().GetEpoch()
	if code := s.Stop(); code != 0 {
		t.Errorf("ampora stopped with %d", code)
	}
	s.Start()
	s.AwaitAgentTo(id, "have a new session", func(agent *amporav1.Agent) string {
		if agent.GetPresence() != amporav1.Presence_PRESENCE_ONLINE || agent.GetSession().GetEpoch() <= epoch {
			return agent.GetSession().String()
		}
		return ""
	})
	rig.Never(t, 4*time.Second, "the failed version", once)

	s.Do("agents", "retry", id)
	rig.Await(t, "the failed version to be offered once more", func() string {
		if granted(s, id, offer) < 2 {
			return "it is not"
		}
		return ""
	})
	s.AwaitDelivery(id, amporav1.DeliveryState_DELIVERY_STATE_FAILED)
	rig.Never(t, 4*time.Second, "the failed version", func() string {
		if n := granted(s, id, offer); n != 2 {
			return "it was granted again after one retry"
		}
		return ""
	})
}

// refusesWhatIsNoMapping: before anything could be sent.
func refusesWhatIsNoMapping(t *testing.T, s *rig.Server) {
	t.Helper()
	before := s.Database.Count(t, "SELECT count(*) FROM config_versions")
	for name, body := range map[string]string{
		"not-yaml":     "receivers:\n  otlp: {]\n",
		"not-mapping":  "- receivers\n- exporters\n",
		"empty":        "",
		"tab":          "receivers:\n\totlp: {}\n",
		"several":      "a: {}\n---\nb: {}\n",
		"only-comment": "# nothing\n",
	} {
		got := s.CLI("configs", "create", "refused-"+name, "-f", file(t, s, name+".yaml", body), "--publish")
		if got.Code == 0 {
			t.Errorf("%s: a body that is no mapping was taken", name)
		}
		if !strings.Contains(got.Stderr, "line ") || !strings.Contains(got.Stderr, "column ") {
			t.Errorf("%s: no line and column in %q", name, got.Stderr)
		}
	}
	if after := s.Database.Count(t, "SELECT count(*) FROM config_versions"); after != before {
		t.Errorf("%d versions were stored", after-before)
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"slices"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestExtension is a collector that speaks OpAMP by itself, over both transports, with
// the files of amporactl enroll.
func TestExtension(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		for example, transport := range map[string]amporav1.Transport{
			"collector-ws.yaml":   amporav1.Transport_TRANSPORT_WEBSOCKET,
			"collector-http.yaml": amporav1.Transport_TRANSPORT_HTTP,
		} {
			identity, id := s.Enrol(example)
			collector := s.Collector(example, rig.Example(t, example), map[string]string{"AMPORA_IDENTITY": identity}).Start()
			agent := s.AwaitAgentTo(id, "tell everything", reportsAll)
			if got := agent.GetSession().GetTransport(); got != transport {
				t.Errorf("%s: transport is %s", example, got)
			}
			takesNoConfiguration(t, s, agent)
			if transport == amporav1.Transport_TRANSPORT_WEBSOCKET { // one that polls just stops
				collector.Stop()
				s.AwaitAgentTo(id, "be offline", func(agent *amporav1.Agent) string {
					if agent.GetPresence() != amporav1.Presence_PRESENCE_OFFLINE {
						return agent.GetPresence().String()
					}
					return ""
				})
			}
		}
	})
}

// reportsAll: what the extension tells.
func reportsAll(agent *amporav1.Agent) string {
	switch {
	case agent.GetPresence() != amporav1.Presence_PRESENCE_ONLINE:
		return agent.GetPresence().String()
	case !agent.GetHealth().GetHealthy() || len(agent.GetHealth().GetComponents()) == 0:
		return "health is " + agent.GetHealth().String()
	case len(agent.GetEffectiveConfig().GetFiles()) == 0:
		return "no effective configuration"
	case !slices.Contains(agent.GetCapabilities(), "ReportsHealth"):
		return "capabilities are wrong"
	}
	return ""
}

// takesNoConfiguration: it cannot, which is said, and nothing is sent.
func takesNoConfiguration(t *testing.T, s *rig.Server, agent *amporav1.Agent) {
	t.Helper()
	name := "for-" + agent.GetId()[len(agent.GetId())-8:]
	offer := publish(t, s, name, newPipeline(t, name).yaml())
	s.Do("configs", "assign", name, "--agent", agent.GetId())
	s.AwaitDelivery(agent.GetId(), amporav1.DeliveryState_DELIVERY_STATE_SKIPPED)
	if n := granted(s, agent.GetId(), offer); n != 0 {
		t.Errorf("it was granted %d times to an agent that cannot take it", n)
	}
}

// TestPlainBootstrapOnExtension: the extension cannot take a certificate, so a bearer
// token alone leads nowhere. It is told, and the token stays good for amporactl enroll.
func TestPlainBootstrapOnExtension(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		token, tokenID := s.IssueFile("token")
		config := file(t, s, "plain.yaml", `extensions:
  opamp:
    server:
      ws:
        endpoint: ${env:AMPORA_OPAMP_URL}
        headers:
          Authorization: Bearer ${file:`+token+`}
        tls:
          ca_file: ${env:AMPORA_SERVER_CA}
receivers:
  nop: {}
exporters:
  nop: {}
service:
  extensions: [opamp]
  pipelines:
    logs:
      receivers: [nop]
      exporters: [nop]
`)
		collector := s.Collector("plain", config, nil).Start()
		rig.Await(t, "the extension to be refused", func() string {
			if s.Metric("ampora_gateway_rejections_total", `reason="cap_mismatch"`) == 0 {
				return "it is not:\n" + collector.Log()
			}
			return ""
		})
		collector.Stop()
		if state := s.Token(tokenID).GetState(); state != amporav1.TokenState_TOKEN_STATE_LIVE {
			t.Errorf("the token is %s", state)
		}
		if n := s.Database.Count(t, "SELECT count(*) FROM agents"); n != 0 {
			t.Errorf("%d agents are stored", n)
		}
		rig.Await(t, "the token to be taken by amporactl enroll", func() string {
			got := s.CLI("enroll", "--server", "https://"+s.OpAMP, "--ca-file", s.CAFile, "--token-file", token, "--out-dir", s.Dir+"/identity")
			if got.Code != 0 && got.Code != 6 { // 6: its penalty is not over
				t.Fatalf("enroll: %d: %s", got.Code, got.Stderr)
			}
			return unless(got.Code == 0, got.Stderr)
		})
	})
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"strings"
	"testing"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"

	"gitlab.com/ampora/ampora/loadtest/rig"
)

// TestTemplate: a configuration that asks for what is known of an agent is another for each; real collectors run it, say
// so, and are in sync. An agent of which it asks for what nobody knows is told of, and gets nothing.
func TestTemplate(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		agent := supervised(s, "templated", rig.Example(t, "supervisor-enrolled.yaml"))
		other := supervised(s, "templated-too", rig.Example(t, "supervisor-enrolled.yaml"))
		for _, id := range []string{agent, other} {
			s.AwaitAgentTo(id, "describe itself", func(a *amporav1.Agent) string { return unless(a.GetServiceName() != "", "it has not") })
		}
		p := newPipeline(t, "x-${ampora:agent:id}-${ampora:label:deployment.environment}-${ampora:tag:rack:-none}")
		publish(t, s, "per-agent", strings.Replace(p.yaml(), p.mark, `"`+p.mark+`"`, 1))
		assign(t, s, agent, "per-agent", amporav1.DeliveryState_DELIVERY_STATE_APPLIED)

		p.awaitRunning(t)
		want := "x-" + agent + "-demo-none"
		rig.Await(t, "the effective configuration to show what is known of the agent", func() string {
			text := s.Do("agents", "effective-config", agent)
			return unless(strings.Contains(text, want), "it is:\n"+text)
		})
		awaitDrift(t, s, agent, amporav1.DriftState_DRIFT_STATE_IN_SYNC)
		if got := s.Do("configs", "render", "per-agent", "--agent", other); !strings.Contains(got, "x-"+other+"-demo-none") {
			t.Errorf("the other would get\n%s", got)
		}

		publish(t, s, "asks-too-much", strings.Replace(p.yaml(), p.mark, `"${ampora:tag:nobody-knows}"`, 1))
		s.Do("configs", "assign", "asks-too-much", "--agent", other)
		s.AwaitAgentTo(other, "be flagged", func(a *amporav1.Agent) string { return attention(a, "NOT_RENDERED") })
		if got := s.AwaitDelivery(other, amporav1.DeliveryState_DELIVERY_STATE_SKIPPED); !strings.Contains(got.GetConfigDelivery().GetMessage(), "nobody-knows") {
			t.Errorf("it is told %q", got.GetConfigDelivery().GetMessage())
		}
		awaitDrift(t, s, agent, amporav1.DriftState_DRIFT_STATE_IN_SYNC) // the first is not bothered
	})
}

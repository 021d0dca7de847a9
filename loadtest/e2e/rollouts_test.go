// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// quickGates are the gates with windows that a test can wait for.
var quickGates = []string{"--gate", "disconnect=20%,window=5s", "--gate", "mismatch=20%,window=3s", "--gate", "unhealthy=10%,window=3s"}

// TestRollout: three stock supervisors get a good configuration, one after the other; a broken one and one whose collector
// starts and dies stop at the first of them, which has what it had before again, and the others never hear of it.
func TestRollout(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		s.Do("groups", "create", "edge")
		var agents []string
		for i := range 3 {
			name := fmt.Sprintf("edge-%d", i)
			identity, id := s.Enrol(name, "--group", "edge")
			s.Supervisor(name, rig.Example(t, "supervisor-enrolled.yaml"), map[string]string{"AMPORA_IDENTITY": identity}).Start()
			agents = append(agents, id)
		}
		for _, id := range agents {
			s.AwaitOnline(id)
		}

		good := publish(t, s, "good", harmless("good"))
		first := rollout(t, s, "good", "--strategy", "batch", "--size", "1")
		if n := len(first.GetPlan().GetWaves()); n != 3 {
			t.Fatalf("it has %d waves", n)
		}
		watched := s.CLI("rollouts", "watch", first.GetId())
		if watched.Code != 0 || !strings.Contains(watched.Stdout, "completed") {
			t.Errorf("watch: exit code %d\n%s%s", watched.Code, watched.Stdout, watched.Stderr)
		}
		for _, id := range agents {
			s.AwaitDelivery(id, amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
			if n := granted(s, id, good); n != 1 {
				t.Errorf("%s was granted it %d times", id, n)
			}
		}
		oneAfterTheOther(t, s, agents, good)

		stopsAtTheFirst(t, s, agents, "broken", broken("nosuchreceiver"))
		stopsAtTheFirst(t, s, agents, "dies", dying(t))
	})
}

// harmless is a configuration that any number of collectors of one machine can run.
func harmless(mark string) string {
	return fmt.Sprintf("receivers: {nop: {}}\nprocessors: {attributes: {actions: [{key: mark, value: %s, action: upsert}]}}\nexporters: {debug: {}}\n"+
		"service: {pipelines: {traces: {receivers: [nop], processors: [attributes], exporters: [debug]}}}\n", mark)
}

// dying is a configuration with which a collector starts, and dies of an address that somebody else has.
func dying(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return pipeline{addr: listener.Addr().String(), mark: "dies"}.yaml()
}

// rollout makes a rollout of a configuration to the group, and starts it.
func rollout(t *testing.T, s *rig.Server, config string, flags ...string) *amporav1.Rollout {
	t.Helper()
	made := new(amporav1.Rollout)
	s.Get(made, append(append([]string{"rollouts", "create", config, "--group", "edge"}, quickGates...), flags...)...)
	s.Do("rollouts", "start", made.GetId())
	return made
}

// oneAfterTheOther: nobody was granted it before everybody that was earlier had applied it.
func oneAfterTheOther(t *testing.T, s *rig.Server, agents []string, offer string) {
	t.Helper()
	type span struct{ granted, applied time.Time }
	var spans []span
	for _, id := range agents {
		var of span
		for _, event := range s.Events(id) {
			if event.GetAttributes()["offer_hash"] != offer {
				continue
			}
			switch event.GetKind() {
			case "agent.config_granted":
				of.granted = event.GetTime().AsTime()
			case "agent.config_settled":
				of.applied = event.GetTime().AsTime()
			}
		}
		spans = append(spans, of)
	}
	for i, a := range spans {
		for _, b := range spans[i+1:] {
			if a.granted.Before(b.applied) && b.granted.Before(a.applied) {
				t.Errorf("two had it under way at a time: %v", spans)
			}
		}
	}
}

// stopsAtTheFirst rolls out a configuration that fails.
func stopsAtTheFirst(t *testing.T, s *rig.Server, agents []string, name, body string) {
	t.Helper()
	offer := publish(t, s, name, body)
	r := rollout(t, s, name, "--strategy", "batch", "--size", "1")
	got := new(amporav1.GetRolloutResponse)
	rig.Await(t, "the rollout to pause", func() string {
		s.Get(got, "rollouts", "get", r.GetId())
		return unless(got.GetRollout().GetState() == amporav1.RolloutState_ROLLOUT_STATE_PAUSED, got.GetRollout().GetState().String()+": "+got.GetRollout().GetReason())
	})
	if reason := got.GetRollout().GetReason(); !strings.Contains(reason, "failed") || !strings.Contains(reason, "wave 1") {
		t.Errorf("it is paused because %q", reason)
	}
	if again := s.CLI("rollouts", "resume", r.GetId()); again.Code == 0 || !strings.Contains(again.Stderr, "GATE_BREACHED") {
		t.Errorf("it is resumed: exit code %d\n%s", again.Code, again.Stderr)
	}
	var touched []string
	for _, id := range agents {
		if granted(s, id, offer) > 0 {
			touched = append(touched, id)
		}
	}
	if len(touched) != 1 {
		t.Fatalf("%d agents were granted it", len(touched))
	}
	s.AwaitAgentTo(touched[0], "be put back", func(agent *amporav1.Agent) string {
		return unless(agent.GetConfigDelivery().GetRestoredVersion() == 1, agent.GetConfigDelivery().String())
	})
	s.Do("rollouts", "abort", r.GetId())
	rig.Never(t, 3*time.Second, "somebody else gets it", func() string {
		for _, id := range agents {
			if id != touched[0] && granted(s, id, offer) > 0 {
				return id
			}
		}
		return ""
	})
}

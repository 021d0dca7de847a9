// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/agent"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// run runs a simulated agent with a fresh token until the test ends, and returns its id.
func run(t *testing.T, s *rig.Server, name string, respond agent.Respond, issue ...string) (a *agent.Agent, id string) {
	t.Helper()
	issued := s.Issue(issue...)
	a = start(t, agent.Config{Endpoint: s.OpAMPURL(), Roots: s.Roots(), Token: issued.GetSecret(), Name: name, Respond: respond})
	return a, s.AwaitAgent(issued.GetToken().GetId())
}

// start runs a simulated agent until the test ends.
func start(t *testing.T, config agent.Config) *agent.Agent {
	t.Helper()
	config.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	a, err := agent.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("agent %s: %v", config.Name, err)
		}
	})
	return a
}

func await(t *testing.T, a *agent.Agent, what string, holds func(agent.State) bool) agent.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rig.Patience)
	defer cancel()
	state, err := a.Await(ctx, what, holds)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// TestCSR is the preferred way of enrolment: the agent asks for a certificate for a key
// that never leaves it.
func TestCSR(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		a, id := run(t, s, "own-key", agent.Apply)
		state := await(t, a, "a session with the certificate", func(state agent.State) bool { return state.Connected && state.Identity != "" })
		if !strings.HasSuffix(state.Identity, "/tenant/default/agent/"+id) {
			t.Errorf("the certificate names %s, the agent is %s", state.Identity, id)
		}
		shown := s.AwaitOnline(id)
		if shown.GetServiceName() != "own-key" || shown.GetHostName() != "own-key" {
			t.Errorf("it shows as %s on %s", shown.GetServiceName(), shown.GetHostName())
		}
		if n := s.Database.Count(t, "SELECT count(*) FROM agents WHERE method = 'agent_csr'"); n != 1 {
			t.Errorf("%d agents are recorded as enrolled by their own request", n)
		}
		if len(state.Refusals) > 0 {
			t.Errorf("it was told: %q", state.Refusals)
		}
		if rejected := s.Metric("ampora_gateway_rejections_total"); rejected != 0 {
			t.Errorf("%v rejections were counted", rejected)
		}
		takesWhatIsAssigned(t, s, a, id)
	})
}

func takesWhatIsAssigned(t *testing.T, s *rig.Server, a *agent.Agent, id string) {
	t.Helper()
	body := newPipeline(t, "simulated").yaml()
	offer := publish(t, s, "simulated", body)
	assign(t, s, id, "simulated", amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
	state := await(t, a, "the configuration", func(state agent.State) bool { return state.Running != nil })
	if string(state.Running) != body {
		t.Errorf("the agent got other bytes than were stored:\n%q", state.Running)
	}
	if n := state.Offered(offer); n != 1 {
		t.Errorf("it was offered %d times", n)
	}
}

// TestPolling: what is to be sent to an agent that polls waits for its next poll.
func TestPolling(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		issued := s.Issue()
		certificate, err := s.Stranger().Enrol(t.Context(), issued.GetSecret())
		if err != nil {
			t.Fatal(err)
		}
		a := start(t, agent.Config{
			Endpoint: "https" + strings.TrimPrefix(s.OpAMPURL(), "wss"), Roots: s.Roots(), Certificate: certificate,
			Name: "polling", Heartbeat: time.Second,
		})
		id := s.AwaitAgent(issued.GetToken().GetId())
		if got := s.AwaitOnline(id).GetSession().GetTransport(); got != amporav1.Transport_TRANSPORT_HTTP {
			t.Errorf("transport is %s", got)
		}
		takesWhatIsAssigned(t, s, a, id)
	})
}

// TestGroup: one assignment decides for all members, each of which ends as it ends.
func TestGroup(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		s.Do("groups", "create", "berlin")
		late, lateID := run(t, s, "late", func(agent.Offer) agent.Verdict { return agent.Verdict{After: 2 * time.Second} }, "--group", "berlin")
		failing, failingID := run(t, s, "failing", refuse("second"), "--group", "berlin")
		rolling, rollingID := run(t, s, "rolling-back", func(o agent.Offer) agent.Verdict {
			// It takes its time: an agent that is back before anybody saw it applying is told
			// from one that repeats an old word only after the deadline for answers.
			return agent.Verdict{After: 3 * time.Second, RollBack: strings.Contains(string(o.Body), "second")}
		}, "--group", "berlin")
		ids := []string{lateID, failingID, rollingID}

		first := publish(t, s, "first", newPipeline(t, "first").yaml())
		if got := s.CLI("configs", "assign", "first", "--group", "berlin", "--wait", "--timeout", "50s"); got.Code != 0 {
			t.Fatalf("assign: %d\n%s%s", got.Code, got.Stdout, got.Stderr)
		}
		for _, id := range ids {
			if through := s.AwaitDelivery(id, amporav1.DeliveryState_DELIVERY_STATE_APPLIED).GetConfigDelivery().GetAssignedThrough(); through != "group" {
				t.Errorf("assigned through %q", through)
			}
		}

		second := publish(t, s, "second", newPipeline(t, "second").yaml())
		got := s.CLI("configs", "assign", "second", "--group", "berlin", "--wait", "--timeout", "50s")
		if got.Code != 4 || !strings.Contains(got.Stdout+got.Stderr, "words of the agent") {
			t.Fatalf("assign: exit code %d, want 4 and the agent's own words\n%s%s", got.Code, got.Stdout, got.Stderr)
		}
		s.AwaitDelivery(lateID, amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
		s.AwaitDelivery(failingID, amporav1.DeliveryState_DELIVERY_STATE_FAILED)
		s.AwaitDelivery(rollingID, amporav1.DeliveryState_DELIVERY_STATE_ROLLED_BACK)
		await(t, failing, "what it is put back to", func(state agent.State) bool { return state.Offered(first) == 2 })
		rig.Never(t, 4*time.Second, "what failed, or was rolled back", func() string {
			if failing.State().Offered(second) > 1 || rolling.State().Offered(second) > 1 {
				return "it was offered again"
			}
			return ""
		})
		if !strings.Contains(string(late.State().Running), "second") || !strings.Contains(string(rolling.State().Running), "first") {
			t.Error("an agent runs something else than it says")
		}
	})
}

func refuse(mark string) agent.Respond {
	return func(o agent.Offer) agent.Verdict {
		if strings.Contains(string(o.Body), mark) {
			return agent.Verdict{Failure: "words of the agent"}
		}
		return agent.Verdict{}
	}
}

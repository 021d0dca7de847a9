// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestActsOnAgents does to a stock supervisor what operators do to many agents, and reads
// in its history what came of it.
func TestActsOnAgents(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		identity, id := s.Enrol("supervisor")
		supervisor := s.Supervisor("supervisor", rig.Example(t, "supervisor-enrolled.yaml"), map[string]string{"AMPORA_IDENTITY": identity}).Start()
		s.AwaitOnline(id)
		good := newPipeline(t, "acted-on")
		offer := publish(t, s, "good", good.yaml())
		assign(t, s, id, "good", amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
		really(t, s, id, good, offer)

		s.Do("agents", "tag", id, "site=berlin")
		selection := []string{"--tag", "site=berlin", "--capability", "AcceptsRestartCommand", "--service", "otelcol", "--config", "good@1", "--state", "applied"}
		if n := strings.TrimSpace(s.Do(append([]string{"agents", "count"}, selection...)...)); n != "1" {
			t.Fatalf("%s agents are found", n)
		}
		isRestarted(t, s, id, supervisor, selection)
		good.awaitRunning(t)
		isPushed(t, s, id, offer)
		isDrained(t, s, id)
		good.awaitRunning(t)

		if out := s.Do("agents", "export", "--tag", "site=berlin"); strings.Count(out, id) != 1 || !strings.Contains(out, "site=berlin") {
			t.Errorf("exported is %s", out)
		}
		tellsItsStory(t, s, id)
	})
}

// isRestarted: the command reaches the supervisor, which restarts its collector, once.
func isRestarted(t *testing.T, s *rig.Server, id string, supervisor *rig.Real, selection []string) {
	t.Helper()
	before := lastStart(supervisor)
	restart := append([]string{"agents", "restart", "--reason", "a test"}, selection...)
	preview := new(amporav1.BulkOutcome)
	s.Get(preview, restart...)
	if preview.GetChanged() != 1 || len(preview.GetSample()) != 1 || preview.GetSample()[0].GetId() != id {
		t.Fatalf("the preview is %v", preview)
	}
	s.Do(append(restart, "--expect", preview.GetMark())...)
	rig.Await(t, "the restart to be told", func() string {
		return unless(len(history(s, id, "operators", "agent.restart_sent")) == 1, "not told")
	})
	rig.Await(t, "the collector to start anew", func() string {
		now := lastStart(supervisor)
		return unless(now != "" && now != before, supervisor.Log())
	})
	s.AwaitAgentTo(id, "be well again", func(agent *amporav1.Agent) string {
		return unless(agent.GetHealth().GetHealthy(), agent.GetHealth().String())
	})
}

// lastStart is the line with which the collector said that it is ready. Its log begins anew with each start.
func lastStart(supervisor *rig.Real) (line string) {
	for text := range strings.Lines(supervisor.Log()) {
		if strings.Contains(text, "Everything is ready") {
			line = text
		}
	}
	return line
}

// isPushed: what it runs is sent again, and that is settled although it says nothing to it.
func isPushed(t *testing.T, s *rig.Server, id, offer string) {
	t.Helper()
	before := granted(s, id, offer)
	s.Do("agents", "push", id, "--reason", "a test")
	rig.Await(t, "the push to be settled", func() string {
		settled := 0
		for _, entry := range history(s, id, "delivery", "agent.config_settled") {
			if strings.Contains(entry.GetMessage(), "applied") {
				settled++
			}
		}
		return unless(granted(s, id, offer) == before+1 && settled == before+1, "not settled")
	})
	s.AwaitDelivery(id, amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
}

// isDrained: its session ends for another, and it comes back at once.
func isDrained(t *testing.T, s *rig.Server, id string) {
	t.Helper()
	epoch := s.Agent(id).GetSession().GetEpoch()
	s.Do("agents", "drain", id)
	s.AwaitAgentTo(id, "come back", func(agent *amporav1.Agent) string {
		return unless(agent.GetPresence() == amporav1.Presence_PRESENCE_ONLINE && agent.GetSession().GetEpoch() > epoch, agent.GetSession().String())
	})
	ended := history(s, id, "connection", "agent.disconnected")
	if len(ended) == 0 || ended[0].GetAttributes()["reason"] != "DRAINED" {
		t.Errorf("its sessions ended with %v", ended)
	}
}

// tellsItsStory: what changed is in the history, by kind, and what it says again is not.
func tellsItsStory(t *testing.T, s *rig.Server, id string) {
	t.Helper()
	for _, kind := range []string{"connection", "description", "health", "effective-config", "config-status", "components", "delivery", "identity", "operators"} {
		if len(history(s, id, kind, "")) == 0 {
			t.Errorf("the history has nothing of %s", kind)
		}
	}
	if told := history(s, id, "components", "agent.components_changed"); len(told) != 1 {
		t.Errorf("its components are told %d times", len(told))
	}
}

// history are the changes of an agent of one kind, newest first, told by an event if one is named.
func history(s *rig.Server, id, kind, event string) []*amporav1.HistoryEntry {
	list := new(amporav1.ListAgentHistoryResponse)
	s.Get(list, "agents", "history", id, "--kind", kind)
	return slices.DeleteFunc(list.GetEntries(), func(e *amporav1.HistoryEntry) bool { return event != "" && e.GetEvent() != event })
}

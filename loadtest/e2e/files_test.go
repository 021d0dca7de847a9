// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"

	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestSupervisorWithFiles is the recommended way: amporactl enroll writes the files, and
// the identity survives what the supervisor forgets, and restarts on both sides.
func TestSupervisorWithFiles(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		identity, id := s.Enrol("supervisor")
		supervisor := s.Supervisor("supervisor", rig.Example(t, "supervisor-enrolled.yaml"), map[string]string{"AMPORA_IDENTITY": identity}).Start()
		first := s.AwaitOnline(id)

		good := newPipeline(t, "kept")
		offer := publish(t, s, "good", good.yaml())
		assign(t, s, id, "good", amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
		really(t, s, id, good, offer)
		bad := publish(t, s, "bad", broken("nosuchreceiver"))
		assign(t, s, id, "bad", amporav1.DeliveryState_DELIVERY_STATE_FAILED)
		isPutBack(t, s, id, good, "exited unexpectedly")

		restartOfTheSupervisor(t, s, supervisor, first)
		good.awaitRunning(t)
		restartOfAmpora(t, s, first)
		if n := granted(s, id, bad); n != 1 {
			t.Errorf("the failed version was granted %d times over both restarts", n)
		}
	})
}

func restartOfTheSupervisor(t *testing.T, s *rig.Server, supervisor *rig.Real, before *amporav1.Agent) {
	t.Helper()
	supervisor.Stop()
	s.AwaitAgentTo(before.GetId(), "be offline", func(agent *amporav1.Agent) string {
		if agent.GetPresence() != amporav1.Presence_PRESENCE_OFFLINE || agent.GetSession().GetEndReason() != "AGENT_DISCONNECT" {
			return agent.GetPresence().String() + ", ended by " + agent.GetSession().GetEndReason()
		}
		return ""
	})
	supervisor.Start()
	isTheSame(t, before, s.AwaitOnline(before.GetId()))
}

func restartOfAmpora(t *testing.T, s *rig.Server, before *amporav1.Agent) {
	t.Helper()
	rows := func() (counts [4]int) {
		for i, table := range []string{"agents", "certificates", "config_versions", "attempts"} {
			counts[i] = s.Database.Count(t, "SELECT count(*) FROM "+table)
		}
		return counts
	}
	stored, epoch := rows(), s.Agent(before.GetId()).GetSession().GetEpoch()
	if code := s.Stop(); code != 0 {
		t.Errorf("ampora stopped with %d", code)
	}
	s.Start()
	after := s.AwaitAgentTo(before.GetId(), "come back", func(agent *amporav1.Agent) string {
		if agent.GetPresence() != amporav1.Presence_PRESENCE_ONLINE || agent.GetSession().GetEpoch() <= epoch {
			return agent.GetSession().String()
		}
		return ""
	})
	isTheSame(t, before, after)
	if now := rows(); now != stored {
		t.Errorf("rows of agents, certificates, versions and attempts were %v and are %v", stored, now)
	}
}

func isTheSame(t *testing.T, before, after *amporav1.Agent) {
	t.Helper()
	if before.GetInstanceUid() != after.GetInstanceUid() || before.GetCredential().GetSerial() != after.GetCredential().GetSerial() {
		t.Errorf("the agent came back as %s with %s, was %s with %s", after.GetInstanceUid(), after.GetCredential().GetSerial(),
			before.GetInstanceUid(), before.GetCredential().GetSerial())
	}
}

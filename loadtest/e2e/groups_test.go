// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// chosenWithin is how soon an agent is where its groups' selectors want it.
const chosenWithin = 30 * time.Second

// environment is a configuration of the supervisor that claims another environment than the example's.
func environment(t *testing.T, s *rig.Server, name string) (path string) {
	t.Helper()
	text := read(t, rig.Example(t, "supervisor-enrolled.yaml"))
	if !strings.Contains(text, "deployment.environment: demo") {
		t.Fatal("the example claims no environment any more")
	}
	return file(t, s, "supervisor-"+name+".yaml", strings.ReplaceAll(text, "deployment.environment: demo", "deployment.environment: "+name))
}

// configure publishes a pipeline as a configuration.
func configure(t *testing.T, s *rig.Server, name string) pipeline {
	t.Helper()
	p := newPipeline(t, name)
	publish(t, s, name, p.yaml())
	return p
}

// awaitGroup waits until an agent is in a group, no longer than that may take.
func awaitGroup(t *testing.T, s *rig.Server, agent, group string) {
	t.Helper()
	began := time.Now()
	s.AwaitAgentTo(agent, "be in the group "+group, func(a *amporav1.Agent) string {
		return unless(a.GetGroupName() == group, "it is in the group "+a.GetGroupName())
	})
	if took := time.Since(began); took > chosenWithin {
		t.Errorf("it took %v until the agent was in the group %q", took, group)
	}
}

// TestDynamicGroups: a real agent comes into the group whose selector chooses it, and gets what agents get there; it goes
// to another when it says something else of itself, and nowhere if nobody wants it.
func TestDynamicGroups(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		demo, live := configure(t, s, "demo"), configure(t, s, "live")
		claims := []string{"groups", "create", "demo", "--selector", `agent.claimed.labels["deployment.environment"] == "demo"`, "--default", "demo"}
		if got := s.CLI(claims...); got.Code == 0 || !strings.Contains(got.Stderr, "DEFAULT_ON_CLAIMS") {
			t.Errorf("a default is given on claims, and nobody said so: exit code %d\n%s", got.Code, got.Stderr)
		}
		s.Do(append(claims, "--default-on-claims")...)
		s.Do("groups", "create", "live", "--default", "live@1", "--default-on-claims", "--priority", "10",
			"--selector", `agent.verified.tags["site"] == "berlin" && agent.claimed.labels["deployment.environment"] == "live"`)

		identity, agent := s.Enrol("edge", "--tag", "site=berlin")
		env := map[string]string{"AMPORA_IDENTITY": identity}
		supervisor := s.Supervisor("supervisor", environment(t, s, "demo"), env).Start()
		s.AwaitOnline(agent)
		awaitGroup(t, s, agent, "demo")
		if got := s.AwaitDelivery(agent, amporav1.DeliveryState_DELIVERY_STATE_APPLIED).GetConfigDelivery(); got.GetAssignedThrough() != "default" || got.GetConfigName() != "demo" {
			t.Errorf("it got %v", got)
		}
		demo.awaitRunning(t)

		seen := new(amporav1.PreviewSelectorResponse)
		s.Get(seen, "groups", "preview", `agent.verified.tags["site"] == "berlin"`, "--priority", "20")
		if seen.GetMatched() != 1 || seen.GetJoining() != 1 || len(seen.GetLeft()) != 1 || seen.GetLeft()[0].GetGroupName() != "demo" {
			t.Errorf("previewed is %v", seen)
		}
		if labels := s.Do("agents", "labels", "deployment.environment"); !strings.Contains(labels, "demo") {
			t.Errorf("the labels in use are\n%s", labels)
		}
		if tags := s.Do("agents", "labels", "--tags"); !strings.Contains(tags, "site") {
			t.Errorf("the tags in use are\n%s", tags)
		}

		supervisor.Stop()
		supervisor = s.Supervisor("supervisor", environment(t, s, "live"), env).Start()
		awaitGroup(t, s, agent, "live")
		live.awaitRunning(t)
		supervisor.Stop()

		s.Do("groups", "delete", "live")
		awaitGroup(t, s, agent, "")
		s.Do("groups", "undelete", "live")
		awaitGroup(t, s, agent, "live")
		s.Do("groups", "update", "live", "--selector", "false")
		awaitGroup(t, s, agent, "")
		if audited := s.Do("audit", "list"); !strings.Contains(audited, "group.place_members") || !strings.Contains(audited, "group.give_default") {
			t.Errorf("the audit log says\n%s", audited)
		}
	})
}

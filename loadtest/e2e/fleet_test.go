// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/agent"
	"gitlab.com/ampora/ampora/loadtest/rawopamp"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestComponents: an agent names the hash of its components first; who does not know it
// asks for the list.
func TestComponents(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		_, id := run(t, s, "of-parts", agent.Apply)
		s.AwaitAgentTo(id, "show its components", func(shown *amporav1.Agent) string {
			for _, component := range shown.GetAvailableComponents().GetComponents() {
				if component.GetName() == "otlp" {
					return ""
				}
			}
			return "it shows " + shown.GetAvailableComponents().String()
		})
	})
}

// TestWatch: what happens is seen as it happens, and over a restart of ampora.
func TestWatch(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		watch := s.Follow("watch", "agents", "watch", "-o", "json")
		sees := func(agent, kind string) {
			t.Helper()
			rig.Await(t, "the watch to show "+kind, func() string {
				for line := range strings.Lines(watch.Log()) {
					if strings.Contains(line, kind) && strings.Contains(line, agent) {
						return ""
					}
				}
				return "it shows:\n" + watch.Log()
			})
		}
		_, first := run(t, s, "first", agent.Apply)
		for _, kind := range []string{"agent.enrolled", "agent.connected", "agent.description_changed", "agent.health_changed"} {
			sees(first, kind)
		}
		if code := s.Stop(); code != 0 {
			t.Errorf("ampora stopped with %d", code)
		}
		s.Start()
		_, second := run(t, s, "second", agent.Apply)
		sees(first, "agent.disconnected")
		sees(second, "agent.connected")
		if code := watch.Stop(); code != 0 {
			t.Errorf("an interrupted watch ended with %d", code)
		}
	})
}

// TestChildren: one connection speaks for several agents, where that was granted.
func TestChildren(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		b := &bad{T: t, s: s}
		_, peer, id := b.enrolled()
		s.Do("agents", "allow-children", id, "--max", "2")
		conn, _ := b.greet(peer, rawopamp.NewUID())
		defer conn.Close()
		s.AwaitOnline(id)
		for _, name := range []string{"child-1", "child-2"} {
			answer, err := conn.Exchange(rawopamp.Hello(rawopamp.NewUID(), name), answerTime)
			if err != nil || answer.GetErrorResponse() != nil {
				t.Fatalf("%s was answered %v, %v", name, answer, err)
			}
		}
		rig.Await(t, "the children to be shown", func() string {
			list := new(amporav1.ListAgentsResponse)
			s.Get(list, "agents", "list", "--presence", "online")
			children := 0
			for _, agent := range list.GetAgents() {
				if agent.GetParentId() == id && strings.HasPrefix(agent.GetServiceName(), "child-") {
					children++
				}
			}
			return unless(children == 2, list.String())
		})
		if err := conn.Send(rawopamp.Hello(rawopamp.NewUID(), "one-too-many")); err != nil {
			t.Fatal(err)
		}
		b.badRequest(conn, "CHILDREN_EXHAUSTED")
		if n := s.Database.Count(t, "SELECT count(*) FROM agents"); n != 3 {
			t.Errorf("%d agents are stored", n)
		}
	})
}

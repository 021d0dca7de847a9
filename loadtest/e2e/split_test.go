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

// split runs a test against two gateways and two processes of the control plane, on each
// bus, with a real supervisor connected.
func split(t *testing.T, test func(*testing.T, *rig.Server, string)) {
	t.Helper()
	t.Parallel()
	for _, flavour := range []rig.Flavour{rig.SplitRedis, rig.SplitPostgres} {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			s := rig.NewServer(t, flavour).Start()
			identity, id := s.Enrol("supervisor")
			s.Supervisor("supervisor", rig.Example(t, "supervisor-enrolled.yaml"), map[string]string{"AMPORA_IDENTITY": identity}).Start()
			s.AwaitOnline(id)
			test(t, s, id)
		})
	}
}

// holder is the gateway that holds an agent's session, and the other one.
func holder(s *rig.Server, id string) (holds, other *rig.Part) {
	name := s.Agent(id).GetSession().GetGatewayId()
	for _, part := range s.Gateways() {
		if part.Name == name {
			holds = part
		} else {
			other = part
		}
	}
	return holds, other
}

// neverOffline watches an agent in the background until the returned function is called.
func neverOffline(t *testing.T, s *rig.Server, id string) (stop func()) {
	t.Helper()
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ended:
				return
			case <-time.After(200 * time.Millisecond):
			}
			got := s.CLI("agents", "get", id, "-o", "json")
			if got.Code == 0 && strings.Contains(got.Stdout, "PRESENCE_OFFLINE") {
				t.Errorf("the agent was shown offline:\n%s", got.Stdout)
				return
			}
		}
	}()
	return func() { close(ended); <-done }
}

// applies gives the agent a new configuration and waits until it runs.
func applies(t *testing.T, s *rig.Server, id, name string) {
	t.Helper()
	publish(t, s, name, newPipeline(t, name).yaml())
	assign(t, s, id, name, amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
}

// TestGatewayIsKilled: the agent goes on at the other gateway, is never shown offline and
// takes its next configuration there; the killed one comes back with its identity.
func TestGatewayIsKilled(t *testing.T) {
	split(t, func(t *testing.T, s *rig.Server, id string) {
		applies(t, s, id, "before")
		dead, other := holder(s, id)
		stop := neverOffline(t, s, id)
		dead.Kill()
		s.AwaitAgentTo(id, "be at the other gateway", func(a *amporav1.Agent) string {
			if a.GetPresence() != amporav1.Presence_PRESENCE_ONLINE || a.GetSession().GetGatewayId() != other.Name {
				return a.GetSession().String() + " " + a.GetPresence().String()
			}
			return ""
		})
		applies(t, s, id, "after")
		dead.Start()
		stop()
		if list := s.Do("gateways", "list"); !strings.Contains(list, dead.Name) || !strings.Contains(list, other.Name) {
			t.Errorf("the gateways are:\n%s", list)
		}
	})
}

// TestGatewayIsUpgraded: one that is stopped in order lets its agents go, and none is shown
// offline for it.
func TestGatewayIsUpgraded(t *testing.T) {
	split(t, func(t *testing.T, s *rig.Server, id string) {
		stop := neverOffline(t, s, id)
		for range 2 {
			drained, other := holder(s, id)
			if code := drained.Stop(); code != 0 {
				t.Errorf("the gateway stopped with %d", code)
			}
			s.AwaitAgentTo(id, "be at the other gateway", func(a *amporav1.Agent) string {
				return unless(a.GetSession().GetGatewayId() == other.Name && a.GetPresence() == amporav1.Presence_PRESENCE_ONLINE, a.GetSession().String())
			})
			drained.Start()
		}
		stop()
		applies(t, s, id, "after")
	})
}

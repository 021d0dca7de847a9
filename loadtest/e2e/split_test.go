// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/agent"
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

// awaitApplied waits until the agent has applied a configuration.
func awaitApplied(s *rig.Server, id, name string) {
	s.AwaitAgentTo(id, "run "+name, func(a *amporav1.Agent) string {
		d := a.GetConfigDelivery()
		return unless(d.GetState() == amporav1.DeliveryState_DELIVERY_STATE_APPLIED && d.GetConfigName() == name, d.String())
	})
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

// TestControlIsKilled: in the middle of a push; the other process finishes it.
func TestControlIsKilled(t *testing.T) {
	split(t, func(t *testing.T, s *rig.Server, id string) {
		applies(t, s, id, "before")
		for n, part := range s.Controls() {
			name := "push-" + part.Name
			publish(t, s, name, newPipeline(t, name).yaml())
			s.Do("configs", "assign", name, "--agent", id)
			part.Kill()
			awaitApplied(s, id, name)
			if n == 0 {
				part.Start()
			}
		}
	})
}

// TestBusIsLost: killed, flushed, stopped and restarted; what was said meanwhile is not lost.
func TestBusIsLost(t *testing.T) {
	t.Parallel()
	s := rig.NewServer(t, rig.SplitRedis).Start()
	told, id := run(t, s, "teller", agent.Apply)
	stop := neverOffline(t, s, id)
	for name, hurt := range map[string]func(){
		"flushed": func() { s.Redis.Client().FlushAll(t.Context()) },
		"killed":  func() { s.Redis.Kill(); time.Sleep(3 * time.Second); s.Redis.Start() },
		"stopped": func() {
			s.Redis.Signal(syscall.SIGSTOP)
			time.Sleep(5 * time.Second)
			s.Redis.Signal(syscall.SIGCONT)
		},
	} {
		hurt()
		told.SetHealth(name)
		s.AwaitAgentTo(id, "tell that it was "+name, func(a *amporav1.Agent) string {
			return unless(a.GetHealth().GetStatus() == name, a.GetHealth().String())
		})
		offer := publish(t, s, name, newPipeline(t, name).yaml())
		s.Do("configs", "assign", name, "--agent", id)
		awaitApplied(s, id, name)
		if n := granted(s, id, offer); n != 1 {
			t.Errorf("%s: granted %d times", name, n)
		}
	}
	stop()
}

// TestGatewayIsRevoked: it ends, the agent goes on elsewhere, and it is not let in again.
func TestGatewayIsRevoked(t *testing.T) {
	split(t, func(t *testing.T, s *rig.Server, id string) {
		revoked, other := holder(s, id)
		s.Do("gateways", "revoke", revoked.Name)
		if code := revoked.Process().Exit(rig.Patience); code == 0 {
			t.Error("a revoked gateway ended as if nothing was wrong")
		}
		s.AwaitAgentTo(id, "be at the other gateway", func(a *amporav1.Agent) string {
			return unless(a.GetSession().GetGatewayId() == other.Name && a.GetPresence() == amporav1.Presence_PRESENCE_ONLINE, a.GetSession().String())
		})
		revoked.Launch()
		if code := revoked.Process().Exit(rig.Patience); code == 0 {
			t.Error("a revoked gateway was let in again")
		}
		if !revoked.Logged("the gateway was revoked") {
			t.Error("its log does not say why")
		}
	})
}

// TestGatewayIsFrozen: past its lease, and its agent has come back elsewhere when it goes on. There is exactly one owner,
// and it is not the one that slept.
func TestGatewayIsFrozen(t *testing.T) {
	t.Parallel()
	s := rig.NewServer(t, rig.SplitRedis).Start()
	identity, id := s.Enrol("supervisor")
	supervisor := s.Supervisor("supervisor", rig.Example(t, "supervisor-enrolled.yaml"), map[string]string{"AMPORA_IDENTITY": identity}).Start()
	s.AwaitOnline(id)
	applies(t, s, id, "before")
	frozen, other := holder(s, id)
	before := s.Agent(id).GetSession().GetEpoch()
	frozen.Process().Signal(syscall.SIGSTOP)
	s.AwaitAgentTo(id, "be unknown", func(a *amporav1.Agent) string {
		return unless(a.GetPresence() == amporav1.Presence_PRESENCE_UNKNOWN, a.GetPresence().String())
	})
	supervisor.Stop()
	supervisor.Start()
	elsewhere := func(a *amporav1.Agent) string {
		return unless(a.GetPresence() == amporav1.Presence_PRESENCE_ONLINE && a.GetSession().GetGatewayId() == other.Name && a.GetSession().GetEpoch() > before, a.GetSession().String())
	}
	s.AwaitAgentTo(id, "be at the other gateway", elsewhere)
	frozen.Process().Signal(syscall.SIGCONT)
	rig.Await(t, "the session that slept to end", func() string {
		n := frozen.Metric("ampora_gateway_sessions")
		return unless(n == 0, "it is there")
	})
	applies(t, s, id, "after")
	if missing := elsewhere(s.Agent(id)); missing != "" {
		t.Errorf("the owner is %s", missing)
	}
}

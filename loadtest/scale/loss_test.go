// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build scale

package scale

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
)

// TestGatewayIsKilled: of two gateways the one that holds nearly all agents is killed. They go on at the other as fast as
// the CPU allows, nobody is shown offline, and few are asked for what is known.
func TestGatewayIsKilled(t *testing.T) {
	for _, flavour := range []rig.Flavour{rig.SplitRedis, rig.SplitPostgres} {
		t.Run(string(flavour), func(t *testing.T) {
			c := gather(t, rig.NewServer(t, flavour), agents(t, 5000), "--fault", "burst=2/s")
			other := c.s.Gateways()[1]
			// The other one is upgraded first, so that all agents are at one gateway.
			other.Stop()
			c.await("be at one gateway", 5*time.Minute, c.missing)
			other.Start()
			time.Sleep(10 * time.Second) // they say what they have to say
			stop := c.neverOffline()
			began := time.Now()
			c.s.Gateways()[0].Kill()
			c.await("be at the other gateway", 5*time.Minute, c.missing)
			t.Logf("%d agents were back after %.1f s", c.count, time.Since(began).Seconds())
			c.await("be on record", 5*time.Minute, func() string { return c.others("online") })
			c.s.Gateways()[0].Start()
			stop()
			asked := other.Metric("ampora_gateway_full_state_requests_total") // by the process that began before the kill
			t.Logf("%.0f of %d agents were asked for their full state", asked, c.count)
			if asked*50 > float64(c.count) {
				t.Error("they are too many")
			}
			c.finish()
		})
	}
}

// TestServersAreLost: Redis is flushed, killed and frozen, PostgreSQL restarted, while agents have something to say all the
// time. Afterwards nothing is missing.
func TestServersAreLost(t *testing.T) {
	c := gather(t, rig.NewServer(t, rig.SplitRedis), agents(t, 1000), "--flips", "10", "--relabels", "5", "--fault", "burst=1/s")
	redis := c.s.Redis
	for _, loss := range []struct {
		name string
		is   func()
	}{
		{"Redis flushed", func() { redis.Client().FlushAll(t.Context()) }},
		{"Redis killed", func() { redis.Kill(); time.Sleep(5 * time.Second); redis.Start() }},
		{"Redis frozen", func() { redis.Signal(syscall.SIGSTOP); time.Sleep(20 * time.Second); redis.Signal(syscall.SIGCONT) }},
		{"PostgreSQL restarted", func() { bounce(t) }},
	} {
		loss.is()
		began := time.Now()
		c.await("be online after "+loss.name, 5*time.Minute, func() string { return c.others("online") })
		t.Logf("%s: all online %.1f s later", loss.name, time.Since(began).Seconds())
		time.Sleep(10 * time.Second)
	}
	c.finish()
}

// bounce restarts the PostgreSQL of the tests.
func bounce(t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), filepath.Join(rig.Root(t), "infra", "dev", "services.sh"), "bounce").CombinedOutput(); err != nil {
		t.Fatalf("restart PostgreSQL: %v\n%s", err, out)
	}
}

// TestGatewayIsCutOff: for a minute a gateway reaches the bus no more, or the control plane, because connections are
// refused or because they swallow everything.
func TestGatewayIsCutOff(t *testing.T) {
	s := rig.NewServer(t, rig.SplitRedis)
	part := s.Gateways()[0]
	lines := map[string]*rig.Proxy{"the bus": part.Detour("AMPORA_BUS_URL"), "the control plane": part.Detour("AMPORA_CONTROL_URL")}
	c := gather(t, s, agents(t, 1000), "--flips", "10", "--relabels", "5", "--fault", "burst=1/s")
	for from, line := range lines {
		for how, cut := range map[string]func(){"refused": line.Cut, "swallowed": line.Swallow} {
			cut()
			time.Sleep(time.Minute)
			line.Heal()
			began := time.Now()
			c.await("be online after the gateway was cut from "+from, 5*time.Minute, func() string { return c.others("online") })
			t.Logf("cut from %s, %s: all online %.1f s after its end", from, how, time.Since(began).Seconds())
			time.Sleep(10 * time.Second)
		}
	}
	c.finish()
}

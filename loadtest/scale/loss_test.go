// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build scale

package scale

import (
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
)

// TestGatewayIsKilled: of two gateways the one that holds nearly all agents is killed. They go on at the other as fast as
// the CPU allows, nobody is shown offline, and few are asked for what is known.
func TestGatewayIsKilled(t *testing.T) {
	for _, flavour := range []rig.Flavour{rig.SplitRedis, rig.SplitPostgres} {
		t.Run(string(flavour), func(t *testing.T) {
			c := gather(t, flavour, agents(t, 5000), "--fault", "burst=2/s")
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
			report := c.finish()
			if asked := report.Counts["full_state_asked"]; asked*50 > int64(c.count) {
				t.Errorf("%d of %d agents were asked for their full state", asked, c.count)
			}
		})
	}
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build scale

package scale

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
)

// TestControlIsKilledInAPush: one of two processes of the control plane is killed while thousands of agents are on their
// way to a configuration. The other brings all of them there, and none of them twice.
func TestControlIsKilledInAPush(t *testing.T) {
	for _, flavour := range []rig.Flavour{rig.SplitRedis, rig.SplitPostgres} {
		t.Run(string(flavour), func(t *testing.T) {
			s := rig.NewServer(t, flavour)
			count := agents(t, 5000)
			for _, control := range s.Controls() {
				control.Env["AMPORA_IMMEDIATE_LIMIT"] = strconv.Itoa(count)
			}
			c := gather(t, s, count, "--fault", "burst=2/s")
			c.publish("pushed", "receivers: {nop: {}}\nexporters: {debug: {}}\nservice: {pipelines: {logs: {receivers: [nop], exporters: [debug]}}}\n")
			settled := func() int {
				return s.Database.Count(t, "SELECT count(*) FROM grants WHERE state = 'met'")
			}
			began := time.Now()
			s.Do("configs", "assign", "pushed", "--group", "crowd")
			c.await("begin to apply it", 5*time.Minute, func() string { return few(settled(), count/20) })
			at := settled()
			s.Controls()[0].Kill()
			if at == count {
				t.Fatal("the push was over before the kill")
			}
			t.Logf("killed after %.1f s, when %d of %d agents had applied it", time.Since(began).Seconds(), at, count)
			c.await("apply it", 5*time.Minute, func() string { return few(settled(), count) })
			t.Logf("all had after %.1f s", time.Since(began).Seconds())
			if n := s.Database.Count(t, "SELECT count(*) FROM events WHERE kind = 'agent.config_granted'"); n != count {
				t.Errorf("it was granted %d times", n)
			}
			s.Controls()[0].Start()
			c.finish()
		})
	}
}

// publish makes a configuration with a published version.
func (c *crowd) publish(name, body string) {
	c.t.Helper()
	file := filepath.Join(c.s.Dir, name+".yaml")
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.s.Do("configs", "create", name, "-f", file, "--publish")
}

func few(n, want int) string {
	if n < want {
		return fmt.Sprintf("%d of %d have", n, want)
	}
	return ""
}

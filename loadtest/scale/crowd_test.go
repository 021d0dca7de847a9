// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build scale

package scale

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
	"gitlab.com/ampora/ampora/loadtest/verify"
)

// agents is how many there are: AMPORA_SCALE_AGENTS, by default as many as the requirement says.
func agents(t *testing.T, required int) int {
	t.Helper()
	text := os.Getenv("AMPORA_SCALE_AGENTS")
	if text == "" {
		return required
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("AMPORA_SCALE_AGENTS: %q is no number of agents", text)
	}
	return n
}

// crowd is a swarm that runs against an installation.
type crowd struct {
	t      *testing.T
	s      *rig.Server
	count  int
	swarm  *rig.Process
	report string
}

// gather starts an installation and a swarm, and waits until all agents are online. The swarm runs until it is stopped,
// and verifies then.
func gather(t *testing.T, s *rig.Server, count int, flags ...string) *crowd {
	t.Helper()
	s.Start()
	c := &crowd{t: t, s: s, count: count, report: filepath.Join(s.Dir, "swarm.json")}
	args := append([]string{
		"run", "--server", s.OpAMP, "--ca-file", s.CAFile, "--count", strconv.Itoa(count), "--group", "crowd", "--duration", "0",
		"--local-addresses", "8", "--verify", "--settle", "3m", "--report", c.report,
	}, flags...)
	c.swarm = s.Begin("swarm", "swarm", args...)
	began := time.Now()
	c.await("be connected", 10*time.Minute, func() string { return c.missing() })
	t.Logf("%d agents enrolled and connected in %.0f s", count, time.Since(began).Seconds())
	c.await("be on record", 5*time.Minute, func() string { return c.others("online") })
	return c
}

// sessions is how many sessions the gateways hold.
func (c *crowd) sessions() int { return int(c.s.Metric("ampora_gateway_sessions")) }

func (c *crowd) missing() string {
	if n := c.sessions(); n < c.count {
		return fmt.Sprintf("%d of %d are", n, c.count)
	}
	return ""
}

// others says which agents are not in the state, as far as one page shows.
func (c *crowd) others(presence string) string {
	for _, other := range []string{"online", "offline", "unknown"} {
		if other == presence {
			continue
		}
		if n := c.are(other); n > 0 {
			return fmt.Sprintf("%d or more are %s", n, other)
		}
	}
	return ""
}

// are counts the agents that the API shows so, up to a hundred. It is 0 while nobody answers.
func (c *crowd) are(presence string) int {
	got := c.s.CLI("agents", "list", "--presence", presence, "--limit", "100", "-o", "json")
	if got.Code != 0 {
		return 0
	}
	var list struct{ Agents []json.RawMessage }
	if err := json.Unmarshal([]byte(got.Stdout), &list); err != nil {
		c.t.Errorf("agents list: %v", err)
	}
	return len(list.Agents)
}

// await waits until all agents are what is said.
func (c *crowd) await(what string, limit time.Duration, missing func() string) {
	c.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		select {
		case <-c.swarm.Exited():
			c.t.Fatalf("the swarm ended:\n%s", c.swarm.Log())
		default:
		}
		why := missing()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the agents were to %s within %s: %s", what, limit, why)
		}
		time.Sleep(250 * time.Millisecond)
	}
}

// neverOffline watches all agents until the returned function is called.
func (c *crowd) neverOffline() (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	looks, most := 0, 0
	go func() {
		defer close(done)
		for {
			select {
			case <-ended:
				return
			case <-time.After(200 * time.Millisecond):
			}
			looks++
			most = max(most, c.are("offline"))
		}
	}()
	return func() {
		close(ended)
		<-done
		if most > 0 {
			c.t.Errorf("%d or more agents were shown offline at a time; of late these ended:\n%s", most, c.ends())
		}
		c.t.Logf("looked %d times for agents that are offline", looks)
	}
}

// ends are the last ends of sessions.
func (c *crowd) ends() string {
	var lines []string
	for line := range strings.Lines(c.s.Database.Everything(c.t)["public.events"]) {
		if strings.Contains(line, "agent.disconnected") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-20):], "")
}

// told is what the report of a swarm says.
type told struct {
	Counts       map[string]int64
	Faults       map[string]int64
	Errors       map[string]int64
	Verification verify.Result
}

// finish stops the swarm, whose agents then verify, and returns its report.
func (c *crowd) finish() told {
	c.t.Helper()
	c.swarm.Signal(syscall.SIGINT)
	code := c.swarm.Exit(15 * time.Minute)
	var report told
	text, err := os.ReadFile(c.report)
	if err != nil || json.Unmarshal(text, &report) != nil {
		c.t.Fatalf("the report: %v\n%s", err, text)
	}
	if code != 0 || report.Verification.Agents != c.count || report.Verification.Differences != 0 {
		c.t.Errorf("swarm: exit code %d\n%s", code, c.swarm.Log())
	}
	c.t.Logf("verified %d agents, %d differences, after faults %v; counts %v, errors %v", report.Verification.Agents,
		report.Verification.Differences, report.Faults, report.Counts, report.Errors)
	return report
}

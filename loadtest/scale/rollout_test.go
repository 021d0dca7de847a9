// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build scale

package scale

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// A configuration that all agents can run, and one that some fail on; %d makes them others.
const (
	sound   = "receivers: {nop: {}}\nexporters: {debug: {}}\nservice: {pipelines: {logs: {receivers: [nop], exporters: [debug]}}}\n# %d\n"
	failing = "receivers: {nop: {}}\nexporters: {debug: {}}\nservice: {pipelines: {logs: {receivers: [nop], exporters: [debug]}}}\n# breaks %d\n"
)

// ungated are the flags of a rollout without gates, and those of one with no other gate than that for failures.
var (
	otherwiseUngated = []string{"--gate", "disconnect=off", "--gate", "mismatch=off", "--gate", "unhealthy=off"}
	ungated          = append([]string{"--gate", "apply-failed=off"}, otherwiseUngated...)
)

// TestGatesStopARollout: of 10 000 agents the first wave of a canary is well, and 15 of a hundred of the second fail. It is
// paused within a second of the report that crosses the gate, nothing is granted or sent afterwards, and a rollback gives
// everybody back what they had. Once with a gate at 10 % of the wave alone, once on the defaults, of which the gate over all
// that were let in so far is the first.
func TestGatesStopARollout(t *testing.T) {
	s := rig.NewServer(t, rig.SplitRedis)
	count := agents(t, 10_000)
	first, second := count/20, count/5 // 5 %, and up to 25 %
	c := gather(t, s, count, "--fail-text", "breaks", "--fail-fraction", "0.15", "--fail-after", fmt.Sprint(first), "--allow-no-faults")
	c.roll("before", 0, sound)
	for _, run := range []struct {
		name    string
		flags   []string
		crosses int // the failure that does
	}{
		{"wave", append([]string{"--steps", "5%/2s,25%/2s,100%", "--gate", "apply-failed=10%,total=off"}, otherwiseUngated...), second/10 + 1},
		{"defaults", nil, (first+second)/20 + 1},
	} {
		t.Run(run.name, func(t *testing.T) {
			c.t = t
			c.publish("broken-"+run.name, fmt.Sprintf(failing, len(run.name)))
			id := c.create("broken-"+run.name, append([]string{"--strategy", "canary"}, run.flags...)...)
			s.Do("rollouts", "start", id)
			c.await("make the rollout pause", 20*time.Minute, func() string { return c.is(id, amporav1.RolloutState_ROLLOUT_STATE_PAUSED) })
			c.stopped(id, run.crosses, first+second)
			c.rollBack(id)
			if n := c.running("before"); n != count {
				t.Errorf("after the rollback %d of %d agents run what they had", n, count)
			}
		})
	}
	c.t = t
	c.finish()
}

// TestARolloutOutlivesProcesses: a gateway and a process of the control plane are killed while 10 000 agents get a
// configuration in four waves. All get it, each once.
func TestARolloutOutlivesProcesses(t *testing.T) {
	s := rig.NewServer(t, rig.SplitRedis)
	count := agents(t, 10_000)
	c := gather(t, s, count, "--fault", "drop=2/s")
	c.roll("before", 0, sound)
	c.publish("after", fmt.Sprintf(sound, 1))
	id := c.create("after", append(ungated, "--strategy", "percentage")...)
	s.Do("rollouts", "start", id)
	for i, kill := range []func(){s.Gateways()[0].Kill, s.Controls()[0].Kill} {
		share := count * (2*i + 1) / 5
		c.await("apply it", 10*time.Minute, func() string { return few(c.applied(id), share) })
		kill()
		t.Logf("killed one when %d had applied it", c.applied(id))
	}
	s.Controls()[0].Start()
	s.Gateways()[0].Start()
	c.await("complete the rollout", 15*time.Minute, func() string { return c.is(id, amporav1.RolloutState_ROLLOUT_STATE_COMPLETED) })
	if n := c.applied(id); n != count {
		t.Errorf("%d of %d have applied it", n, count)
	}
	if n := s.Database.Count(t, "SELECT count(*) FROM (SELECT FROM events WHERE kind = 'agent.config_granted' AND attributes->>'config' = 'after' GROUP BY agent_id HAVING count(*) > 1) AS twice"); n > 0 {
		t.Errorf("%d agents were granted it more than once", n)
	}
	c.tail(id)
	c.finish()
}

// create makes a rollout of a configuration's newest version to the crowd.
func (c *crowd) create(config string, flags ...string) (id string) {
	c.t.Helper()
	made := new(amporav1.Rollout)
	c.s.Get(made, append([]string{"rollouts", "create", config, "--group", "crowd"}, flags...)...)
	return made.GetId()
}

// roll brings a configuration to all, without gates.
func (c *crowd) roll(name string, n int, body string) {
	c.t.Helper()
	c.publish(name, fmt.Sprintf(body, n))
	id := c.create(name, append(ungated, "--strategy", "immediate")...)
	c.s.Do("rollouts", "start", id)
	c.await("complete the rollout", 10*time.Minute, func() string { return c.is(id, amporav1.RolloutState_ROLLOUT_STATE_COMPLETED) })
	c.tail(id)
}

func (c *crowd) rollout(id string) *amporav1.Rollout {
	r := new(amporav1.GetRolloutResponse)
	c.s.Try(r, "rollouts", "get", id)
	return r.GetRollout()
}

func (c *crowd) is(id string, want amporav1.RolloutState) string {
	if r := c.rollout(id); r.GetState() != want {
		return fmt.Sprintf("it is %s: %s", r.GetState(), r.GetReason())
	}
	return ""
}

// number is a number of the database about a rollout.
func (c *crowd) number(id, query string) int {
	c.t.Helper()
	return c.s.Database.Count(c.t, fmt.Sprintf(query, "'"+id+"'"))
}

func (c *crowd) applied(id string) int {
	return c.number(id, "SELECT count(*) FROM rollout_members WHERE rollout_id = %s AND state = 'applied'")
}

// running is how many agents have the configuration and nothing else under way.
func (c *crowd) running(config string) int {
	return c.s.Database.Count(c.t, "SELECT count(*) FROM grants g JOIN configs c ON c.id = g.config_id WHERE g.state = 'met' AND c.name = '"+config+"'")
}

// stopped checks what a pause by a gate promises: crosses is the failure that crosses it, most how many may be touched.
func (c *crowd) stopped(id string, crosses, most int) {
	c.t.Helper()
	t := c.t
	r := c.rollout(id)
	t.Logf("paused: %s", r.GetReason())
	const paused = `(SELECT min(at) FROM events WHERE kind = 'rollout.paused' AND attributes->>'rollout' = %[1]s)`
	crossed := fmt.Sprintf(`(SELECT e.at FROM events e JOIN rollout_members m ON m.agent_id = e.agent_id AND m.rollout_id = %%[1]s
		WHERE e.kind = 'agent.config_status_changed' AND e.message LIKE '%%%%failed%%%%' AND e.at > m.admitted_at ORDER BY e.at OFFSET %d LIMIT 1)`, crosses-1)
	took := c.number(id, "SELECT (extract(epoch FROM "+paused+" - "+crossed+") * 1000)::int")
	t.Logf("paused %d ms after the gateway heard the report that crosses the gate", took)
	if took > 1000 || took < 0 {
		t.Errorf("it was paused %d ms after that report, want within a second", took)
	}
	time.Sleep(5 * time.Second)
	const after = "SELECT count(*) FROM grants WHERE rollout_id = %[1]s AND "
	if n := c.number(id, after+"opened_at > "+paused); n > 0 {
		t.Errorf("%d grants were opened afterwards", n)
	}
	if n := c.number(id, after+"state = 'open' AND sent_at IS NULL"); n > 0 {
		t.Errorf("%d grants are open that were not sent", n)
	}
	touched := c.number(id, "SELECT count(*) FROM rollout_members WHERE rollout_id = %s AND state NOT IN ('pending', 'skipped')")
	t.Logf("%d agents were touched", touched)
	if touched > most {
		t.Errorf("%d agents were touched, more than the waves that were open have", touched)
	}
	c.tail(id)
}

// rollBack rolls back and waits for the end of it.
func (c *crowd) rollBack(id string) {
	c.t.Helper()
	c.s.Do(append([]string{"rollouts", "rollback", id}, ungated...)...)
	c.await("roll back", 10*time.Minute, func() string { return c.is(id, amporav1.RolloutState_ROLLOUT_STATE_ROLLED_BACK) })
}

// tail tells how long agents took from the push to their word that they applied it, and who is not done.
func (c *crowd) tail(id string) {
	c.t.Helper()
	for _, share := range []string{"0.5", "0.99", "1"} {
		ms := c.number(id, "SELECT coalesce(percentile_disc("+share+") WITHIN GROUP (ORDER BY extract(epoch FROM settled_at - pushed_at) * 1000), 0)::int FROM rollout_members WHERE rollout_id = %s AND state = 'applied'")
		c.t.Logf("push to applied: p%s %d ms", share, ms)
	}
	stragglers := new(amporav1.ListRolloutMembersResponse)
	c.s.Get(stragglers, "rollouts", "members", id, "--stragglers")
	for _, m := range stragglers.GetMembers() {
		text, _ := json.Marshal(m) // for people
		c.t.Logf("straggler: %s", text)
	}
}

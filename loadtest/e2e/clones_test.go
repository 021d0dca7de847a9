// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/agent"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// war is for how long two machines are left to it, and mostSessions how many sessions they may have in that time, and
// mostRefusals how often they may be turned away.
const (
	war          = time.Minute
	mostSessions = 6
	mostRefusals = 30
)

// TestRealClones: two stock supervisors with the files of one identity, as of a disk that was copied, come back by
// themselves whenever they are thrown out. That becomes no war: they are made to wait, are quarantined and alarmed about,
// and when one is gone an Admin lets the other one in again.
func TestRealClones(t *testing.T) {
	each(t, []rig.Flavour{rig.Development, rig.SplitRedis}, func(t *testing.T, s *rig.Server) {
		identity, id := s.Enrol("image")
		_, bystander := run(t, s, "bystander", agent.Apply)
		before := s.AwaitOnline(bystander)
		machine := func(name string) *rig.Real {
			return s.Supervisor(name, rig.Example(t, "supervisor-enrolled.yaml"), map[string]string{"AMPORA_IDENTITY": identity})
		}
		original := machine("original").Start()
		s.AwaitOnline(id)
		refused := s.Metric("ampora_gateway_rejections_total")
		began := time.Now()
		clone := machine("clone").Start()

		caught := s.AwaitAgentTo(id, "be quarantined", func(a *amporav1.Agent) string { return attention(a, "QUARANTINED") })
		t.Logf("quarantined %s after the clone was started", time.Since(began).Round(time.Second))
		time.Sleep(time.Until(began.Add(war)))
		sessions, rejections := s.Agent(id).GetSession().GetEpoch(), s.Metric("ampora_gateway_rejections_total")-refused
		t.Logf("within %s they had %d sessions and were turned away %v times", war, sessions, rejections)
		if sessions > mostSessions || rejections > mostRefusals {
			t.Errorf("that is a war; at most %d and %d", mostSessions, mostRefusals)
		}
		if now := s.Agent(id).GetSession().GetEpoch(); now != caught.GetSession().GetEpoch() {
			t.Errorf("it had %d more sessions in quarantine", now-caught.GetSession().GetEpoch())
		}
		alarms, takeovers := 0, 0
		for _, e := range s.Events(id) {
			if e.GetKind() == "agent.quarantined" {
				alarms++
			}
			if e.GetAttributes()["took_over"] == "clone" {
				takeovers++
			}
		}
		if alarms != 1 || takeovers != 2 { // the third one is not let in any more
			t.Errorf("%d takeovers by clones and %d alarms are among the events", takeovers, alarms)
		}

		clone.Stop()
		s.Do("agents", "release-quarantine", id)
		rig.AwaitFor(t, 3*rig.Patience, "the one that is left to be let in", func() string {
			a := s.Agent(id)
			return unless(a.GetPresence() == amporav1.Presence_PRESENCE_ONLINE && len(a.GetAttention()) == 0, a.String())
		})
		t.Logf("it is in again %s after the clone was started", time.Since(began).Round(time.Second))
		original.Stop()
		if after := s.AwaitOnline(bystander); after.GetSession().GetEpoch() != before.GetSession().GetEpoch() {
			t.Errorf("the other agent was disturbed: %v", after.GetSession())
		}
	})
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"
	"time"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// delivered puts an agent's delivery of edge@2 into a state.
func delivered(agent *amporav1.Agent, state amporav1.DeliveryState, message string) {
	agent.ConfigDelivery = &amporav1.ConfigDelivery{
		State: state, ConfigId: configEdge, ConfigName: "edge", Version: 2, AssignedThrough: "group", Message: message,
	}
}

func TestAssignWaitsForTheAgents(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		one, two := w.state.agents[0], w.state.agents[1]
		own := &amporav1.Agent{ // its own assignment wins, so this one does not decide for it
			Id: agentEvil, GroupId: groupEdge, ConfigDelivery: &amporav1.ConfigDelivery{AssignedThrough: "agent"},
		}
		w.state.agents = []*amporav1.Agent{one, two, own}
		begun := time.Now()
		w.state.onList = func(int) {
			switch at := time.Since(begun); { // at first both still tell of edge@1, which agent one has applied
			case at >= 3*time.Minute:
				delivered(one, amporav1.DeliveryState_DELIVERY_STATE_APPLIED, "")
				delivered(two, amporav1.DeliveryState_DELIVERY_STATE_FAILED, "cannot \x1b[1mstart: port in use")
			case at >= time.Minute:
				delivered(one, amporav1.DeliveryState_DELIVERY_STATE_APPLYING, "")
			}
		}
		got := w.run("configs", "assign", "edge@2", "--group", "edge", "--wait")
		check(t, "configs-assign-wait", got.golden())
	})
}

func TestAssignWaitsForOneAgent(t *testing.T) {
	for state, exit := range map[amporav1.DeliveryState]ExitCode{
		amporav1.DeliveryState_DELIVERY_STATE_APPLIED:     ExitOK,
		amporav1.DeliveryState_DELIVERY_STATE_SKIPPED:     ExitOK,
		amporav1.DeliveryState_DELIVERY_STATE_FAILED:      ExitAgents,
		amporav1.DeliveryState_DELIVERY_STATE_ROLLED_BACK: ExitAgents,
	} {
		inWorld(t, func(t *testing.T, w *world) {
			delivered(w.state.agents[0], state, "its words")
			got := w.run("configs", "assign", "edge@2", "--agent", agentOne, "--wait", "-o", "json")
			if got.code != int(exit) || !strings.Contains(got.out, state.String()) || !strings.Contains(got.out, "its words") {
				t.Errorf("%v: exit %d, want %d:\n%s%s", state, got.code, exit, got.out, got.errOut)
			}
		})
	}
}

func TestAssignStopsWaiting(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		begun := time.Now()
		got := w.run("configs", "assign", "edge@2", "--group", "edge", "--wait", "--timeout", "5m")
		if got.code != int(ExitUnavailable) || time.Since(begun) != 5*time.Minute ||
			!strings.Contains(got.errOut, "2 of 2 agents not done") {
			t.Errorf("exit %d after %v: %s", got.code, time.Since(begun), got.errOut)
		}
	})
}

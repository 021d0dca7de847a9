// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"

	"gitlab.com/ampora/ampora/loadtest/rig"
)

// TestDrift: a stock supervisor that runs what it was assigned is in sync, whatever collector and supervisor add; one whose
// own files are laid over that drifts, and it is said in what.
func TestDrift(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		example, err := os.ReadFile(rig.Example(t, "supervisor-enrolled.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		local := file(t, s, "local.yaml", "processors:\n  attributes:\n    actions: [{key: mark, value: of-its-own, action: upsert}]\n")
		over := file(t, s, "over.yaml", strings.Replace(string(example), "agent:\n", "agent:\n  config_files: [$OWN_TELEMETRY_CONFIG, $OPAMP_EXTENSION_CONFIG, $REMOTE_CONFIG, "+local+"]\n", 1))

		honest := supervised(s, "honest", rig.Example(t, "supervisor-enrolled.yaml"))
		drifting := supervised(s, "drifting", over)
		one, other := newPipeline(t, "one"), newPipeline(t, "other")
		publish(t, s, "one", one.yaml())
		publish(t, s, "other", other.yaml())
		assign(t, s, honest, "one", amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
		assign(t, s, drifting, "other", amporav1.DeliveryState_DELIVERY_STATE_APPLIED)

		awaitDrift(t, s, honest, amporav1.DriftState_DRIFT_STATE_IN_SYNC)
		awaitDrift(t, s, drifting, amporav1.DriftState_DRIFT_STATE_DRIFTED)
		if got := s.Do("agents", "drift", drifting); !strings.Contains(got, "of-its-own") || !strings.Contains(got, "attributes") {
			t.Errorf("the difference is said to be\n%s", got)
		}
		if got := s.Do("agents", "drift", "-o", "json"); !strings.Contains(got, "DRIFT_STATE_DRIFTED") {
			t.Errorf("counted are\n%s", got)
		}
		if got := s.Do("configs", "diff", "one", "other"); !strings.Contains(got, `value changes from "one" to "other"`) {
			t.Errorf("the versions differ in\n%s", got)
		}

		if got := s.Do("configs", "check", "other", "--agent", drifting); !strings.Contains(got, "valid on 1 agents") {
			t.Errorf("the check says\n%s", got)
		}
	})
}

// supervised enrols an agent under a stock supervisor and returns its id once it is there.
func supervised(s *rig.Server, name, config string) string {
	identity, id := s.Enrol(name)
	s.Supervisor(name, config, map[string]string{"AMPORA_IDENTITY": identity}).Start()
	s.AwaitOnline(id)
	return id
}

func awaitDrift(t *testing.T, s *rig.Server, id string, want amporav1.DriftState) {
	t.Helper()
	rig.Await(t, "agent "+id+" to be "+want.String(), func() string {
		var got amporav1.GetDriftResponse
		s.Get(&got, "agents", "drift", id)
		return unless(got.GetDrift().GetState() == want, "it is "+got.GetDrift().String())
	})
}

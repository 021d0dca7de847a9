// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// examples says how each file of docs/examples is tried: those that an agent starts
// with, in the test that is named, those to publish, here.
var examples = map[string]string{
	"supervisor-bootstrap.yaml": "TestSupervisor",
	"supervisor-enrolled.yaml":  "TestSupervisorWithFiles",
	"collector-ws.yaml":         "TestExtension",
	"collector-http.yaml":       "TestExtension",
	"pool-cloud-init.yaml":      "TestPoolCloudInit",
	"pool-kubernetes.yaml":      "TestPoolKubernetes",
	"edge.yaml":                 "applied",
	"edge-broken.yaml":          "failed",
}

// TestDocsExamples: what users copy works, and what shall fail fails.
func TestDocsExamples(t *testing.T) {
	files, err := os.ReadDir(filepath.Join(rig.Root(t), "docs", "examples"))
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, file := range files {
		there = append(there, file.Name())
	}
	if known := slices.Sorted(maps.Keys(examples)); !slices.Equal(known, there) {
		t.Errorf("docs/examples has %v, the tests know %v", there, known)
	}
	flavours(t, func(t *testing.T, s *rig.Server) {
		identity, id := s.Enrol("supervisor")
		s.Supervisor("supervisor", rig.Example(t, "supervisor-enrolled.yaml"), map[string]string{"AMPORA_IDENTITY": identity}).Start()
		s.AwaitOnline(id)
		for _, name := range []string{"edge.yaml", "edge-broken.yaml"} {
			want := map[string]amporav1.DeliveryState{
				"applied": amporav1.DeliveryState_DELIVERY_STATE_APPLIED,
				"failed":  amporav1.DeliveryState_DELIVERY_STATE_FAILED,
			}[examples[name]]
			body, err := os.ReadFile(rig.Example(t, name))
			if err != nil {
				t.Fatal(err)
			}
			publish(t, s, name, string(body))
			assign(t, s, id, name, want)
		}
	})
}

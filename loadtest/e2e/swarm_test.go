// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/rig"
	"gitlab.com/ampora/ampora/loadtest/verify"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestSwarm: after everything that goes wrong among agents and their connections, what
// each agent knows of itself and what the API shows is the same; and the same again when
// they are gone, seen from another process.
func TestSwarm(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		state, report := filepath.Join(s.Dir, "swarm.state"), filepath.Join(s.Dir, "swarm.json")
		got := s.Tool("swarm", "run", "--server", s.OpAMP, "--ca-file", s.CAFile,
			"--count", "24", "--enrol", "csr", "--group", "swarm", "--transport", "mixed", "--heartbeat", "2s", "--duration", "12s",
			"--flips", "3", "--relabels", "3", "--fault", "drop=2/s", "--fault", "restart=1/s", "--fault", "burst=20/m", "--fault", "new-uid=20/m",
			"--fault", "half-open=2@1s", "--fault", "duplicate=2@1s", "--fault", "storm=20@6s", "--fault", "slow=1@2s",
			// Who is told to come back later may be told a minute.
			"--verify", "--settle", "2m", "--state", state, "--report", report)
		if got.Code != 0 {
			t.Fatalf("swarm run: exit code %d\n%s%s", got.Code, got.Stdout, got.Stderr)
		}
		what := struct {
			Faults       map[string]int64
			Verification verify.Result
		}{}
		text, err := os.ReadFile(report)
		if err != nil || json.Unmarshal(text, &what) != nil {
			t.Fatalf("the report: %v\n%s", err, text)
		}
		if what.Verification.Agents != 24 || what.Verification.Bytes == 0 || len(what.Faults) != 8 {
			t.Errorf("it verified %+v after %v", what.Verification, what.Faults)
		}
		if got := s.Tool("swarm", "verify", "--state", state); got.Code != 0 || !strings.Contains(got.Stdout, "24 agents, 0 differences") {
			t.Errorf("swarm verify: exit code %d\n%s%s", got.Code, got.Stdout, got.Stderr)
		}
		notices(t, s, state)
	})
}

// notices: a difference behind everybody's back is found.
func notices(t *testing.T, s *rig.Server, state string) {
	t.Helper()
	list := new(amporav1.ListAgentsResponse)
	s.Get(list, "agents", "list")
	id := list.GetAgents()[0].GetId()
	s.Database.Exec(t, "UPDATE agent_parts SET value = '{\"healthy\":false}' WHERE kind = 'health' AND agent_id = '"+id+"'")
	got := s.Tool("swarm", "verify", "--state", state, "--settle", "2s")
	if got.Code != 1 || !strings.Contains(got.Stdout, "agent "+id) {
		t.Errorf("swarm verify: exit code %d\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
}

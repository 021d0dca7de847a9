// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build scale

package scale

import (
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/bench"
	"gitlab.com/ampora/ampora/loadtest/rig"
)

// TestHeartbeatsCostNoRows: agents that have nothing to say beat every 30 s for five minutes, and next to nothing is
// written. What each process uses for them is told. The agents come without the load balancer, which has not enough file
// descriptors for so many everywhere.
func TestHeartbeatsCostNoRows(t *testing.T) {
	s := rig.NewServer(t, rig.SplitRedis)
	var direct []string
	for _, gateway := range s.Gateways() {
		direct = append(direct, gateway.Env["AMPORA_OPAMP_ADDR"])
	}
	c := gather(t, s, agents(t, 10_000), "--server", strings.Join(direct, ","), "--heartbeat", "30s", "--allow-no-faults")
	time.Sleep(time.Minute) // until the last has been written of how they came
	const written = "SELECT tup_inserted + tup_updated + tup_deleted FROM pg_stat_database WHERE datname = current_database()"
	const length = 5 * time.Minute
	before, began := s.Database.Count(t, written), map[string]float64{}
	for _, part := range s.Parts {
		began[part.Name], _ = used(t, part)
	}
	time.Sleep(length)
	rows := float64(s.Database.Count(t, written)-before) / length.Seconds()
	t.Logf("%d agents: %.1f rows written a second", c.count, rows)
	if rows >= 20 {
		t.Errorf("%.1f rows are written a second, want fewer than 20", rows)
	}
	for _, part := range s.Parts {
		seconds, kib := used(t, part)
		t.Logf("%s: %.1f %% of a core, %.0f MiB", part.Name, (seconds-began[part.Name])/length.Seconds()*100, kib/1024)
	}
	c.finish()
}

// used is what a process has used of CPU until now, in seconds, and has of memory, in KiB.
func used(t *testing.T, part *rig.Part) (seconds, kib float64) {
	t.Helper()
	pids := []int{part.Process().PID()}
	seconds, err := bench.CPU(pids)
	if err == nil {
		kib, err = bench.Resident(pids)
	}
	if err != nil {
		t.Fatal(err)
	}
	return seconds, kib
}

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build scale

package scale

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

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
	before, used := s.Database.Count(t, written), map[string]float64{}
	for _, part := range s.Parts {
		used[part.Name] = cpu(t, part.Process().PID())
	}
	time.Sleep(length)
	rows := float64(s.Database.Count(t, written)-before) / length.Seconds()
	t.Logf("%d agents: %.1f rows written a second", c.count, rows)
	if rows >= 20 {
		t.Errorf("%.1f rows are written a second, want fewer than 20", rows)
	}
	for _, part := range s.Parts {
		pid := part.Process().PID()
		t.Logf("%s: %.1f %% of a core, %d MiB", part.Name, (cpu(t, pid)-used[part.Name])/length.Seconds()*100, resident(t, pid)>>20)
	}
	c.finish()
}

// cpu is what a process has used until now, in seconds (proc(5): utime and stime, in hundredths).
func cpu(t *testing.T, pid int) float64 {
	t.Helper()
	text := proc(t, pid, "stat")
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // the name may hold anything
	user, _ := strconv.Atoi(fields[11])                                 // the kernel's own numbers
	system, _ := strconv.Atoi(fields[12])
	return float64(user+system) / 100
}

// resident is the memory of a process in bytes.
func resident(t *testing.T, pid int) int {
	t.Helper()
	pages, _ := strconv.Atoi(strings.Fields(proc(t, pid, "statm"))[1]) // likewise
	return pages * os.Getpagesize()
}

func proc(t *testing.T, pid int, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
